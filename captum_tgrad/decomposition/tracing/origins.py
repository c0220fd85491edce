"""Tracks which tensors of a trace depend on the inputs, and the places of their elements."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction

from captum_tgrad.decomposition.hidden.hidden_operations import HiddenOperations
from captum_tgrad.decomposition.places.coordinates import Axis
from captum_tgrad.decomposition.places.origin import Lifetime, Origin, origin_of, set_origin
from captum_tgrad.decomposition.places.places import Places, depending_on
from captum_tgrad.decomposition.places.views import places_of_view, places_within


class Origins:
    """The origins of the tensors of a trace.

    A tensor that requires a gradient and has no origin is a constant, a view of a tensor that was
    overwritten, or the result of a hidden operation.

    Args:
        lifetime: The lifetime of the trace.
        hidden: The hidden operations.
        axes_of_inputs: The axes of each input, to record on which inputs elements depend; empty if
            there is only one input.
    """

    def __init__(
        self,
        lifetime: Lifetime,
        hidden: HiddenOperations,
        axes_of_inputs: Sequence[Collection[Axis]],
    ) -> None:
        self._lifetime = lifetime
        self._hidden = hidden
        self._axes_of_inputs = axes_of_inputs
        self._deferred: list[Callable[[], None]] = []

    def follow(self, tensor: Tensor, places: Places) -> None:
        """Remembers the places of a tensor's elements."""
        set_origin(tensor, places, self._lifetime)
        self.run_or_defer(tensor, partial(self._hidden.visible.add, tensor))

    def of(self, tensor: Tensor) -> Origin | None:
        """The origin of a tensor that requires a gradient; None if it is a constant."""
        origin = origin_of(tensor)
        if origin is None:
            if tensor.grad_fn is None:
                return None
            if self._is_view_of_overwritten(tensor):
                self._refresh(tensor)
            return origin_of(tensor) or self._hidden.add_hidden_result(tensor)
        if origin.lifetime is not self._lifetime:
            return None  # it belongs to an enclosing trace
        if origin.version != tensor._version:
            self._refresh(tensor)
            origin = origin_of(tensor)
        return origin

    def follow_result(self, output: Tensor, places: Places) -> None:
        """Remembers the places of a result, also if it is the first view of all of its base."""
        self.follow(output, places)
        base = output._base
        if base is None or not base.requires_grad or base.numel() != output.numel():
            return
        if origin_of(base) is None and self._returned_view(base) is None:
            layout = output.shape, output.stride(), output.storage_offset()
            setattr(base, _RETURNED, (layout, origin_of(output)))

    def follow_base(self, base: Tensor, written: Places) -> None:
        """Remembers the places of a base tensor of which an operation returned only a view.

        Does nothing if that view was overwritten as a whole with elements of the same places.
        """
        returned = self._returned_view(base)
        if returned is not None and returned[1].places is not written:
            layout, origin = returned
            view = base.detach().as_strided(*layout)
            self.follow(base, places_within(base, view, origin.places))

    def _returned_view(self, base: Tensor) -> tuple[_Layout, Origin] | None:
        known: tuple[_Layout, Origin] | None = getattr(base, _RETURNED, None)
        return None if known is None or known[1].lifetime is not self._lifetime else known

    def _is_view_of_overwritten(self, tensor: Tensor) -> bool:
        """Whether a tensor is a view of a constant that has been overwritten since."""
        base = tensor._base
        known = None if base is None else origin_of(base)
        if base is None or known is None or known.lifetime is not self._lifetime:
            return False
        node = tensor.grad_fn
        if node is None or isinstance(node, BackwardCFunction):  # it may have any backward
            return False
        return (base.grad_fn, base.output_nr) in node.next_functions

    def _refresh(self, view: Tensor) -> None:
        """Updates the places of a view after its base was overwritten."""
        known = None if view._base is None else origin_of(view._base)
        if view._base is not None and known is not None:
            places = places_of_view(view._base, view, known.places)
            if self._axes_of_inputs:
                inputs = known.places.inputs
                places = depending_on(places, inputs, self._axes_of_inputs, is_part=True)
            self.follow(view, places)

    def run_or_defer(self, tensor: Tensor, action: Callable[[], None]) -> None:
        """Runs an action that uses a tensor's node; defers it for a view if gradients are disabled.

        They are disabled in a custom ``autograd.Function``. If it overwrites a view with a hook,
        torch deadlocks when it makes the view's new node.
        """
        if tensor._is_view() and not torch.is_grad_enabled():
            self._deferred.append(action)
        else:
            action()

    def run_deferred(self) -> None:
        """Runs the deferred actions once gradients are enabled again."""
        while self._deferred and torch.is_grad_enabled():
            self._deferred.pop(0)()


_Layout = tuple[torch.Size, tuple[int, ...], int]
"""The shape, the strides and the storage offset of a tensor."""

_RETURNED = "_captum_tgrad_returned"
"""An attribute of a tensor of which an operation returned only a view: its layout and origin."""
