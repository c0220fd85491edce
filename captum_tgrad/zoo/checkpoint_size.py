"""Checks how much memory a checkpoint needs before any is allocated.

A file of a few bytes can claim tensors of any size. ``torch.load`` would allocate them, or later
code, if they are sparse or expanded.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

# Files of torch.save before version 1.6 start with four pickles: a magic number, their version, the
# sizes of integers, and the object.
_PICKLES = 4
_REBUILD = ("_rebuild_tensor", "_rebuild_tensor_v2")


class CheckpointError(Exception):
    """Why a checkpoint is refused: it claims more than it holds, or holds no weights."""


def check_file(path: Path) -> None:
    """Checks that a file of ``torch.save`` holds the data that it claims.

    Nothing in the file is run: it is unpickled with stand-ins for all objects.

    Raises:
        CheckpointError: It claims more bytes than it has, or is compressed.
        Exception: It is not such a file; the error of the unpickler.
    """
    size, claimed = path.stat().st_size, _claimed(path)
    if claimed > size:
        raise CheckpointError(f"it claims tensors of {claimed} bytes, but has {size}")


def check_tensors(tensors: Mapping[str, Tensor], size: int) -> None:
    """Checks that tensors can be weights, and are not larger than the file, of ``size`` bytes.

    Raises:
        CheckpointError: One is sparse, quantized, complex, or expanded beyond the size of the file.
    """
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
            raise CheckpointError(f"{name} {reason}")


def _claimed(path: Path) -> int:
    """The size in bytes of all storages of the file."""
    if not zipfile.is_zipfile(path):
        with path.open("rb") as opened:
            for _ in range(_PICKLES):
                unpickler = _Inert(opened)
                unpickler.load()
        return unpickler.bytes
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            if entry.compress_type != zipfile.ZIP_STORED:
                raise CheckpointError(f"its part {entry.filename!r} is compressed")
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
            raise CheckpointError(f"a tensor of shape {tuple(shape)} is larger than its storage")
    return _Nothing()
