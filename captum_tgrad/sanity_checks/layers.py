"""The layers and blocks of a network, and their learned tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from captum_tgrad._support.suggest import did_you_mean, few

# Modules that only contain other modules. A subclass of one is a block by itself.
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


class Layer(NamedTuple):
    """The tensors that are randomized in one step.

    Attributes:
        name: The path of the module in the model; the name of the class for the model itself.
        tensors: Parameters and running statistics, each with whether it is a running variance,
            which is positive. The variances come last.
    """

    name: str
    tensors: tuple[tuple[Tensor, bool], ...]


def layers_from_the_output(
    model: nn.Module, forward: Callable[[], Any], names: Sequence[str] | None = None
) -> tuple[list[Layer], Any]:
    """The layers of a model, in the reverse order of their use.

    The last use of a tensor in the forward pass determines its position, also if another module
    uses it (the output projection of an attention) or none. If no use is visible (in a scripted
    module or an autograd.Function), the last call of its module counts. The position of a layer is
    that of the last of its tensors. A tensor of several layers belongs to the one nearest to the
    output. A tensor that the pass does not use belongs to no layer.

    Args:
        model: The model.
        forward: Runs the model; its output is also returned.
        names: Paths of modules; each is one layer, together with its submodules. None: every
            module that has parameters or running statistics of its own.
    """
    names = _checked_names(names, model)
    uses, output = _uses(forward, model)
    used = [
        (uses[id(tensor)], layer, tensor, is_variance)
        for name, module in model.named_modules()
        for tensor, is_variance in _learned(module)
        if id(tensor) in uses and (layer := _layer_name(name, names)) is not None
    ]
    # If tensors have the same last use, the last in the model is nearest to the output.
    from_the_output = sorted(used, key=lambda each: each[0])[::-1]
    taken: set[int] = set()
    layers = []
    for name in dict.fromkeys(layer for _, layer, _, _ in from_the_output):
        own = {
            id(tensor): (tensor, is_variance)
            for _, layer, tensor, is_variance in used
            if layer == name and id(tensor) not in taken
        }
        taken.update(own)
        if own:
            tensors = tuple(sorted(own.values(), key=lambda each: each[1]))
            layers.append(Layer(name or type(model).__name__, tensors))
    _check_layers(layers, names)
    return layers, output


def block_names(model: nn.Module, forward: Callable[[], Any]) -> list[str]:
    """The names of the blocks that a model's forward pass uses.

    The blocks are the children of the model; a child that is a list of modules is replaced by its
    items. The rest, such as a class token, is one block, whose name is empty. Randomizing block by
    block takes about a tenth of the steps of randomizing every module. The names are for ``layers``
    of ``cascading_randomization``.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> blocks = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
        >>> model = nn.Sequential(blocks, nn.Linear(4, 2))
        >>> block_names(model, lambda: model(torch.ones(1, 4)))
        ['0.0', '0.2', '1']
    """
    layers, _ = layers_from_the_output(model, forward)
    names = [*_blocks(model, ""), ""]
    used = {_layer_name(layer.name, names) for layer in layers}
    return [name for name in names if name in used]


def _blocks(module: nn.Module, path: str) -> Iterator[str]:
    for name, child in module.named_children():
        if type(child) in _CONTAINERS:
            yield from _blocks(child, f"{path}{name}.")
        else:
            yield f"{path}{name}"


def _learned(module: nn.Module) -> Iterator[tuple[Tensor, bool]]:
    """A module's own parameters and running statistics, and whether each is a variance."""
    for parameter in module._parameters.values():
        if parameter is not None and parameter.is_floating_point():
            yield parameter, False
    # A scripted batch norm has another class.
    if isinstance(module, (_NormBase, torch.jit.ScriptModule)):
        for name, buffer in module.named_buffers(recurse=False):
            if name in ("running_mean", "running_var"):
                yield buffer, name == "running_var"


def _layer_name(path: str, names: Sequence[str] | None) -> str | None:
    """The innermost named layer that contains a module."""
    if names is None:
        return path
    inside = [name for name in names if f"{path}.".startswith(f"{name}.") or not name]
    return max(inside, default=None)  # each is the beginning of the next


@torch.no_grad()
def _uses(forward: Callable[[], Any], model: nn.Module) -> tuple[dict[int, int], Any]:
    """The last use of each learned tensor in a forward pass, by ``id``, and the pass's output."""
    learned = {module: [id(tensor) for tensor, _ in _learned(module)] for module in model.modules()}
    calls = _Calls()
    entered: dict[int, int] = {}

    def enter(module: nn.Module, inputs: Any) -> None:
        # No hook sees the calls inside a scripted module.
        called = module.modules() if isinstance(module, torch.jit.ScriptModule) else (module,)
        for number in (number for each in called for number in learned.get(each, ())):
            entered[number] = calls.count

    with register_module_forward_pre_hook(enter), calls:
        output = forward()
    return {**entered, **calls.last_with}, output


class _Calls(TorchFunctionMode):
    """A context that numbers the calls of torch functions, and notes each tensor's last one."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self.last_with: dict[int, int] = {}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        self.count += 1
        # Reading the shape or the device of a tensor does not count as a use.
        if any(isinstance(leaf, Tensor) for leaf in tree_leaves(result)):
            self.last_with.update((id(leaf), self.count) for leaf in tree_leaves((args, kwargs)))
        return result


def _checked_names(names: Any, model: nn.Module) -> list[str] | None:
    """The names as a list; raises TypeError or ValueError unless all are those of modules."""
    if names is None:
        return None
    if isinstance(names, str):
        raise TypeError(f"layers must be a list of names of modules, got a string: [{names!r}].")
    if isinstance(names, nn.Module) or not np.iterable(names):
        raise TypeError(
            "layers must be a list of names of modules, such as ['layer4'], or None for all layers,"
            f" got {type(names).__name__}."
        )
    listed = list(names)
    if not listed:
        raise ValueError("layers is empty: name at least one module, or pass None for all layers.")
    known = [name for name, _ in model.named_modules()]
    for name in listed:
        if not isinstance(name, str):
            raise TypeError(
                "layers must hold names of modules, such as 'layer4', got"
                f" {type(name).__name__}. model.named_modules() lists them."
            )
        if name not in known:
            otherwise = f"its modules are {few([*dict(model.named_children())])}."
            raise ValueError(
                f"layers contains {name!r}, but the model has no module of that name:"
                f" {did_you_mean(name, known, otherwise, show=repr)}"
            )
    return listed


def _check_layers(layers: list[Layer], names: Sequence[str] | None) -> None:
    unused = sorted(set(names or ()) - {layer.name for layer in layers} - {""})
    if unused:
        raise ValueError(
            f"layers contains {', '.join(map(repr, unused))}, but the forward pass uses none of its"
            " parameters, or they belong to another layer. Leave it out."
        )
    if not layers:
        raise ValueError(
            "model has no layers to randomize: its forward pass uses no floating-point parameters"
            " and no running statistics of its own."
        )
