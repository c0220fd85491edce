"""The blocks of a network: its children, with the items of lists of modules."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import nn

from captum_tgrad.sanity_checks.layers import layers_from_the_output

# Modules that only contain other modules. A subclass of one is a block by itself.
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def block_names(model: nn.Module, forward: Callable[[], Any]) -> list[str]:
    """The names of the blocks that a model's forward pass uses.

    The blocks are the children of the model; a child that is a list of modules is replaced by its
    items. Randomizing block by block takes about a tenth of the steps of randomizing every module.
    They are for ``layers`` of ``cascading_randomization``.

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
        for name in _blocks(model, "")
        if any(f"{path}.".startswith(f"{name}.") for path in paths)
    ]


def _blocks(module: nn.Module, path: str) -> Iterator[str]:
    for name, child in module.named_children():
        if type(child) in _CONTAINERS:
            yield from _blocks(child, f"{path}{name}.")
        else:
            yield f"{path}{name}"
