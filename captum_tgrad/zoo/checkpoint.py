"""Reads weights from untrusted files: checks their size and runs no code.

A file of a few bytes can claim tensors of any size. ``torch.load`` would allocate them, or later
code, if they are sparse or expanded.
"""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor
from torch.nn.modules.utils import consume_prefix_in_state_dict_if_present

from captum_tgrad._support.extras import import_from_extra
from captum_tgrad._support.out_of_memory import is_out_of_memory

# Prefixes that DataParallel, torch.compile and Lightning add to every name.
_PREFIXES = ("module.", "_orig_mod.", "model.")
# The keys under which training scripts save the weights.
_ENTRIES = ("state_dict", "model_state_dict", "model")
# Files of torch.save before version 1.6 start with four pickles: a magic number, their version, the
# sizes of integers, and the object.
_PICKLES = 4
_REBUILD = ("_rebuild_tensor", "_rebuild_tensor_v2")


class _CheckpointError(Exception):
    """Why a checkpoint is refused: it claims more than it holds, or holds no weights."""


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Reads the weights in a file that ``torch.save`` or ``safetensors`` wrote.

    Args:
        path: A file with a state dict, or with one under ``"state_dict"``, ``"model_state_dict"``
            or ``"model"``; or a ``.safetensors`` file. A prefix that all names share, such as
            ``"module."``, is dropped.

    Returns:
        The tensors by name, on the CPU.

    Raises:
        FileNotFoundError: The file does not exist.
        ModuleNotFoundError: It is a ``.safetensors`` file, and that package is not installed.
        ValueError: It holds anything except plain data, or no state dict; or its tensors claim more
            data than it holds, or are sparse, quantized or complex.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"weights {path} not found: pass a file written by torch.save")
    how_to_save = f"save the weights with torch.save(model.state_dict(), '{path.stem}-weights.pt')"
    if path.suffix.lower() == ".safetensors":
        load = import_from_extra("safetensors.torch", "safetensors").load_file
        damaged = (
            "it is damaged or not a safetensors file: save it with"
            " safetensors.torch.save_file(model.state_dict(), FILE)"
        )
    else:
        load = _load_plain_data
        damaged = (
            "it is damaged, or holds data other than weights, so loading it could run code. If you"
            f" trust its origin, {how_to_save}"
        )
    try:
        state_dict = _find_state_dict(load(path))
        _check_tensors(state_dict, path.stat().st_size)
    except OSError:
        raise
    except _CheckpointError as error:
        raise ValueError(f"{path} was not loaded: {error}: {how_to_save}") from error
    # On other files, torch.load may raise anything, even KeyError, and so may safetensors.
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise ValueError(f"{path} was not loaded: {damaged}") from error
    for prefix in _PREFIXES:
        if all(key.startswith(prefix) for key in state_dict):
            consume_prefix_in_state_dict_if_present(state_dict, prefix)
    return state_dict


def _load_plain_data(path: Path) -> Any:
    with warnings.catch_warnings():
        # About the kind of the file and of its storages.
        warnings.simplefilter("ignore")
        size, claimed = path.stat().st_size, _claimed(path)
        if claimed > size:
            raise _CheckpointError(f"it claims tensors of {claimed} bytes, but has {size}")
        return torch.load(path, map_location="cpu", weights_only=True)


def _find_state_dict(loaded: Any) -> OrderedDict[str, Tensor]:
    """The state dict in what was loaded, at the top or one level down."""
    candidates = [loaded]
    if isinstance(loaded, Mapping):
        candidates += [loaded[entry] for entry in _ENTRIES if entry in loaded]
    for candidate in candidates:
        if (
            isinstance(candidate, Mapping)
            and candidate
            and all(isinstance(key, str) for key in candidate)
            and all(isinstance(value, Tensor) for value in candidate.values())
        ):
            # An OrderedDict is kept: it carries the version of each module's weights.
            return candidate if isinstance(candidate, OrderedDict) else OrderedDict(candidate)
    raise _CheckpointError("it holds no state dict")


def _check_tensors(tensors: Mapping[str, Tensor], size: int) -> None:
    """Checks that tensors can be weights, and are not larger than the file, of ``size`` bytes."""
    for name, tensor in tensors.items():
        reason = None
        if tensor.layout != torch.strided:
            reason = f"is sparse ({tensor.layout}), of shape {tuple(tensor.shape)}"
        elif tensor.is_quantized:
            reason = "is quantized"
        elif tensor.is_complex():
            reason = f"is complex ({tensor.dtype})"
        elif tensor.numel() * tensor.element_size() > size:
            reason = f"of shape {tuple(tensor.shape)} is larger than the whole file"
        if reason is not None:
            raise _CheckpointError(f"{name} {reason}")


def _claimed(path: Path) -> int:
    """The bytes that a file of ``torch.save`` claims to hold; nothing in it is run."""
    if not zipfile.is_zipfile(path):
        with path.open("rb") as opened:
            for _ in range(_PICKLES):
                unpickler = _Inert(opened)
                unpickler.load()
        return unpickler.bytes
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            if entry.compress_type != zipfile.ZIP_STORED:
                raise _CheckpointError(f"its part {entry.filename!r} is compressed")
            if entry.filename.rpartition("/")[2] == "data.pkl":
                with archive.open(entry) as opened:
                    _Inert(opened).load()
        # The bytes that are read, whatever the file claims about its storages.
        return sum(entry.file_size for entry in archive.infolist())


class _Nothing:
    """A stand-in for any object in the file; it does nothing."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass


class _Inert(pickle.Unpickler):
    """Reads the sizes of the tensors in a pickle without creating them."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file, encoding="utf-8")
        self._storages: dict[Any, int] = {}

    @property
    def bytes(self) -> int:
        """The size of all storages."""
        return sum(self._storages.values())

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch._utils" and name in _REBUILD:
            return _rebuilt
        if module == "torch" and name.endswith("Storage"):
            return 1 if name == "UntypedStorage" else getattr(torch, name).dtype.itemsize
        return _Nothing

    def persistent_load(self, identity: Any) -> int:
        """Returns the number of elements of a storage, in its place."""
        _, itemsize, key, _, elements, *_ = identity
        elements = int(elements)
        self._storages[key] = max(self._storages.get(key, 0), elements * itemsize)
        return elements


def _rebuilt(elements: int, offset: int, shape: Any, stride: Any, *_: Any) -> _Nothing:
    """Replaces torch's function, and checks that the tensor fits into its storage."""
    if all(shape):
        last = offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
        if not 0 <= last < elements:
            raise _CheckpointError(f"a tensor of shape {tuple(shape)} is larger than its storage")
    return _Nothing()
