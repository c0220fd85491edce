"""Places after recurrent layers and cells: each state has the place of its step."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from captum_tgrad.decomposition.call import Call, NoRuleError
from captum_tgrad.decomposition.nested import tensors_in
from captum_tgrad.decomposition.places.coordinates import SAMPLES, OnAxis
from captum_tgrad.decomposition.places.movement import places_after, without_fill
from captum_tgrad.decomposition.places.origin import coordinates_of
from captum_tgrad.decomposition.places.places import Places, make_places
from captum_tgrad.decomposition.places.rules.contraction import contracted
from captum_tgrad.decomposition.places.rules.elementwise import samples_mixed_along


def layer(call: Call) -> list[Places]:
    """Places after a layer. With several layers or directions, last states belong to all steps."""
    if len(call.args) != 9 or not isinstance(call.args[2], (list, tuple)):
        raise NoRuleError
    x, states = call.args[:2]
    layers, both, batch_first = call.args[4], call.args[7], call.args[8]
    states = tensors_in(states)
    if x.dim() != 3 or any(state.dim() != 3 for state in states):
        raise NoRuleError
    own = ["nsx" if batch_first else "snx", *["lny"] * len(states)]
    sequence = "nsz" if batch_first else "snz"
    y = _of_steps(call, own, sequence, [x, *states], call.returned[0])
    if layers != 1 or both:
        return [
            y, *(_of_steps(call, own, "knz", [x, *states], output) for output in call.returned[1:])
        ]  # fmt: skip

    def select(indices: list[Tensor]) -> list[Tensor]:
        return [indices[0][:, -1:].transpose(0, 1) if batch_first else indices[0][-1:]]

    (last,) = places_after(select, [call.returned[0]], [y])
    return [y, *(make_places(output.shape, last.pairs) for output in call.returned[1:])]


def cell(call: Call) -> list[Places]:
    """Places after a cell."""
    tensors = call.dependent
    batch = "n" if call.returned[0].dim() == 2 else ""
    found = _of_steps(call, [f"{batch}x"] * len(tensors), f"{batch}z", tensors, call.returned[0])
    return [found] * len(call.returned)


def packed(call: Call) -> list[Places]:
    """Places after ``pack_padded_sequence`` or ``pad_packed_sequence``."""
    _, *options = without_fill(call).args
    found = places_after(lambda t: [call.func(t[0], *options)[0]], call.tensors[:1])
    lengths = call.returned[1:]  # have no place
    return [*found, *(make_places(each.shape) for each in lengths)]


def _of_steps(
    call: Call, letters: Sequence[str], result: str, tensors: Sequence[Tensor], output: Tensor
) -> Places:
    """The places of the inputs and, on axes where these have none, of the first states.

    A state depends on all steps so far. Like an output of attention, it gets only its own place.
    """
    coordinates: list[OnAxis] = []
    for own, tensor in zip(letters, tensors, strict=True):
        known = {axis for axis, _ in coordinates if axis.input != SAMPLES}
        if all(
            axis in known or (axis, coords) in coordinates
            for axis, coords in coordinates_of(tensor)
        ):
            continue  # it adds nothing
        (found,) = contracted(call, f"{own}->{result}", [tensor], output)
        coordinates += [(axis, coords) for axis, coords in found.pairs if axis not in known]
    steps = [result.index("s")] if "s" in result else []
    return samples_mixed_along(make_places(output.shape, coordinates, of_several=True), steps)
