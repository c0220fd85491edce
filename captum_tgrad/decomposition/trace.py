"""Follows one forward pass and meets every bias's gradient on the way back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from captum_tgrad.decomposition.biases.bias import Bias, ElementBias, in_pairs
from captum_tgrad.decomposition.biases.closed_form import NoClosedFormError
from captum_tgrad.decomposition.biases.one_rule import RandomState, bias_from_rule
from captum_tgrad.decomposition.biases.rules import CLOSED_FORMS
from captum_tgrad.decomposition.call import Call, map_tensors, tensors_in
from captum_tgrad.decomposition.equal_forms import run
from captum_tgrad.decomposition.layouts.dim import Dim
from captum_tgrad.decomposition.layouts.layout import Layout, input_layout
from captum_tgrad.decomposition.layouts.origin import Lifetime, Origin, origin_of, set_origin
from captum_tgrad.decomposition.layouts.plan import plan_of
from captum_tgrad.decomposition.layouts.rules import output_layout
from captum_tgrad.decomposition.modules import RunningModules, raise_batch_statistics
from captum_tgrad.decomposition.overwriting import (
    OldValues,
    autograd_keeps_old_values,
    before_overwriting,
    with_values_of_autograd,
    within_base,
)
from captum_tgrad.decomposition.pending_terms import PendingTerm, PendingTerms
from captum_tgrad.decomposition.terms import Term


class Trace(TorchFunctionMode):
    """Records, within its context, the bias of every operation that depends on the inputs.

    The terms are complete when the backward pass that follows has been run. Parameters enter the
    operations detached, so that "depends on the input" and "requires a gradient" are one question
    and the backward pass computes no gradient of a weight.

    Args:
        leaves: The inputs: leaf tensors that require a gradient.
        layouts: Where the elements of each of them are; samples, channels, then space if None.
        with_biases: Whether to record terms; if not, only the layouts are followed.
        with_magnitudes: Whether to find the range of each term's elements, too.

    Attributes:
        precision: The machine epsilon of the coarsest type that an operation computed in.
        hidden: The paths of modules with results of operations that did not pass the trace.
    """

    def __init__(
        self,
        leaves: Sequence[Tensor],
        layouts: Sequence[Layout] | None = None,
        *,
        with_biases: bool = True,
        with_magnitudes: bool = False,
    ) -> None:
        super().__init__()
        self._layouts = layouts or [input_layout(leaf.shape) for leaf in leaves]
        self._with_biases = with_biases
        self._pending = PendingTerms(
            plan_of(self._layouts[0]).samples, leaves[0].device, with_magnitudes
        )
        self._everything = frozenset(range(len(leaves)))
        self._modules = RunningModules(self._look_for_hidden)
        self._old_values = OldValues()
        self._lifetime = Lifetime()
        self._sources: dict[object, int] = {}
        self.hidden: list[str] = []
        self.precision = max(torch.finfo(leaf.dtype).eps for leaf in leaves)

    def follow(self, leaves: Sequence[Tensor]) -> list[Tensor]:
        """What to give to the network in place of its inputs: it may be overwritten."""
        followed = []
        for number, (leaf, layout) in enumerate(zip(leaves, self._layouts, strict=True)):
            tensor = leaf.clone()
            set_origin(tensor, Origin(layout, frozenset([number]), self._lifetime))
            self._sources[tensor.grad_fn] = number
            followed.append(tensor)
        return followed

    def __enter__(self) -> Trace:
        self._modules.__enter__()
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        super().__exit__(exception_type, exception, traceback)  # type: ignore[no-untyped-call]
        self._modules.__exit__(exception_type, exception, traceback)
        self._old_values.forget()

    def release(self) -> None:
        """Removes the hooks on the activations and lets go of what waits for a gradient."""
        self._pending.release()
        self._sources.clear()
        self._lifetime.is_over = True

    def terms(self) -> list[Term]:
        """The terms that reached the output, in forward order, under names that are unique."""
        return self._pending.arrived()

    def sources_of(self, output: Tensor) -> set[int]:
        """The numbers of the inputs on which an output depends."""
        return set(self._sources_behind(output))

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func in _NOT_FOLLOWED:
            return func(*args, **kwargs)
        if func in (F.instance_norm, torch.instance_norm):
            args, kwargs = _without_updates(args, kwargs)
        following = [tensor for tensor in tensors_in(args, kwargs) if tensor.requires_grad]
        if not following:
            # A constant may be overwritten, too, after an operation has added it.
            if args and isinstance(args[0], Tensor) and Call(func, args, kwargs).in_place:
                self._old_values.rescue(args[0])
            return func(*args, **kwargs)
        if getattr(func, "__name__", "") == "__get__":
            return self._property(func, args)
        if any(origin_of(tensor) is None for tensor in following):
            args, kwargs = map_tensors((args, kwargs), self._without_constants)
        call = Call(func, args, kwargs)
        if not call.dependent:
            return call()
        if call.name == "batch_norm" and call.argument(5, "training", False):
            raise_batch_statistics(self._modules.path)
        return self._follow(call)

    def _property(self, func: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """Attributes are read from the tensor itself: ``weight.requires_grad`` stays true."""
        value = func(*args)
        if isinstance(value, Tensor) and value.requires_grad:
            (owner,) = args
            if owner is not self._without_constants(owner):
                return value.detach()
            self._record(Call(func, args, {}), Call(func, args, {}), value)
        return value

    def _without_constants(self, tensor: Tensor) -> Tensor:
        if not tensor.requires_grad or origin_of(tensor) is not None:
            return tensor
        if tensor.is_leaf or not self._descends(tensor):
            return tensor.detach()
        self.hidden.append(self._modules.path)
        return tensor

    def _look_for_hidden(self, path: str, output: Any) -> None:
        """Notes the innermost module that returns what no operation we saw has made."""
        for tensor in tensors_in(output):
            if origin_of(tensor) is None and tensor.requires_grad and self._descends(tensor):
                self.hidden.append(path)

    def _descends(self, tensor: Tensor) -> bool:
        """Whether a tensor that no operation we saw has made depends on the inputs all the same."""
        return next(self._sources_behind(tensor), None) is not None

    def _sources_behind(self, tensor: Tensor) -> Iterator[int]:
        """The numbers of the inputs that autograd knows a tensor to depend on."""
        seen, waiting = set(), [tensor.grad_fn]
        while waiting:
            node = waiting.pop()
            if node in self._sources:
                yield self._sources[node]
            if node is not None and node not in seen:
                seen.add(node)
                waiting += [parent for parent, _ in node.next_functions]

    def _follow(self, call: Call) -> Any:
        before, draws = call, None
        if call.in_place:
            self._old_values.rescue(call.args[0])
            before = before_overwriting(call)
        kept = call.in_place and autograd_keeps_old_values(call)
        origin = origin_of(call.args[0]) if kept else None
        if call.name not in CLOSED_FORMS:
            draws = RandomState(call.dependent[0].device)
        result = run(call, self._old_values)
        if kept:
            before = with_values_of_autograd(call, result, origin)
        if draws is not None and isinstance(result, (tuple, list)):
            # Where one output is made from another, each gets a node that only its users reach.
            result = map_tensors(result, _own_node)
        self._record(call, before, call.args[0] if result is None else result, draws)
        return result

    @torch.no_grad()
    def _record(
        self, call: Call, before: Call, result: Any, draws: RandomState | None = None
    ) -> None:
        outputs = [tensor for tensor in tensors_in(result) if tensor.requires_grad]
        if not outputs:
            return
        inputs: frozenset[int] = frozenset().union(
            *(
                self._everything if origin is None else origin.inputs
                for origin in map(origin_of, before.dependent)
            )
        )
        layouts = [output_layout(before, output, i) for i, output in enumerate(outputs)]
        biases = _biases(before, outputs, draws) if self._with_biases else [None] * len(outputs)
        for output, layout, bias in zip(outputs, layouts, biases, strict=True):
            self.precision = max(self.precision, torch.finfo(output.dtype).eps)
            set_origin(output, Origin(layout, inputs, self._lifetime))
            if call.in_place and output._is_view() and output._base is not None:
                output, layout, bias = within_base(output, layout, bias, inputs, self._lifetime)
            if bias is None:
                continue
            if output.is_complex():
                bias, layout = in_pairs(bias, output), (*layout, Dim.channel(2))
            if isinstance(bias, ElementBias):
                self._old_values.are_read_by(bias)
            path, in_leaf = self._modules.path, self._modules.inside_leaf
            self._pending.await_gradient(
                output, PendingTerm(path, call.name, in_leaf, inputs, layout, bias)
            )


def _biases(call: Call, outputs: list[Tensor], draws: RandomState | None) -> Sequence[Bias | None]:
    closed_form = CLOSED_FORMS.get(call.name)
    if closed_form is not None:
        try:
            biases = [closed_form(call, output) for output in outputs]
            if all(bias is None for bias in biases) or not any(map(torch.is_complex, outputs)):
                return biases
        # The last two: arguments given by keyword, which a closed form looks for by position.
        except (NoClosedFormError, IndexError, ValueError):
            pass
    return bias_from_rule(call, outputs, draws or RandomState(outputs[0].device))


def _without_updates(
    args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments of an instance norm that does not update the running statistics that it has.

    In training mode they are all that it uses them for.
    """
    names = ("input", "running_mean", "running_var", "weight", "bias", "use_input_stats")
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    if len(args) == 9:  # torch.instance_norm, whose arguments come in another order
        given["running_mean"], given["running_var"] = args[3:5]
    if not given.get("use_input_stats", True):
        return args, kwargs
    statistics = {id(given.get(name)) for name in names[1:3]} - {id(None)}
    args, kwargs = map_tensors(
        (args, kwargs), lambda tensor: tensor.clone() if id(tensor) in statistics else tensor
    )
    return args, kwargs


def _own_node(tensor: Tensor) -> Tensor:
    return tensor.view_as(tensor) if tensor.requires_grad else tensor


_NOT_FOLLOWED = {
    torch.autograd.grad, torch.autograd.backward, Tensor.register_hook,
    Tensor.dim, Tensor.size, Tensor.stride, Tensor.numel, Tensor.is_contiguous,
    Tensor.is_floating_point, Tensor.data_ptr, Tensor.__len__,
    *(
        getattr(Tensor, name).__get__
        for name in ("requires_grad", "is_leaf", "shape", "ndim", "device", "dtype", "is_cuda")
    ),
}  # fmt: skip
"""Functions that compute nothing on the way to the output."""
