"""Compares the torch functions that two forward passes call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from captum_tgrad.decomposition.modules import RunningModules
from captum_tgrad.decomposition.random_state import RandomState


class CallChangedError(Exception):
    """A network called another function than in an earlier forward pass."""


class Calls(TorchFunctionMode):
    """A context that lists the torch functions that a network calls, and the modules around them.

    Terms are named after both. Autograd's graph does not show them, nor whether a function updates
    statistics or draws random numbers.

    Args:
        modules: The modules that are running.
        device: The device of the input.
        expected: The calls of an earlier forward pass; None for any.

    Attributes:
        made: The calls. Two are equal if they have the same function, module and options.

    Raises:
        CallChangedError: In the context, before a call that is not the expected one.
    """

    def __init__(
        self,
        modules: RunningModules,
        device: torch.device,
        expected: list[tuple[object, ...]] | None = None,
    ) -> None:
        super().__init__()
        self.made: list[tuple[object, ...]] = []
        self._modules = modules
        self._expected = expected
        self._random_state = RandomState(device)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        given = (*args, *kwargs, *kwargs.values())
        options = [each for each in given if isinstance(each, (int, float, str))]
        call = (func, self._modules.path, self._modules.inside_leaf, options)
        number = len(self.made)
        self.made.append(call)
        if self._expected is not None and self._expected[number : number + 1] != [call]:
            raise CallChangedError
        return func(*args, **kwargs)

    def are_reproducible(self) -> bool:
        """Whether no call drew random numbers or may have registered a hook."""
        functions = {call[0] for call in self.made}
        return functions.isdisjoint(_MAY_HOOK) and self._random_state.is_current()


_MAY_HOOK = {Tensor.register_hook, Tensor.grad_fn.__get__}  # type: ignore[union-attr]
"""Functions by which a network may register a hook that changes a gradient."""
