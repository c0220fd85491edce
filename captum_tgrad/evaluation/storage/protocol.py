"""The settings of an evaluation, kept with its records, so that they are not mixed with others."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum_tgrad import __version__
from captum_tgrad.evaluation.storage.records import OutputError, as_json, write_whole

if TYPE_CHECKING:
    from PIL.Image import Image

Protocol = dict[str, Any]

PROTOCOL_FILE = "protocol.json"
_METHODS = "methods"
# Entries that protocols of earlier versions lack.
_FURTHER = ("architecture", "preprocessing")
# A function in the printed options of a module has an address, which differs between processes.
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
# The side of the grid of means in the digest of an image.
_GRID = 4


def versions() -> dict[str, str]:
    """The versions of the packages that compute the numbers."""
    found = {"captum_tgrad": __version__, "torch": str(torch.__version__)}
    for package in ("captum", "grad-cam"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


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


def preprocessing(preprocess: Callable[[Image], Tensor]) -> str:
    """A short digest of what a preprocessing makes of a test image; "unknown" if it rejects it."""
    from PIL import Image

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


def read_protocol(folder: Path) -> Protocol | None:
    """The protocol of the records in a folder, or None; raises OutputError if it is damaged."""
    path = folder / PROTOCOL_FILE
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise OutputError(f"{path} is damaged ({error}): use another folder") from error
    if not isinstance(found, dict):
        raise OutputError(f"{path} is not a protocol: use another folder")
    return found


def write_protocol(folder: Path, protocol: Protocol) -> None:
    """Writes the protocol into the folder."""
    write_whole(folder / PROTOCOL_FILE, as_json(protocol))


def joined(old: Protocol, new: Protocol) -> Protocol:
    """The protocol of a run that resumes another one, perhaps with more methods.

    Raises:
        OutputError: They differ in anything else; every difference is named.
    """
    changes = list(_changes(old, json.loads(json.dumps(new)), ""))
    if changes:
        raise OutputError(
            f"existing records used other settings: {'; '.join(changes)}. The numbers would not be"
            " comparable: use the same settings, or use another folder"
        )
    return {**new, _METHODS: {**old[_METHODS], **new[_METHODS]}}


def _changes(old: Mapping[str, Any], new: Mapping[str, Any], within: str) -> Iterator[str]:
    for key in dict.fromkeys([*old, *new]):
        name = f"{within}{key}"
        if name in _FURTHER and key not in old:
            continue
        if key not in old or key not in new:
            if within != f"{_METHODS}.":
                yield f"{name} was {old.get(key)!r}, is {new.get(key)!r}"
        elif isinstance(old[key], dict) and isinstance(new[key], dict):
            yield from _changes(old[key], new[key], f"{name}.")
        elif old[key] != new[key]:
            yield f"{name} was {old[key]!r}, is {new[key]!r}"
