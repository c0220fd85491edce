"""Builds networks with weights from a file, after a check that the weights fit."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from captum_tgrad._support.random_state import RandomState
from captum_tgrad._support.suggest import few
from captum_tgrad.zoo.preprocessing import Preprocessing

# A few names show which network the file belongs to; hundreds would hide it.
_NAMES_SHOWN = 3


class Recipe(NamedTuple):
    """A network that is not built yet, with its weights and preprocessing.

    Attributes:
        build: From the number of classes to the network.
        state_dict: The weights.
        source: The file or address of the weights, for messages.
        preprocessing: The preprocessing, with the center crop.
    """

    build: Callable[[int], nn.Module]
    state_dict: Mapping[str, Tensor]
    source: str | Path
    preprocessing: Preprocessing


def count_classes(state_dict: Mapping[str, Tensor]) -> int | None:
    """The number of outputs of the last layer in a state dict; None if there is none."""
    weights = [
        tensor for key, tensor in state_dict.items() if key.endswith(".weight") and tensor.dim() > 1
    ]
    return weights[-1].shape[0] if weights else None


def load_weights(model: nn.Module, state_dict: Mapping[str, Tensor], path: str | Path) -> None:
    """Loads weights into a network.

    Raises:
        ValueError: They belong to another network; the message names the file and some mismatches.
    """
    failure, mismatched = None, list[str]()
    try:
        # Through the network's own loading, since it knows the names that older files have.
        missing, unexpected = model.load_state_dict(state_dict, strict=False)
    except (RuntimeError, ValueError) as error:
        failure, wanted = error, model.state_dict()
        missing = [key for key in wanted if key not in state_dict]
        unexpected = [key for key in state_dict if key not in wanted]
        mismatched = [
            f"{key} {tuple(value.shape)} instead of {tuple(wanted[key].shape)}"
            for key, value in state_dict.items()
            if key in wanted and value.shape != wanted[key].shape
        ]
    # Old files lack a counter of batch norms, which evaluation never reads.
    missing = [key for key in missing if not key.endswith("num_batches_tracked")]
    found = {"missing": missing, "unexpected": unexpected, "of another shape": mismatched}
    misfits = "; ".join(
        f"{what}: {few(sorted(names), _NAMES_SHOWN)}" for what, names in found.items() if names
    )
    if misfits or failure:
        raise ValueError(
            f"{path} does not fit the network ({misfits or failure}): use the model that it was"
            " saved from"
        ) from failure


def build_with(
    build: Callable[[], nn.Module], state_dict: Mapping[str, Tensor], path: str | Path
) -> nn.Module:
    """Builds a network with weights from a file.

    Raises as ``load_weights``, before memory is allocated.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "for .*: copying from a non-meta parameter")
        load_weights(sketch(build), state_dict, path)
    # Random weights, which the file replaces, are no reason to advance the user's generators.
    with RandomState(torch.get_default_device()):
        model = build()
    load_weights(model, state_dict, path)
    return model


class _EmptyOnMeta(TorchFunctionMode):
    """Allocates the weights of layers on the meta device.

    ``torch.device("meta")`` would also affect tensors that networks compute with during
    construction.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        options = dict(kwargs or {})
        if func is torch.empty and options.get("device") is None:
            options["device"] = "meta"
        return func(*args, **options)


def sketch(build: Callable[[], nn.Module]) -> nn.Module:
    """The result of ``build`` with weights on the meta device."""
    with _EmptyOnMeta():
        return build()
