"""Finds the places of a call's results, by the rule of its operation or by running it again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from captum_tgrad.decomposition.call import PLAIN, Call, NoRuleError, map_tensors, tensors_in
from captum_tgrad.decomposition.places import mixing_places as mixing
from captum_tgrad.decomposition.places.bounded_cache import BoundedCache
from captum_tgrad.decomposition.places.contraction import has_zeros
from captum_tgrad.decomposition.places.coordinates import Axis, Coordinates
from captum_tgrad.decomposition.places.elementwise import like_first
from captum_tgrad.decomposition.places.grid_operations import pooled
from captum_tgrad.decomposition.places.masked import places_in_sums
from captum_tgrad.decomposition.places.mixed_elements import ScatteredError, mixed
from captum_tgrad.decomposition.places.origin import claims_of, places_of
from captum_tgrad.decomposition.places.picking import BY_VALUE
from captum_tgrad.decomposition.places.places import Places, has_places, lost_places, places
from captum_tgrad.decomposition.random_state import lock

FoundPlaces = tuple[Places, bool]
"""The known places of an output, and whether they are complete."""

_known: BoundedCache[tuple[list[FoundPlaces], bool | None]] = BoundedCache(
    lambda known: sum(claim.index.numel() for given, _ in known[0] for _, claim in given.pairs)
)
"""The places of outputs by call, and whether they hold for dense constant matrices only."""
_SUMS = {
    mixing.reduced, mixing.linear, mixing.added_product, mixing.inner, mixing.matmul,
    mixing.distances, mixing.outer, mixing.bilinear, mixing.tensordot, mixing.einsum,
    mixing.attention, pooled,
}  # fmt: skip
"""Rules that leave out masked elements."""
_MOST_ELEMENTS = 2**22  # of the tensors of a call whose places are found by trying


def output_places(call: Call, outputs: Sequence[Tensor], where: Callable[[], str]) -> list[Places]:
    """The places of each differentiable output of a call.

    Args:
        call: The call, with its arguments as they were before it ran.
        outputs: Its differentiable outputs.
        where: Returns the name of the operation, for messages that it loses places.
    """
    if call.record.places is like_first:  # nothing to look up
        try:
            return like_first(call, outputs)
        except NoRuleError:
            pass
    key = None if call.record.places in BY_VALUE else _key(call)
    found, call.is_dense = (None if key is None else _known.get(key)) or (None, None)
    if found is None or (call.is_dense and any(map(has_zeros, call.constant))):
        with torch.no_grad():
            found, by_rule = _found(call)
        # Places that were found by trying also depend on the values of constants.
        if key is not None and call.is_dense is not False and (by_rule or not call.constant):
            _known.put(key, (found, call.is_dense))
    return [
        given if complete else _lost(call, output, given, where)
        for (given, complete), output in zip(found, call.returned, strict=True)
        if output.requires_grad
    ]


def _key(call: Call) -> object | None:
    """A key of everything that the places depend on; None if they depend on a constant's values."""
    parts: list[object] = [call.func]
    try:
        _freeze(call.args, parts)
        if call.kwargs:
            _freeze(call.kwargs, parts)
        parts += [output.shape for output in call.returned]
        if call.record.places in _SUMS:
            parts += [places_in_sums(tensor, range(tensor.dim())) for tensor in call.dependent]
        key = tuple(parts)
        hash(key)
    except (TypeError, RuntimeError):  # an argument that cannot be hashed, or a nested tensor
        return None
    return key


def _freeze(values: Any, parts: list[object]) -> None:
    """Appends what identifies arguments: for a tensor its places, or that it is a constant."""
    for value in values.items() if isinstance(values, dict) else values:
        kind = type(value)
        if kind in PLAIN:
            parts += (kind, value)  # 1, 1.0 and True are equal
        elif kind is tuple and PLAIN.issuperset(kinds := tuple(map(type, value))):
            parts += (kinds, value)
        elif isinstance(value, Tensor):
            given = places_of(value)
            if given is None and not value.is_floating_point():
                raise TypeError("its values may be indices")
            parts.append(value.shape if given is None else given)
        elif isinstance(value, (tuple, list, dict)):
            parts += (kind, len(value))
            _freeze(value, parts)
        elif isinstance(value, slice):
            parts.append(slice)
            _freeze((value.start, value.stop, value.step), parts)
        else:
            parts += (kind, value)


def _found(call: Call) -> tuple[list[FoundPlaces], bool]:
    outputs = call.returned
    if call.record.places is not None:
        try:
            found = call.record.places(call, outputs)
        except (NoRuleError, RuntimeError, IndexError):  # it may not run on coordinates
            found = []
        if [given.shape for given in found] == [tuple(output.shape) for output in outputs]:
            return [(given, True) for given in found], True
    return _tried(call, outputs), False


def _lost(call: Call, output: Tensor, kept: Places, where: Callable[[], str]) -> Places:
    widest = max(tensor.dim() for tensor in call.dependent)
    spread = sum(size != 1 for size in output.shape) > 2 or output.dim() >= widest
    had = any(given is not None and has_places(given) for given in map(places_of, call.dependent))
    if had and spread and output.dim() > 1:
        return lost_places(output.shape, kept, where())
    return kept


