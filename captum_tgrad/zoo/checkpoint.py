"""Reads weights from untrusted files: checks their size and runs no code."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.utils import consume_prefix_in_state_dict_if_present

from captum_tgrad._support.optional import import_from_extra
from captum_tgrad._support.out_of_memory import is_out_of_memory
from captum_tgrad.zoo.checkpoint_size import CheckpointError, check_file, check_tensors

# What DataParallel, torch.compile and Lightning put before every name.
_PREFIXES = ("module.", "_orig_mod.", "model.")
# Where training scripts keep the weights in what they save.
_ENTRIES = ("state_dict", "model_state_dict", "model")


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
        check_tensors(state_dict, path.stat().st_size)
    except OSError:
        raise
    except CheckpointError as error:
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


def count_classes(state_dict: Mapping[str, Tensor]) -> int | None:
    """The number of outputs of the last layer in a state dict; None if there is none."""
    weights = [
        tensor for key, tensor in state_dict.items() if key.endswith(".weight") and tensor.dim() > 1
    ]
    return weights[-1].shape[0] if weights else None


def _load_plain_data(path: Path) -> Any:
    with warnings.catch_warnings():
        # About the kind of the file and of its storages.
        warnings.simplefilter("ignore")
        check_file(path)
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
    raise CheckpointError("it holds no state dict")
