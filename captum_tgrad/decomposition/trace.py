"""Follows one forward pass and meets every bias's gradient on the way back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from captum_tgrad.decomposition.bias import Bias, ChannelBias, ElementBias
from captum_tgrad.decomposition.bias_rules import CLOSED_FORMS, READS_INPUT, NoClosedFormError
from captum_tgrad.decomposition.blocks import ELEMENTS_OF_A_BLOCK
from captum_tgrad.decomposition.call import (
    Call,
    Origin,
    map_tensors,
    origin_of,
    set_origin,
    tensors_in,
)
from captum_tgrad.decomposition.equal_forms import run
from captum_tgrad.decomposition.layout import Layout, input_layout, unknown_layout
from captum_tgrad.decomposition.layout_rules import output_layout
from captum_tgrad.decomposition.maps import SamplesLostError, Sums, maps_of_sums, sums_of_bias
from captum_tgrad.decomposition.modules import RunningModules, raise_batch_statistics
from captum_tgrad.decomposition.one_rule import RandomState, bias_from_rule
from captum_tgrad.decomposition.plan import plan_of
from captum_tgrad.decomposition.precision import without_autocast
from captum_tgrad.decomposition.scratch import Scratch
from captum_tgrad.decomposition.terms import Term


@dataclass
class _Entry:
    """An operation with a bias: waiting for its gradient, then holding its sums."""

    module: str
    operation: str
    in_leaf: bool
    inputs: frozenset[int]
    bias: Bias | None
    layout: Layout
    sums: Sums | None = None


class Trace(TorchFunctionMode):
    """Records, within its context, the bias of every operation that depends on the inputs.

    A hook on each operation's output reduces its term to two small sums as soon as its gradient
    arrives in the backward pass that follows, and lets go of everything else. Parameters enter the
    operations detached, so that "depends on the input" and "requires a gradient" are one question
    and the backward pass computes no gradient of a weight.

    Args:
        leaves: The inputs: leaf tensors that require a gradient.
        layouts: Where the elements of each of them are; samples, channels, then space if None.
        with_biases: Whether to record terms; without, only where the activations come from.
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
        self._with_magnitudes = with_magnitudes
        self._samples = plan_of(self._layouts[0]).samples
        self._everything = frozenset(range(len(leaves)))
        self._modules = RunningModules(self._look_for_hidden)
        self._entries: list[_Entry] = []
        self._handles: list[RemovableHandle] = []
        self._reading: dict[int, list[ElementBias]] = {}
        self._sources: set[object] = set()
        self._scratch = Scratch(ELEMENTS_OF_A_BLOCK)
        self.hidden: list[str] = []
        self.precision = max(torch.finfo(leaf.dtype).eps for leaf in leaves)

    def follow(self, leaves: Sequence[Tensor]) -> list[Tensor]:
        """What to give to the network in place of its inputs: it may be overwritten."""
        followed = []
        for number, (leaf, layout) in enumerate(zip(leaves, self._layouts, strict=True)):
            tensor = leaf.clone()
            set_origin(tensor, Origin(layout, frozenset([number])))
            self._sources.add(tensor.grad_fn)
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
        self._reading.clear()  # nothing is overwritten any more: each bias goes with its gradient

    def release(self) -> None:
        """Removes the hooks on the activations and lets go of what waits for a gradient."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._sources.clear()
        for entry in self._entries:
            entry.bias = None

    def terms(self) -> list[Term]:
        """The terms that reached the output, in forward order, under names that are unique."""
        arrived = [(entry, entry.sums) for entry in self._entries if entry.sums is not None]
        operations: dict[str, set[str]] = {}
        for entry, _ in arrived:
            operations.setdefault(entry.module, set()).add(entry.operation)
        calls: Counter[str] = Counter()
        terms = []
        for (entry, _), maps in zip(arrived, maps_of_sums([s for _, s in arrived]), strict=True):
            if not entry.module:
                name = entry.operation
            elif entry.in_leaf and len(operations[entry.module]) == 1:
                name = entry.module
            else:
                name = f"{entry.module}:{entry.operation}"
            calls[name] += 1
            name = name if calls[name] == 1 else f"{name}#{calls[name]}"
            inputs = tuple(sorted(entry.inputs))
            terms.append(
                Term(name, maps.positive, maps.negative, maps.score, inputs, maps.magnitudes)
            )
        return terms

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
        following = [tensor for tensor in tensors_in(args, kwargs) if tensor.requires_grad]
        if not following:
            self._freeze_if_overwritten(func, args, kwargs)
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
        seen, waiting = set(), [tensor.grad_fn]
        while waiting:
            node = waiting.pop()
            if node in self._sources:
                return True
            if node is not None and node not in seen:
                seen.add(node)
                waiting += [parent for parent, _ in node.next_functions]
        return False

    def _follow(self, call: Call) -> Any:
        before, draws = call, None
        saves = call.in_place and _autograd_saves_what_is_overwritten(call)
        origin = origin_of(call.args[0]) if saves else None
        if call.in_place:
            self._freeze(call.args[0])
            before = call if saves else self._before_overwriting(call)
        if call.name not in CLOSED_FORMS:
            draws = RandomState(call.dependent[0].device)
        result = run(call)
        if saves:
            before = _with_first(call, result.grad_fn._saved_self, origin)
        if call.name == "iter":
            result = tuple(result)
        elif draws is not None and isinstance(result, (tuple, list)):
            # Where one output is made from another, each gets a node that only its users reach.
            result = map_tensors(result, _own_node)
        self._record(call, before, call.args[0] if result is None else result, draws)
        return iter(result) if call.name == "iter" else result

    def _freeze_if_overwritten(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """A constant may be overwritten, too, after an operation has added it."""
        if self._reading and args and isinstance(args[0], Tensor):
            call = Call(func, args, kwargs)
            if call.in_place:
                self._freeze(args[0])

    def _freeze(self, overwritten: Tensor) -> None:
        for bias in self._reading.pop(overwritten.untyped_storage().data_ptr(), []):
            bias.freeze()

    def _before_overwriting(self, call: Call) -> Call:
        """The call with a copy of what it overwrites, where its rule needs the old values."""
        overwritten = call.args[0]
        closed_form = CLOSED_FORMS.get(call.name)
        if overwritten.requires_grad and closed_form and closed_form not in READS_INPUT:
            return call
        return _with_first(call, overwritten.detach().clone(), origin_of(overwritten))

    @torch.no_grad()
    def _record(
        self, call: Call, before: Call, result: Any, draws: RandomState | None = None
    ) -> None:
        outputs = [
            tensor
            for tensor in tensors_in(result)
            if tensor.requires_grad and tensor.is_floating_point()
        ]
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
            set_origin(output, Origin(layout, inputs))
            if call.in_place and output._is_view() and output._base is not None:
                output, layout, bias = _within_base(output, layout, bias, inputs)
            if bias is None:
                continue
            self._await_gradient(output, layout, bias, call.name, inputs)

    def _await_gradient(
        self, output: Tensor, layout: Layout, bias: Bias, operation: str, inputs: frozenset[int]
    ) -> None:
        modules = self._modules
        entry = _Entry(modules.path, operation, modules.inside_leaf, inputs, bias, layout)
        if isinstance(bias, ElementBias):
            for storage in bias.storages:
                self._reading.setdefault(storage, []).append(bias)
        self._entries.append(entry)
        handle = output.register_hook(partial(self._arrive, entry))  # type: ignore[no-untyped-call]
        self._handles.append(handle)

    @torch.no_grad()
    def _arrive(self, entry: _Entry, gradient: Tensor) -> None:
        if entry.bias is None:
            return
        try:
            with without_autocast(gradient):
                entry.sums = sums_of_bias(
                    gradient,
                    entry.bias,
                    entry.layout,
                    self._samples,
                    self._scratch,
                    self._with_magnitudes,
                )
        except SamplesLostError:
            raise SamplesLostError(
                f"The operation {entry.operation!r} in {entry.module or 'forward_func'!r} follows"
                " one that mixes the samples of the batch, so its term belongs to none of them."
                " Explain the samples one at a time, in batches of 1."
            ) from None
        entry.bias = None


def _autograd_saves_what_is_overwritten(call: Call) -> bool:
    """Whether the backward pass of an in-place call keeps the old values, as a copy would."""
    overwritten = call.args[0]
    return (
        call.name in ("silu", "hardswish")
        and overwritten.requires_grad
        and not overwritten._is_view()
        and torch.is_grad_enabled()
    )


def _with_first(call: Call, first: Tensor, origin: Origin | None) -> Call:
    """The call with another tensor in the place of its first."""
    first = first.detach().requires_grad_(call.args[0].requires_grad)
    if origin is not None:
        set_origin(first, origin)
    return Call(call.func, (first, *call.args[1:]), call.kwargs)


def _biases(call: Call, outputs: list[Tensor], draws: RandomState | None) -> Sequence[Bias | None]:
    closed_form = CLOSED_FORMS.get(call.name)
    if closed_form is not None:
        try:
            return [closed_form(call, output) for output in outputs]
        # The last two: arguments given by keyword, which a closed form looks for by position.
        except (NoClosedFormError, IndexError, ValueError):
            pass
    return bias_from_rule(call, outputs, draws or RandomState(outputs[0].device))


def _own_node(tensor: Tensor) -> Tensor:
    return tensor.view_as(tensor) if tensor.requires_grad else tensor


def _within_base(
    view: Tensor, layout: Layout, bias: Bias | None, inputs: frozenset[int]
) -> tuple[Tensor, Layout, Bias | None]:
    """The tensor that ``view`` is a part of, with the bias at that part.

    An operation that overwrites a view changes the tensor behind it, and that is where autograd
    sends the gradient. A constant that is partly overwritten keeps its values elsewhere, and they
    are a bias too.
    """
    base = view._base
    if base is None:
        return view, layout, bias
    origin = origin_of(base)
    if origin is None:
        samples = layout[0] if layout and layout[0].has_sample else None
        base_layout = unknown_layout(base.shape)
        if samples is not None and samples.size == base.shape[0]:
            base_layout = (samples, *base_layout[1:])
        whole = base.detach().clone()
    else:
        base_layout, inputs = origin.layout, inputs | origin.inputs
        whole = torch.zeros_like(base)
    set_origin(base, Origin(base_layout, inputs))
    if bias is None and origin is not None:
        return base, base_layout, None
    offset = view.storage_offset() - base.storage_offset()
    part = whole.as_strided(view.shape, view.stride(), offset)
    if bias is None:
        part.zero_()
    elif isinstance(bias, ChannelBias):
        part.copy_(bias.values.reshape(-1, *[1] * (view.dim() - bias.dim - 1)))
    else:
        part.copy_(bias.value())
    return base, base_layout, ElementBias(lambda constant: constant, whole)


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
