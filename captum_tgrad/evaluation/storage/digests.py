"""Short digests of a model, its preprocessing and images, to notice that one has changed."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

# A function in the printed options of a module has an address, which differs between processes.
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
# The side of the grid of means in the digest of an image.
_GRID = 4


def fingerprint(model: nn.Module) -> str:
    """A short digest of the parameters and buffers of a model, also of non-persistent buffers."""
    digest = hashlib.sha256()
    for name, tensor in {**model.state_dict(), **dict(model.named_buffers())}.items():
        digest.update(name.encode("utf-8", "surrogatepass"))
        if isinstance(tensor, Tensor):  # not the extra state of a module
            content = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
            digest.update(content.numpy().tobytes())
    return digest.hexdigest()[:16]


def architecture(model: nn.Module) -> str:
    """A short digest of the modules of a model: their names, classes and printed options.

    Example:
        >>> architecture(nn.Sequential(nn.ReLU())) == architecture(nn.Sequential(nn.GELU()))
        False
    """
    lines = [
        f"{name} {type(module).__qualname__} {_ADDRESS.sub('', module.extra_repr())}"
        for name, module in model.named_modules()
    ]
    return bytes_digest("\n".join(lines).encode("utf-8", "surrogatepass"))


def preprocessing(preprocess: Callable[[Image.Image], Tensor]) -> str:
    """A short digest of a preprocessed test image; "unknown" if the preprocessing rejects it."""
    down = Image.linear_gradient("L")
    channels = (down, down.rotate(90), Image.radial_gradient("L"))
    pattern = Image.merge("RGB", channels).resize((320, 240))
    try:
        return image_digest(preprocess(pattern))
    except Exception:  # a user's function, which may expect images of another size
        return "unknown"


def image_digest(image: Tensor) -> str:
    """A short digest of an image that does not depend on rounding.

    It hashes means over a coarse grid, rounded to a hundredth of the largest. Of many pixels, some
    would always be so close to a rounding border that their last bit decides.

    Example:
        >>> image = torch.linspace(-2, 2, 192).reshape(3, 8, 8)
        >>> image_digest(image) == image_digest(image + 1e-6) != image_digest(image.flip(2))
        True
    """
    values = image.detach().cpu().double()
    values = values.reshape(*[1] * (3 - values.dim()), *values.shape)
    means = F.adaptive_avg_pool2d(values, _GRID)
    largest = float(means.abs().max())
    hundredths = (100 * means / (largest or 1)).round().int().flatten().tolist()
    text = f"{tuple(image.shape)} {largest:.2e} {hundredths}"
    return bytes_digest(text.encode())


def bytes_digest(content: bytes) -> str:
    """A short digest of bytes."""
    return hashlib.sha256(content).hexdigest()[:16]
