"""Finds the places of the outputs of an operation without a rule, by running it on test values.

The test values are random numbers or, if it rejects these, the values of its arguments.

An operation that commutes with every permutation of a dimension keeps the places along it. An
operation that maps the numbers of its elements to numbers of its elements moves them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from captum_tgrad._support.random_state import lock
from captum_tgrad.decomposition.call import Call
from captum_tgrad.decomposition.nested import map_tensors, tensors_in
from captum_tgrad.decomposition.places.coordinates import SAMPLES
from captum_tgrad.decomposition.places.movement import places_after
from captum_tgrad.decomposition.places.origin import coordinates_of, places_of_all
from captum_tgrad.decomposition.places.places import Pair, Places, make_places, samples_mixed
from captum_tgrad.decomposition.places.spans import ScatteredError
from captum_tgrad.decomposition.places.sums import mixed

FoundPlaces = tuple[Places, bool]
"""The known places of an output, and whether they are complete."""

_MOST_ELEMENTS = 2**22  # of the tensors of a call


def places_from_trial_runs(call: Call) -> list[FoundPlaces]:
    """The places of each output, as far as test runs of the call show them."""
    outputs = call.returned
    sources = places_of_all(call.dependent)
    nothing: list[FoundPlaces] = [(samples_mixed(y.shape, sources), False) for y in outputs]
    if sum(tensor.numel() for tensor in call.tensors) > _MOST_ELEMENTS:
        return nothing
    is_sparse = any(tensor.layout != torch.strided for tensor in (*call.tensors, *outputs))
    if is_sparse or call.name == "as_strided":  # test values have another layout in memory
        return nothing
    generator = torch.Generator().manual_seed(0)
    values = {
        id(t): torch.rand(t.shape, generator=generator, dtype=torch.float64, device="cpu")
        .add_(0.1)
        .to(t)
        for t in call.dependent
    }
    before = _run(call, lambda t: values.get(id(t), t))
    if before is None:  # such as a Cholesky decomposition, which needs positive definite matrices
        values = {id(t): t.detach() for t in call.dependent}
        before = _run(call, lambda t: t)
    if before is None or len(before) != len(outputs):
        return nothing
    found: list[FoundPlaces] = []
    for position, (output, value) in enumerate(zip(outputs, before, strict=True)):
        has_places = output.is_floating_point() or output.is_complex()
        if not has_places or value.shape != output.shape:
            found.append(nothing[position])
            continue
        trial = _Trial(call, position, values, value, generator)
        places, complete = trial.kept() or nothing[position]
        moved = None if complete else trial.moved()
        found.append((moved, True) if moved else (places, complete))
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


class _Trial(NamedTuple):
    """Test runs that find the places of one output of a call.

    Args:
        call: The call.
        position: The position of the output.
        values: The test values of the arguments that depend on the input, by their ``id``.
        before: The output for these values.
        generator: Makes random permutations.
    """

    call: Call
    position: int
    values: dict[int, Tensor]
    before: Tensor
    generator: torch.Generator

    def run(self, replace: Callable[[Tensor], Tensor]) -> Tensor | None:
        """The output for other arguments; None if it has another shape or the call fails."""
        outputs = _run(self.call, replace)
        if outputs is None or len(outputs) <= self.position:
            return None
        output = outputs[self.position]
        return output if output.shape == self.before.shape else None

    def kept(self) -> FoundPlaces | None:
        """Keeps the coordinates along dimensions whose permutations commute with the operation.

        Others may have been mixed, if the output does not have them. None if it has more.
        """
        before, dependent = self.before, self.call.dependent
        rank = max(tensor.dim() for tensor in dependent)
        fewer = rank - before.dim()
        if fewer < 0:
            return None
        pairs = (pair for tensor in dependent for pair in coordinates_of(tensor))
        coordinates = [(axis, coords.aligned(rank)) for axis, coords in pairs]
        to: dict[int, int] = {}
        summed: set[int] = set()
        for dim in {dim for _, coords in coordinates for dim in coords.dims}:
            candidates = range(max(dim - fewer, 0), min(dim, before.dim() - 1) + 1)
            found = [result for result in candidates if self._commutes(rank, dim, result)]
            if len(found) == 1:
                to[dim] = found[0]
            elif (fewer or before.shape[dim] == 1) and self._mixes(rank, dim):
                summed.add(dim)
        results = list(to.values())  # two may agree for test values that make all results equal
        to = {dim: result for dim, result in to.items() if results.count(result) == 1}
        kept: list[Pair] = []
        complete = True
        for axis, coords in coordinates:
            gone = [dim for dim in coords.dims if dim not in to]
            if not summed.issuperset(gone) and axis.input != SAMPLES:
                complete = complete and not axis.is_place
                continue
            try:
                parts = mixed(coords, gone, axis)
            except ScatteredError:
                complete = False
                continue
            for left in parts:
                shape = [1] * before.dim()
                for dim in left.dims:
                    shape[to[dim]] = left.index.shape[dim]
                kept.append((axis, left.moved(left.index.reshape(shape))))
        return make_places(before.shape, kept, of_several=len(dependent) > 1), complete

    def _mixes(self, rank: int, dim: int) -> bool:
        """Whether the operation adds up a dimension, or is as a sum of it.

        Its result stays the same if the elements are reordered, or changes in most places if the
        first, the middle or the last one changes; a single one could be the one that is picked.
        """

        def run(change: Callable[[Tensor, int], Tensor]) -> Tensor | None:
            def changed(tensor: Tensor) -> Tensor:
                value, own = self.values.get(id(tensor)), dim - rank + tensor.dim()
                if value is None or own < 0 or value.shape[own] < 2:
                    return tensor if value is None else value
                return change(value, own)

            return self.run(changed)

        def is_read(at: float) -> bool:
            after = run(
                lambda t, own: t.index_fill(
                    own, torch.tensor(int(at * (t.shape[own] - 1)), device=t.device), 2
                )
            )
            return after is not None and float((after != self.before).double().mean()) > 0.5

        if all(map(is_read, (0, 0.5, 1))):
            return True
        reordered = (run(lambda t, own: t.flip(own)), run(lambda t, own: t.roll(1, own)))
        return all(
            after is not None and torch.allclose(after, self.before, equal_nan=True)
            for after in reordered
        )

    def _commutes(self, rank: int, dim: int, result: int) -> bool:
        """Whether permutations of a dimension permute a dimension of the result.

        Tensors of fewer than ``rank`` dimensions are aligned with the last ones or the first ones.
        """
        size = self.before.shape[result]
        sizes = {t.shape[dim - rank] for t in self.call.dependent if t.dim() >= rank - dim}
        if not sizes <= {1, size}:
            return False
        orders = (
            torch.arange(size, device="cpu").flip(0),
            torch.randperm(size, generator=self.generator, device="cpu"),
        )
        return any(
            all(self._commutes_with(order, rank, dim, result, at_first) for order in orders)
            for at_first in (False, True)
        )

    def _commutes_with(
        self, order: Tensor, rank: int, dim: int, result: int, at_first: bool
    ) -> bool:
        def permuted(tensor: Tensor) -> Tensor:
            missing = rank - tensor.dim()
            own = dim if at_first else dim - missing
            is_number = tensor.is_floating_point() or tensor.is_complex()
            if missing and not at_first and not is_number and tensor.dtype != torch.bool:
                return tensor  # indices that broadcast are not aligned with what they index
            value = self.values.get(id(tensor), tensor)
            if not 0 <= own < value.dim() or value.shape[own] != len(order):
                return value
            return value.index_select(own, order.to(value.device))

        after = self.run(permuted)
        if after is None:
            return False
        expected = self.before.index_select(result, order.to(after.device))
        tolerance = torch.finfo(after.dtype).eps ** 0.5
        return torch.allclose(after, expected, rtol=tolerance, atol=tolerance, equal_nan=True)

    def moved(self) -> Places | None:
        """The places of moved elements; None if the operation computes new values."""
        if len(self.call.dependent) != 1:
            return None
        (source,) = self.call.dependent
        numbers = torch.arange(1, source.numel() + 1, device="cpu").reshape(source.shape).to(source)
        after = self.run(lambda t: numbers if t is source else t)
        if after is None:
            return None
        number = after.cpu()
        number = (number.real if number.is_complex() else number).double()
        index = number.nan_to_num(-1).round().long()
        if not bool(((number == index) & (index >= 0) & (index <= source.numel())).all()):
            return None

        def run(values: list[Tensor]) -> list[Tensor]:
            flat = values[0].flatten()
            return [torch.cat([flat.new_zeros(1), flat])[index.to(flat.device)]]

        (expected,) = run([self.values[id(source)].to(self.before)])
        return places_after(run, [source])[0] if torch.equal(expected, self.before) else None
