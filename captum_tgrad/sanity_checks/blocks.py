"""The parts that a network is built of, as a person would draw it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import nn

from captum_tgrad.sanity_checks.layers import layers_from_the_output

# Modules that only hold others; a subclass of one is a part by itself.
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def block_names(model: nn.Module, forward: Callable[[], Any]) -> list[str]:
    """The names of the parts of a model, of those that its forward pass uses.

    The parts are its children, and in the place of a list of modules, those in it. To randomize
    them one by one takes a tenth of the steps that all modules take.

    Args:
        model: The model.
        forward: Runs it once.

    Returns:
        Names, for ``layers`` of ``cascading_randomization``.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> blocks = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
        >>> model = nn.Sequential(blocks, nn.Linear(4, 2))
        >>> block_names(model, lambda: model(torch.ones(1, 4)))
        ['0.0', '0.2', '1']
    """
    used, _ = layers_from_the_output(model, forward)
    paths = {layer.name for layer in used}
    return [
        name
        for name in _parts(model, "")
        if any(f"{path}.".startswith(f"{name}.") for path in paths)
    ]


def _parts(module: nn.Module, path: str) -> Iterator[str]:
    for name, child in module.named_children():
        if type(child) in _CONTAINERS:
            yield from _parts(child, f"{path}{name}.")
        else:
            yield f"{path}{name}"
