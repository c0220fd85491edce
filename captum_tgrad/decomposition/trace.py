"""Follows one forward pass and collects each bias's gradient in the backward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from captum_tgrad.decomposition.bias import Bias, in_pairs
from captum_tgrad.decomposition.call import Call, NoRuleError, map_tensors, tensors_in
from captum_tgrad.decomposition.composite import opened
from captum_tgrad.decomposition.hidden import HiddenOperations
from captum_tgrad.decomposition.in_place import (
    OldValues,
    autograd_keeps_old_values,
    places_of_view,
    places_within,
    rest_of_base,
)
from captum_tgrad.decomposition.maps import Summing
from captum_tgrad.decomposition.modules import RunningModules, raise_batch_statistics
from captum_tgrad.decomposition.one_rule import NoDerivativeError, bias_from_rule
from captum_tgrad.decomposition.operations.operation import Operation, in_its_form
from captum_tgrad.decomposition.operations.table import operation_of
from captum_tgrad.decomposition.pending_terms import PendingTerm, PendingTerms
from captum_tgrad.decomposition.places.coordinates import Axis
from captum_tgrad.decomposition.places.finding import output_places
from captum_tgrad.decomposition.places.grid_operations import channels_as_places
from captum_tgrad.decomposition.places.mixing import places_in_pairs
from captum_tgrad.decomposition.places.origin import (
    Lifetime,
    Origin,
    is_stale,
    origin_of,
    set_origin,
)
from captum_tgrad.decomposition.places.places import Places
from captum_tgrad.decomposition.random_state import RandomState
from captum_tgrad.decomposition.saved_tensors import kept_in_memory
from captum_tgrad.decomposition.terms import Term


class Trace(TorchFunctionMode):
    """Records, within its context, the bias of every operation that depends on the inputs.

    The terms are complete when the backward pass that follows has been run. Parameters enter the
    operations detached, so that "depends on the input" and "requires a gradient" are one question
    and the backward pass computes no gradient of a weight.

    Args:
        leaves: The inputs: leaf tensors that require a gradient.
        given: Where the elements of each of them are.
        summing: What the terms are summed over; None: only the places are followed.

    Attributes:
        precision: The machine epsilon of the coarsest type that an operation computed in.
        channels_as_places: The channels of an input that the network uses as places, and the axis
            that it uses as channels.
    """

    def __init__(
        self, leaves: Sequence[Tensor], given: Sequence[Places], summing: Summing | None
    ) -> None:
        super().__init__()
        self._given = given
        self._pending = None if summing is None else PendingTerms(summing)
        self._everything = frozenset(range(len(leaves)))
        self._modules = RunningModules(self._look_for_hidden)
        self._old_values = OldValues()
        self._lifetime = Lifetime()
        samples = leaves[0].shape[0] if summing is None else summing.samples
        self._hidden = HiddenOperations(self._old_values, self._lifetime, samples)
        self._sources: dict[object, int] = {}
        self.channels_as_places: tuple[Axis, Axis | None] | None = None
        self.precision = max(torch.finfo(leaf.dtype).eps for leaf in leaves)

    def follow(self, leaves: Sequence[Tensor]) -> list[Tensor]:
        """What to give to the network in place of its inputs: it may be overwritten."""
        followed = []
        for number, (leaf, given) in enumerate(zip(leaves, self._given, strict=True)):
            tensor = leaf.clone()
            set_origin(tensor, Origin(given, frozenset([number]), self._lifetime))
            self._hidden.see(tensor)
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

    @contextmanager
    def _resumed(self) -> Iterator[None]:
        """Within a call that the trace handles, the trace sees what the call is made of."""
        super().__enter__()  # type: ignore[no-untyped-call]
        try:
            yield
        finally:
            super().__exit__(None, None, None)  # type: ignore[no-untyped-call]

    def finish(self, output: Any) -> None:
        """The forward pass has ended: what is still hidden in its output is looked for."""
        self._look_for_hidden("", output)
        self._old_values.forget()
        self._hidden.arm()
        if self._pending is not None:
            self._pending.arm()

    def release(self) -> None:
        """Removes the hooks on the activations and lets go of what waits for a gradient."""
        if self._pending is not None:
            self._pending.release()
        self._hidden.release()
        self._old_values.forget()
        self._sources.clear()
        self._lifetime.is_over = True

    def terms(self) -> list[Term]:
        """The terms that reached the output, in forward order, under names that are unique."""
        if self._pending is None:
            return []
        hidden = []
        for found in self._hidden.terms:
            root = found.roots[-1]
            reduced = found.reduced(self._pending.summing, self._pending.scratch)
            term = PendingTerm(root.path, "hidden", False, found.inputs, root.places, None, reduced)
            hidden.append((root.order, term))
        return self._pending.terms(hidden)

    def sources_of(self, output: Tensor) -> set[int]:
        """The numbers of the inputs on which autograd knows an output to depend."""
        found, seen, waiting = set(), set(), [output.grad_fn]
        while waiting:
            node = waiting.pop()
            if node in self._sources:
                found.add(self._sources[node])
            if node is not None and node not in seen:
                seen.add(node)
                waiting += [parent for parent, _ in node.next_functions]
        return found

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
        try:
            return self._handle(func, args, kwargs)
        finally:
            self._hidden.hold()

    def _handle(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        tensors = tensors_in(args, kwargs)
        if torch._C._functorch.peek_interpreter_stack() is not None:
            return func(*args, **kwargs)  # its result is found when the transform returns it
        if func in (F.instance_norm, torch.instance_norm):
            args, kwargs = _without_updates(args, kwargs)
        following = [tensor for tensor in tensors if tensor.requires_grad]
        if not following:
            # A constant may be overwritten, too, after an operation has added it.
            if args and isinstance(args[0], Tensor) and Call(func, args, kwargs).in_place:
                self._old_values.rescue(args[0])
            for tensor in tensors_in(kwargs.get("out")):
                self._old_values.rescue(tensor)
            return func(*args, **kwargs)
        if getattr(func, "__name__", "") == "__get__":
            return self._property(func, args)
        if not args and "input" in kwargs:
            args, kwargs = (kwargs["input"],), {k: v for k, v in kwargs.items() if k != "input"}
        record = operation_of(func)
        if record is None and (inner := opened(func)) is not None:
            with self._resumed():
                return inner(*args, **kwargs)
        for tensor in following:
            if is_stale(tensor):
                self._refresh(tensor)
        if any(origin_of(tensor) is None for tensor in following):
            given = args, kwargs
            args, kwargs = map_tensors(given, self._without_constants)
            tensors = tensors_in(args, kwargs)
            if not any(tensor.requires_grad for tensor in tensors):
                return func(*given[0], **given[1])  # a graph of the model's own
        call = Call(func, args, kwargs, record, tensors)
        self._hidden.let_go()
        if call.name == "batch_norm" and call.bound["training"]:
            raise_batch_statistics(self._modules.path)
        if call.in_place and call.name != "detach" and torch.is_grad_enabled():
            return self._run_in_place(call, record)
        return self._run(call, record)

    def _refresh(self, view: Tensor) -> None:
        """The memory of a view was overwritten: its places are those of the tensor behind it."""
        known = None if view._base is None else origin_of(view._base)
        if view._base is not None and known is not None:
            given = places_of_view(view._base, view, known.places)
            set_origin(view, Origin(given, known.inputs, self._lifetime))
            self._hidden.see(view)

    def _property(self, func: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """Attributes are read from the tensor itself: ``weight.requires_grad`` stays true."""
        value = func(*args)
        if isinstance(value, Tensor) and value.requires_grad:
            (owner,) = args
            if owner is not self._without_constants(owner):
                return value.detach()
            record = operation_of(func)
            self._record(Call(func, args, {}, record), record, value)
        return value

    def _without_constants(self, tensor: Tensor) -> Tensor:
        """A tensor that depends on the inputs as it is, any other one as a constant."""
        if not tensor.requires_grad or origin_of(tensor) is not None:
            return tensor
        if self._found(tensor, self._modules.path) is None:
            return tensor.detach()
        return tensor

    def _found(self, tensor: Tensor, path: str) -> Origin | None:
        terms = 0 if self._pending is None else len(self._pending)
        return self._hidden.found(tensor, path, terms)

    def _look_for_hidden(self, path: str, output: Any) -> None:
        """Finds what a module returns that no operation in sight has made."""
        with torch._C.DisableTorchFunction():
            for tensor in tensors_in(output):
                if tensor.requires_grad and origin_of(tensor) is None:
                    self._found(tensor, path)

    def _run(self, call: Call, record: Operation | None) -> Any:
        draws = None
        if record is None or record.bias is None or _may_draw(call):
            draws = RandomState(call.dependent[0].device)
        with kept_in_memory():
            result = in_its_form(call, record, self._old_values)
        several = isinstance(result, (tuple, list))
        if several and (record is None or record.bias is None):
            # Where one output is made from another, each gets a node that only its users reach.
            result = map_tensors(result, _own_node)
        self._record(call, record, result, draws)
        return result

    def _run_in_place(self, call: Call, record: Operation | None) -> Any:
        target = call.args[0]
        self._old_values.rescue(target)
        if call.name in _RESHAPES_IN_PLACE and target.requires_grad:
            old = _with_origin(target.detach(), origin_of(target))
            result = call()
            self._record(call.with_first(old), record, target)
            return result
        if record is not None and target.requires_grad and not target._is_view():
            if autograd_keeps_old_values(call):
                origin = origin_of(target)
                with kept_in_memory():
                    result = call()
                old = _with_origin(target.grad_fn._saved_self.detach(), origin)
                self._record(call.with_first(old), record, target)
                return result
            if not record.reads_input and _has_closed_form(call, record):
                result = in_its_form(call, record, self._old_values)
                self._record(call, record, target)
                return result
        fresh = target.clone(memory_format=torch.preserve_format)
        draws = RandomState(target.device)
        with kept_in_memory():
            result = call.with_first(fresh)()
        self._record(call, record, fresh, draws)
        self._old_values.rescue(target)
        base, was_constant = target._base, False
        if target._is_view() and base is not None:
            was_constant = not base.requires_grad
        target.copy_(fresh)
        origin = origin_of(fresh)
        if origin is not None:
            set_origin(target, origin)
            self._hidden.see(target)
            if base is not None:
                self._overwritten_within(base, target, origin, was_constant, call.name)
        return None if result is None else target

    def _overwritten_within(
        self, base: Tensor, view: Tensor, origin: Origin, was_constant: bool, name: str
    ) -> None:
        known = origin_of(base)
        if known is None and not was_constant:
            return  # the memory of a view whose base nobody has
        inputs = origin.inputs | (known.inputs if known else frozenset())
        given = places_within(base, view, origin.places)
        set_origin(base, Origin(given, inputs, self._lifetime))
        self._hidden.see(base)
        if known is None and self._pending is not None:
            self._await(base, given, inputs, rest_of_base(base, view), name)

    @torch.no_grad()
    def _record(
        self,
        call: Call,
        record: Operation | None,
        result: Any,
        draws: RandomState | None = None,
    ) -> None:
        call.returned = returned = tensors_in(result)
        followed = [number for number, tensor in enumerate(returned) if tensor.requires_grad]
        if not followed:
            return
        outputs = [returned[number] for number in followed]
        read = call.dependent[:1] if call.name in _SHAPED_LIKE_ANOTHER else call.dependent
        inputs: frozenset[int] = frozenset().union(
            *(
                self._everything if origin is None else origin.inputs
                for origin in map(origin_of, read)
            )
        )
        if call.name in _MIXES_CHANNELS and self.channels_as_places is None:
            self.channels_as_places = channels_as_places(call)
        rule = None if record is None else record.places
        found = output_places(call, returned, rule, partial(self._name, call.name))
        try:
            biases = self._biases(call, record, outputs, draws)
        except NoDerivativeError:
            self._leave_hidden(
                [(output, found[n]) for n, output in zip(followed, outputs, strict=True)], inputs
            )
            return
        for number, output, bias in zip(followed, outputs, biases, strict=True):
            self.precision = max(self.precision, torch.finfo(output.dtype).eps)
            given = found[number]
            set_origin(output, Origin(given, inputs, self._lifetime))
            self._hidden.see(output)
            if bias is None:
                continue
            if output.is_complex():
                bias, given = in_pairs(bias, output), places_in_pairs(given)
            self._await(output, given, inputs, bias, call.name)

    def _leave_hidden(self, outputs: list[tuple[Tensor, Places]], inputs: frozenset[int]) -> None:
        """What cannot be differentiated is a term by the gradients around it."""
        for output, given in outputs:
            try:
                self._found(output, self._modules.path)
            except (RuntimeError, NotImplementedError):
                # It has no gradient at all, as an index has none: torch says so if it needs one.
                set_origin(output, Origin(given, inputs, self._lifetime))
                self._hidden.see(output)

    def _await(
        self, output: Tensor, given: Places, inputs: frozenset[int], bias: Bias, name: str
    ) -> None:
        if self._pending is None:
            return
        self._old_values.are_read_by(bias)
        path, in_leaf = self._modules.path, self._modules.inside_leaf
        self._pending.await_gradient(output, PendingTerm(path, name, in_leaf, inputs, given, bias))

    def _biases(
        self,
        call: Call,
        record: Operation | None,
        outputs: list[Tensor],
        draws: RandomState | None,
    ) -> Sequence[Bias | None]:
        if self._pending is None:
            return [None] * len(outputs)
        if record is not None and record.bias is not None:
            try:
                biases = [record.bias(call, output) for output in outputs]
                if all(bias is None for bias in biases) or not any(map(torch.is_complex, outputs)):
                    return biases
            except NoRuleError:
                pass
        return bias_from_rule(call, outputs, draws)

    def _name(self, operation: str) -> str:
        path = self._modules.path
        return f"{path}:{operation}" if path else operation


def _has_closed_form(call: Call, record: Operation) -> bool:
    """Whether the bias of an in-place call has one; the one rule needs what it overwrites."""
    if record.bias is None:
        return False
    try:
        record.bias(call, call.args[0])
    except NoRuleError:
        return False
    return True


def _may_draw(call: Call) -> bool:
    return "dropout" in call.name or "attention" in call.name


_SHAPED_LIKE_ANOTHER = {"view_as", "reshape_as", "expand_as", "type_as", "to"}
"""Operations that read only the shape or the type of their second tensor."""

_MIXES_CHANNELS = {"linear", "conv1d", "conv2d", "conv3d"}

_RESHAPES_IN_PLACE = {"transpose", "t", "squeeze", "unsqueeze", "swapaxes", "swapdims"}


def _with_origin(tensor: Tensor, origin: Origin | None) -> Tensor:
    tensor.requires_grad_()
    if origin is not None:
        set_origin(tensor, origin)
    return tensor


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
    return tensor.clone() if tensor.requires_grad else tensor


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
