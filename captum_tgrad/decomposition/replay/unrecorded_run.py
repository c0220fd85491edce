"""Runs a network without recording it, so that autograd's graph shows all of its parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from threading import get_ident
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.utils.hooks import RemovableHandle

from captum_tgrad.decomposition.nested import own_containers
from captum_tgrad.decomposition.operations.running_statistics import KeptStatistics


def modules_in_evaluation(networks: Iterable[nn.Module]) -> list[nn.Module] | None:
    """All modules of the networks; None if one is in training mode.

    In training mode, a batch norm would update its statistics.
    """
    found = dict.fromkeys(networks)
    modules = list(found)
    for module in modules:  # four times as fast as network.modules()
        if module.training:
            return None
        for child in module._modules.values():
            if child is not None and child not in found:
                found[child] = None
                modules.append(child)
    return modules


def classes_and_children(modules: Iterable[nn.Module]) -> list[object]:
    """The class of each module and the names of its children."""
    return [
        (type(module), *children.keys()) if (children := module._modules) else type(module)
        for module in modules
    ]


class ModuleState:
    """The present attributes of modules, their buffers, and the running statistics of norms.

    A module may keep an activation for the next call. A norm that sets its own mode may update its
    statistics; joining them takes less time than copying each.
    """

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        self._attributes = []
        alike: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
        for module in modules:
            if not type(module).__module__.startswith("torch.nn."):  # those of torch keep nothing
                for own in (vars(module), module._buffers):
                    if own and isinstance(own, dict):  # a script has other containers
                        self._attributes.append((own, own.copy()))
            if isinstance(module, _NormBase):
                for name in ("running_mean", "running_var", "num_batches_tracked"):
                    buffer = module._buffers.get(name)
                    if buffer is not None:
                        alike.setdefault((buffer.device, buffer.dtype), []).append(buffer)
        self._saved = [
            (buffers, torch.cat([each if each.dim() else each[None] for each in buffers]))
            for buffers in alike.values()
        ]

    def restore_attributes(self) -> None:
        """Sets attributes and buffers to these objects, for another run of the network."""
        for own, before in self._attributes:
            for name in own.keys() - before.keys():
                del own[name]
            own.update(before)

    def restore_statistics(self) -> None:
        """Sets the statistics that have changed to these values."""
        for buffers, joined in self._saved:
            values = torch.split(joined, [buffer.numel() for buffer in buffers])
            for buffer, value in zip(buffers, values, strict=True):
                before = value.view_as(buffer)
                if not torch.equal(buffer, before):
                    buffer.data.copy_(before)


def run_unrecorded(
    forward: Callable[..., Any],
    modules: Sequence[nn.Module],
    arguments: Sequence[Any],
    runs_others: bool,
    calls_norms: bool,
) -> Any:
    """The output of ``forward``, which runs these modules, maybe others or functional norms.

    None if it uses hooks on saved tensors, or too much memory, or needs frozen parameters, or if
    another norm would update its statistics.

    Raises:
        HookAddedError: A hook was added, which may change gradients unseen by the graph, maybe by
            another thread.
    """
    leaf, *further = arguments
    copied = leaf.clone()
    frozen = _frozen(modules)
    try:
        with (
            # With activation checkpointing, reading a node would run a block again.
            torch.autograd.graph.disable_saved_tensors_hooks(_NO_HOOKS),
            _without_autocast_cache(),
            _unfrozen(frozen),
            _stopped_before_training() if runs_others else nullcontext(),
            KeptStatistics() if calls_norms else nullcontext(),
        ):
            hooks = RemovableHandle.next_id
            output = forward(copied, *own_containers(further))
            if RemovableHandle.next_id != hooks:
                raise HookAddedError
            return output
    except _TrainingModeError:
        return None
    except torch.OutOfMemoryError:
        return None  # autograd keeps more activations if the weights require gradients
    except RuntimeError as error:
        if frozen or _NO_HOOKS in str(error):
            return None  # as parameter.numpy(); an error of the network itself comes again
        raise


class HookAddedError(Exception):
    """A hook was added during an unrecorded run."""


class _TrainingModeError(Exception):
    """A norm in training mode would run and update its statistics."""


@contextmanager
def _stopped_before_training() -> Iterator[None]:
    """A context that raises _TrainingModeError before such a norm runs in this thread.

    Its hook costs a few percent of a small network.
    """
    thread = get_ident()

    def check(module: nn.Module, inputs: Any) -> None:
        if isinstance(module, _NormBase) and module.training and get_ident() == thread:
            raise _TrainingModeError

    handle = register_module_forward_pre_hook(check)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _without_autocast_cache() -> Iterator[None]:
    """A context in which autocast keeps no copies of weights, which may change before the next run.

    It keeps those of weights that require a gradient until the outermost autocast ends.
    """
    before = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(before)


_NO_HOOKS = "saved tensors have no hooks in a replay"


def _frozen(modules: Sequence[nn.Module]) -> list[nn.Parameter]:
    """The parameters that require no gradient, but could."""
    return [
        parameter
        for module in modules
        for parameter in module._parameters.values()
        if parameter is not None and not parameter.requires_grad and parameter.is_floating_point()
    ]


@contextmanager
def _unfrozen(frozen: Sequence[nn.Parameter]) -> Iterator[None]:
    """A context in which these parameters require a gradient, so that the graph shows them."""
    try:
        for parameter in frozen:
            parameter.requires_grad_()
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)
