"""Weights from a file that came from anywhere: read without running anything in it."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.utils import consume_prefix_in_state_dict_if_present

# What DataParallel, torch.compile and Lightning put before every name.
_PREFIXES = ("module.", "_orig_mod.", "model.")
# Where training scripts keep the weights in what they save.
_ENTRIES = ("state_dict", "model")
# So many names show what kind of network the file is of; hundreds would hide it.
_NAMES_SHOWN = 3


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Reads the weights in a file that ``torch.save`` wrote.

    Args:
        path: A file with a state dict, or with one under ``"state_dict"`` or ``"model"``. A prefix
            that all its names share (``"module."``) is dropped.

    Returns:
        The tensors by name, on the CPU.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It holds anything but plain data, or no state dict.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file of weights {path}")
    state_dict = _find_state_dict(_load_plain_data(path))
    if state_dict is None:
        raise ValueError(
            f"{path} holds no state dict: {_how_to_save('the weights of a network', path)}"
        )
    for prefix in _PREFIXES:
        if all(key.startswith(prefix) for key in state_dict):
            consume_prefix_in_state_dict_if_present(state_dict, prefix)
    return state_dict


def count_classes(state_dict: Mapping[str, Tensor]) -> int | None:
    """Returns the number of outputs of the last layer in a state dict; None where there is none."""
    weights = [
        tensor for key, tensor in state_dict.items() if key.endswith(".weight") and tensor.dim() > 1
    ]
    return weights[-1].shape[0] if weights else None


def load_weights(model: nn.Module, state_dict: Mapping[str, Tensor], path: str | Path) -> None:
    """Fills a network with weights, all of them or none.

    Args:
        model: The network; changed.
        state_dict: As from ``read_state_dict``.
        path: Where they came from, for the message.

    Raises:
        ValueError: They are of another network; some of what does not fit is named.
    """
    try:
        # Through the network's own loading, since it knows the names that older files have.
        result = model.load_state_dict(state_dict, strict=False)
    except (RuntimeError, ValueError) as error:
        raise ValueError(_refusal(path, _compare(model, state_dict) or str(error))) from error
    misfits = _describe_misfits(result.missing_keys, result.unexpected_keys, [])
    if misfits:
        raise ValueError(_refusal(path, misfits))


def _refusal(path: str | Path, misfits: str) -> str:
    return f"{path} does not fit the network ({misfits}): name the model that it was saved from"


def _compare(model: nn.Module, state_dict: Mapping[str, Tensor]) -> str:
    wanted = model.state_dict()
    mismatched = [
        f"{key} {tuple(state_dict[key].shape)} instead of {tuple(wanted[key].shape)}"
        for key in wanted.keys() & state_dict.keys()
        if state_dict[key].shape != wanted[key].shape
    ]
    missing, unexpected = wanted.keys() - state_dict.keys(), state_dict.keys() - wanted.keys()
    return _describe_misfits(missing, unexpected, mismatched)


def _describe_misfits(
    missing: Iterable[str], unexpected: Iterable[str], mismatched: Iterable[str]
) -> str:
    # Old files lack a counter of batch norms, which evaluation never reads.
    missing = [key for key in missing if not key.endswith("num_batches_tracked")]
    found = (
        _some("missing", missing),
        _some("unexpected", unexpected),
        _some("of another shape", mismatched),
    )
    return "; ".join(filter(None, found))


def _load_plain_data(path: Path) -> Any:
    """Reads a file of tensors and plain containers; raises ValueError for any other."""
    try:
        with warnings.catch_warnings():
            # About the kind of file; what matters of it is in the error below.
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    # On what is no checkpoint at all torch.load fails in many ways, KeyError included.
    except Exception as error:
        raise ValueError(
            f"{path} was not loaded: it is damaged, or holds more than weights, and then loading it"
            f" could run code from it. {_how_to_save('If you trust its origin', path)}"
        ) from error


def _how_to_save(what: str, path: Path) -> str:
    return f"{what}: save it with torch.save(model.state_dict(), {f'{path.stem}-weights.pt'!r})"


def _find_state_dict(loaded: Any) -> OrderedDict[str, Tensor] | None:
    """Returns the state dict in what was loaded, at the top or one level down."""
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
            # Kept, where it is there: an OrderedDict carries the version of each module's weights.
            return candidate if isinstance(candidate, OrderedDict) else OrderedDict(candidate)
    return None


def _some(what: str, names: Iterable[str]) -> str:
    ordered = sorted(names)
    if not ordered:
        return ""
    shown = ", ".join(ordered[:_NAMES_SHOWN])
    rest = len(ordered) - _NAMES_SHOWN
    return f"{what}: {shown}" + (f" and {rest} more" if rest > 0 else "")