def _tried(call: Call, outputs: Sequence[Tensor]) -> list[FoundPlaces]:
    """Finds the dimensions along which an operation keeps places, or whether it moves elements.

    An operation that commutes with every permutation of a dimension keeps the places along it. An
    operation that maps the numbers of its elements to numbers of its elements moves them.
    """
    nothing: list[FoundPlaces] = [(places(output.shape), False) for output in outputs]
    if sum(tensor.numel() for tensor in call.tensors) > _MOST_ELEMENTS:
        return nothing
    if (
        call.name == "as_strided"
    ):  # it depends on the layout of memory, which test values do not have
        return nothing
    generator = torch.Generator().manual_seed(0)
    values = {
        id(t): torch.rand(t.shape, generator=generator, dtype=torch.float64, device="cpu")
        .add_(0.1)
        .to(t)
        for t in call.dependent
    }
    before = _run(call, lambda t: values.get(id(t), t))
    if before is None or len(before) != len(outputs):
        return nothing
    found: list[FoundPlaces] = []
    for position, output in enumerate(outputs):
        numbers = output.is_floating_point() or output.is_complex()
        if not numbers or before[position].shape != output.shape:
            found.append(nothing[position])
            continue
        given, complete = _commuting(call, position, before[position], values, generator)
        moved = None if complete else _moving(call, position, before[position], values)
        found.append((moved, True) if moved else (given, complete))
    return found


def _run(call: Call, replace: Callable[[Tensor], Tensor]) -> list[Tensor] | None:
    args, kwargs = map_tensors(
        (call.args, call.kwargs), lambda tensor: replace(tensor).detach().clone()
    )
    with lock, torch.random.fork_rng([]):
        torch.default_generator.manual_seed(0)
        try:
            result = call.func(*args, **kwargs)
        except Exception:  # any operation may reject test values
            return None
    return tensors_in(args[0] if result is None else result)


def _commuting(
    call: Call,
    position: int,
    before: Tensor,
    values: dict[int, Tensor],
    generator: torch.Generator,
) -> FoundPlaces:
    """Keeps the claims along dimensions whose permutations commute with the operation.

    If the output has fewer dimensions, the others have been mixed.
    """
    rank = max(tensor.dim() for tensor in call.dependent)
    fewer = rank - before.dim()
    if fewer < 0:
        return places(before.shape), False
    pairs = (pair for tensor in call.dependent for pair in claims_of(tensor))
    claims = [(axis, claim.aligned(rank)) for axis, claim in pairs]

    def commutes(dim: int, result: int, by_left: bool) -> bool:
        size = before.shape[result]
        sizes = {t.shape[dim - rank] for t in call.dependent if t.dim() >= rank - dim}
        if not sizes <= {1, size}:
            return False
        for order in (
            torch.arange(size, device="cpu").flip(0),
            torch.randperm(size, generator=generator, device="cpu"),
        ):

            def permuted(tensor: Tensor, order: Tensor = order) -> Tensor:
                missing = rank - tensor.dim()
                own = dim if by_left else dim - missing
                indexes = not (tensor.is_floating_point() or tensor.dtype == torch.bool)
                if missing and indexes and not by_left and not tensor.is_complex():
                    return tensor  # indices that broadcast are not aligned with what they index
                return _permuted(values.get(id(tensor), tensor), own, order)

            after = _run(call, permuted)
            if after is None or len(after) <= position or after[position].shape != before.shape:
                return False
            expected = before.index_select(result, order.to(before.device))
            if not _alike(after[position], expected):
                return False
        return True

    to: dict[int, int] = {}
    for dim in {dim for _, claim in claims for dim in claim.dims}:
        candidates = range(max(dim - fewer, 0), min(dim, before.dim() - 1) + 1)
        # Arguments with fewer dimensions are aligned with the last dimensions or with the first.
        found = [
            result
            for result in candidates
            if commutes(dim, result, by_left=False) or commutes(dim, result, by_left=True)
        ]
        if len(found) == 1:
            to[dim] = found[0]
    kept: list[tuple[Axis, Coordinates | None]] = []
    complete = True
    for axis, claim in claims:
        gone = [dim for dim in claim.dims if dim not in to]
        if gone and not fewer:
            complete = complete and not axis.is_place
            continue
        try:
            parts = mixed(claim, gone, axis)
        except ScatteredError:
            complete = False
            continue
        for left in parts:
            shape = [1] * before.dim()
            for dim in left.dims:
                shape[to[dim]] = left.index.shape[dim]
            kept.append((axis, left.moved(left.index.reshape(shape))))
    return places(before.shape, kept), complete


def _permuted(tensor: Tensor, dim: int, order: Tensor) -> Tensor:
    """A tensor with another order along a dimension, if it has that dimension."""
    if not 0 <= dim < tensor.dim() or tensor.shape[dim] != len(order):
        return tensor
    return tensor.index_select(dim, order.to(tensor.device))


def _alike(one: Tensor, other: Tensor) -> bool:
    tolerance = torch.finfo(one.dtype).eps ** 0.5
    return torch.allclose(one, other, rtol=tolerance, atol=tolerance, equal_nan=True)


def _moving(call: Call, position: int, before: Tensor, values: dict[int, Tensor]) -> Places | None:
    if len(call.dependent) != 1 or call.dependent[0].numel() >= 2**24:
        return None
    (source,) = call.dependent
    given = places_of(source)
    numbers = torch.arange(1, source.numel() + 1, device="cpu").reshape(source.shape).to(source)
    after = _run(call, lambda t: numbers if t is source else t)
    if after is None or len(after) <= position or given is None:
        return None
    number = after[position].cpu()
    number = (number.real if number.is_complex() else number).double()
    index = number.nan_to_num(-1).round().long()
    if not bool(((number == index) & (index >= 0) & (index <= source.numel())).all()):
        return None
    own = torch.cat(
        [torch.zeros(1, device="cpu").to(before), values[id(source)].flatten().to(before)]
    )
    if not torch.equal(own[index.to(own.device)], before):
        return None

    def move(claim: Coordinates) -> Coordinates | None:
        flat = claim.index.expand(source.shape).reshape(-1)
        return claim.moved(torch.cat([flat.new_zeros(1), flat])[index])

    return places(before.shape, [(axis, move(claim)) for axis, claim in given.pairs])
