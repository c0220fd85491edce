"""Places after an operation that computes new values: elementwise, mixed, or on a new grid."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_tgrad.decomposition.call import Call, NoRuleError
from captum_tgrad.decomposition.origin import places_of
from captum_tgrad.decomposition.places.coordinates import (
    SAMPLES,
    Axis,
    Coordinates,
    coordinates,
    from_borders,
)
from captum_tgrad.decomposition.places.grid import Window, regridded
from captum_tgrad.decomposition.places.moving import moved
from captum_tgrad.decomposition.places.places import Places, mixed, places

Found = dict[Axis, list[Coordinates | None]]


def _collected(parts: Iterable[tuple[Axis, Coordinates | None]]) -> Found:
    found: Found = {}
    for axis, claim in parts:
        found.setdefault(axis, []).append(claim)
    return found


def _claims(tensor: Any) -> Iterable[tuple[Axis, Coordinates]]:
    given = places_of(tensor) if isinstance(tensor, Tensor) else None
    if given is not None:
        for axis, claims in given.claims.items():
            for claim in claims:
                yield axis, claim


def elementwise(call: Call, outputs: Sequence[Tensor]) -> list[Places]:
    """Element by element from all tensors, which broadcast."""
    rank = outputs[0].dim()
    if any(tensor.dim() > rank for tensor in call.tensors):
        raise NoRuleError
    found = _collected(
        (axis, claim.aligned(rank)) for tensor in call.tensors for axis, claim in _claims(tensor)
    )
    return [places(outputs[0].shape, found)] * len(outputs)


def like_first(call: Call, outputs: Sequence[Tensor]) -> list[Places]:
    """Element by element, or along a dimension, from the first tensor."""
    if any(output.shape != call.tensors[0].shape for output in outputs):
        raise NoRuleError
    return [places(outputs[0].shape, _collected(_claims(call.tensors[0])))] * len(outputs)


def along(call: Call, outputs: Sequence[Tensor]) -> list[Places]:
    """Each element depends on others along a dimension; samples along it are mixed."""
    dim = call.bound["dim"]
    (given, *_) = like_first(call, outputs)
    if dim is None:
        raise NoRuleError
    dim = dim % max(outputs[0].dim(), 1)
    claims = {
        axis: [c for c in own if axis.input != SAMPLES or dim not in c.dims]
        for axis, own in given.claims.items()
    }
    return [places(given.shape, claims)] * len(outputs)


def chosen(call: Call, outputs: Sequence[Tensor]) -> list[Places]:
    """``where``: if the alternatives are at different places, each element is where it came from."""
    rank = outputs[0].dim()
    found = {
        frozenset((axis, claim.aligned(rank)) for axis, claim in _claims(tensor))
        for tensor in call.dependent
    }
    return elementwise(call, outputs) if len(found) == 1 else moved(call, outputs)


def reduced(call: Call, outputs: Sequence[Tensor]) -> list[Places]:
    """Some dimensions are mixed, and then gone or of size 1."""
    bound, (output, *_) = call.bound, outputs
    tensor = bound["input"]
    if isinstance(bound.get("dim"), Tensor) or isinstance(bound.get("other"), Tensor):
        return elementwise(call, outputs)  # the larger of two tensors
    rank = tensor.dim()
    dim = bound["dim"]
    over = {dim} if isinstance(dim, int) else set(dim if dim else range(rank))
    over = {each % max(rank, 1) for each in over}
    keep = output.dim() == rank

    def without_dims(claim: Coordinates) -> Coordinates | None:
        shape = [size for d, size in enumerate(claim.index.shape) if d not in over]
        return coordinates(claim.index.reshape(shape), claim.cells)

    found = _collected(
        (axis, left if keep else without_dims(left))
        for axis, claim in _claims(tensor)
        for left in mixed(claim, over, axis)
    )
    return [places(output.shape, found)] * len(outputs)


def transformed(call: Call, outputs: Sequence[Tensor]) -> list[Places]:
    """A Fourier transform mixes whole dimensions."""
    tensor, (output,) = call.bound["input"], outputs
    dim = call.bound["dim"]
    rank = tensor.dim()
    over = [dim] if isinstance(dim, int) else list(range(rank) if dim is None else dim)
    over = [each % rank for each in over]
    found = _collected(
        (axis, left) for axis, claim in _claims(tensor) for left in mixed(claim, over, axis)
    )
    return [places(output.shape, found)]


def halved(call: Call, outputs: Sequence[Tensor]) -> list[Places]:
    """``glu``: the first half along a dimension with the second."""
    tensor, dim, (output,) = call.bound["input"], call.bound["dim"], outputs
    dim = dim % tensor.dim()
    return _contracted_halves(tensor, dim, output)


def _contracted_halves(tensor: Tensor, dim: int, output: Tensor) -> list[Places]:
    size = output.shape[dim]
    found: Found = {}
    for axis, claim in _claims(tensor):
        parts = [claim]
        if dim in claim.dims:
            halves = [claim.index.narrow(dim, start, size) for start in (0, size)]
            parts = [c for h in halves if (c := coordinates(h, claim.cells)) is not None]
        found.setdefault(axis, []).extend(parts)
    return [places(output.shape, found)]


def contracted(equation: str, tensors: Sequence[Any], output: Tensor) -> list[Places]:
    """The places of ``torch.einsum(equation, *tensors)``, without an ellipsis.

    What is summed over is mixed; each tensor's other coordinates stay with its letters.
    """
    left, right = equation.split("->")
    found: Found = {}
    for letters, tensor in zip(left.split(","), tensors, strict=True):
        for axis, claim in _claims(tensor):
            own = letters
            index: Tensor = claim.index
            for letter in [letter for letter in letters if letters.count(letter) > 1]:
                while own.count(letter) > 1:  # a diagonal
                    first = own.index(letter)
                    second = own.index(letter, first + 1)
                    size = max(index.shape[first], index.shape[second])
                    sizes = list(index.shape)
                    sizes[first] = sizes[second] = size
                    index = index.expand(sizes).diagonal(0, first, second)
                    own = own[:second] + own[second + 1 :]
                    own = own[:first] + own[first + 1 :] + letter
            whole = coordinates(index, claim.cells)
            summed = [d for d, letter in enumerate(own) if letter not in right]
            order = [own.index(letter) for letter in right if letter in own]
            rest = [d for d in range(len(own)) if d not in order]
            for kept in mixed(whole, summed, axis) if whole else ():
                size_of = dict(zip(own, kept.index.shape, strict=True))
                arranged = kept.index.permute([*order, *rest])
                arranged = arranged.reshape([size_of.get(letter, 1) for letter in right])
                found.setdefault(axis, []).append(coordinates(arranged, kept.cells))
    return [places(output.shape, found)]


_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def linear(call: Call, outputs: Sequence[Tensor]) -> list[Places]:
    """The last dimension is mixed."""
    tensor, (output,) = call.bound["input"], outputs
    batch = _LETTERS[: tensor.dim() - 1]
    return contracted(f"{batch}y->{batch}z", [tensor], output)


def matmul(call: Call, outputs: Sequence[Tensor]) -> list[Places]:
    """Rows of the left with columns of the right; dimensions in front broadcast."""
    left, right = call.bound["input"], call.bound["other"]
    (output,) = outputs
    if call.name == "rmatmul":
        left, right = right, left
    count = max(left.dim(), right.dim(), 2) - 2
    batch = _LETTERS[:count]

    def letters(tensor: Tensor, row: str, column: str, vector: str) -> str:
        own = vector if tensor.dim() == 1 else row + column
        return batch[count - max(tensor.dim() - 2, 0) :] + own

    first, second = letters(left, "x", "y", "y"), letters(right, "y", "z", "y")
    result = batch + "x" * (left.dim() > 1) + "z" * (right.dim() > 1)
    return contracted(f"{first},{second}->{result}", [left, right], output)


def outer(call: Call, outputs: Sequence[Tensor]) -> list[Places]:
    """Each element of the one with each of the other."""
    return contracted("a,b->ab", [call.bound["input"], call.bound["other"]], outputs[0])


def bilinear(call: Call, outputs: Sequence[Tensor]) -> list[Places]:
    """The last dimensions of both are mixed."""
    one, other = call.bound["input1"], call.bound["input2"]
    batch = _LETTERS[: one.dim() - 1]
    return contracted(f"{batch}x,{batch}y->{batch}z", [one, other], outputs[0])


def tensordot(call: Call, outputs: Sequence[Tensor]) -> list[Places]:
    """Several dimensions of both are mixed, the others follow each other."""
    one, other, dims = call.bound["a"], call.bound["b"], call.bound["dims"]
    if isinstance(dims, int):
        dims = (range(one.dim() - dims, one.dim()), range(dims))
    if isinstance(dims, Tensor):
        dims = dims.tolist()
    first, second = ([each] if isinstance(each, int) else list(each) for each in dims)
    left = list(_LETTERS[: one.dim()])
    right = list(_LETTERS[one.dim() : one.dim() + other.dim()])
    for i, j in zip(first, second, strict=True):
        right[j] = left[i]
    shared = set(left) & set(right)
    result = [letter for letter in [*left, *right] if letter not in shared]
    equation = f"{''.join(left)},{''.join(right)}->{''.join(result)}"
    return contracted(equation, [one, other], outputs[0])


def einsum(call: Call, outputs: Sequence[Tensor]) -> list[Places]:
    """Letters as they are given; an ellipsis becomes letters of its own."""
    equation, *operands = call.args
    if not isinstance(equation, str):
        raise NoRuleError
    if len(operands) == 1 and isinstance(operands[0], (tuple, list)):
        operands = list(operands[0])
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    spare = [letter for letter in _LETTERS + _LETTERS.upper() if letter not in equation]
    widest = max(t.dim() - len(s.replace("...", "")) for s, t in zip(terms, operands, strict=True))
    dots = spare[: max(widest, 0)]
    expanded = []
    for term, tensor in zip(terms, operands, strict=True):
        count = tensor.dim() - len(term.replace("...", ""))
        expanded.append(term.replace("...", "".join(dots[len(dots) - count :])))
    if not arrow:
        joined = "".join(terms).replace("...", "")
        right = "..." * ("..." in left) + "".join(sorted(c for c in joined if joined.count(c) == 1))
    right = right.replace("...", "".join(dots))
    return contracted(f"{','.join(expanded)}->{right}", operands, outputs[0])


def attention(call: Call, outputs: Sequence[Tensor]) -> list[Places]:
    """The queries' tokens; keys and values are mixed."""
    query, key, value = (call.bound[name] for name in ("query", "key", "value"))
    (output,) = outputs
    if not query.dim() == key.dim() == value.dim():
        raise NoRuleError
    batch = _LETTERS[: query.dim() - 2]
    equation = f"{batch}wx,{batch}yx,{batch}yz->{batch}wz"
    return contracted(equation, [query, key, value], output)


def recurrent(call: Call, outputs: Sequence[Tensor]) -> list[Places]:
    """Each step of the output is at its step; features are mixed, and the last state is of all."""
    tensor, states, batch_first = call.args[0], call.args[1], bool(call.args[-1])
    states = [states] if isinstance(states, Tensor) else list(states)
    if tensor.dim() != 3 or (isinstance(states[0], Tensor) and states[0].dim() != 3):
        raise NoRuleError
    own = ("nsx" if batch_first else "snx", *["lny"] * len(states))
    operands = [tensor, *states]
    sequence = "nsz" if batch_first else "snz"
    results = (sequence, *["knz"] * (len(outputs) - 1))
    return [
        contracted(f"{','.join(own)}->{letters}", operands, output)[0]
        for letters, output in zip(results, outputs, strict=True)
    ]


def cell(call: Call, outputs: Sequence[Tensor]) -> list[Places]:
    """One step of a recurrent network: features are mixed."""
    tensors = [t for t in call.tensors if places_of(t) is not None]
    batch = _LETTERS[: outputs[0].dim() - 1]
    equation = ",".join([batch + "x"] * len(tensors)) + f"->{batch}z"
    return contracted(equation, tensors, outputs[0]) * len(outputs)


def new_grid(call: Call, outputs: Sequence[Tensor]) -> list[Places]:
    """A convolution, a pooling or a resizing: channels are mixed by a convolution alone."""
    bound, (output, *_) = call.bound, outputs
    tensor = bound["input"]
    rank = rank_of(call.name) or output.dim() - 2
    lead = output.dim() - rank
    windows = _windows(call, rank)
    channel = lead - 1
    found: Found = {}
    for axis, claim in _claims(tensor):
        parts: list[Coordinates] = [claim]
        if call.name.startswith("conv"):
            parts = _in_groups(claim, channel, bound["groups"], output.shape[channel], axis)
        for part in parts:
            left: Coordinates | None = part
            for position in range(rank):
                if left is not None:
                    size = output.shape[lead + position]
                    left = regridded(left, lead + position, size, windows[position], axis)
            found.setdefault(axis, []).append(left)
    return [places(output.shape, found)] * len(outputs)


def _in_groups(
    claim: Coordinates, channel: int, groups: int, channels: int, axis: Axis
) -> list[Coordinates]:
    """Channels are mixed within each group."""
    if channel not in claim.dims or groups == 1:
        return mixed(claim, [channel], axis)
    shape = list(claim.index.shape)
    split = claim.index.reshape([*shape[:channel], groups, -1, *shape[channel + 1 :]])
    inside = Coordinates(split, claim.cells)
    parts = []
    for left in mixed(inside, [channel + 1], axis):
        index = left.index.squeeze(channel + 1)
        if channel in left.dims:
            index = index.repeat_interleave(channels // groups, channel)
        if (part := coordinates(index, left.cells)) is not None:
            parts.append(part)
    return parts


def channels_as_places(call: Call) -> tuple[Axis, Axis] | None:
    """The axis of an input that counts as channels but is kept, and the one that is mixed instead.

    A convolution and a linear layer mix channels. Where they mix a spatial axis of an input and keep
    its channels apart, the network takes the one for the other.
    """
    tensor = call.tensors[0]
    claims = list(_claims(tensor))
    if all(axis.is_place or axis.extent == 1 for axis, _ in claims):
        return None
    dim = tensor.dim() - (1 if call.name == "linear" else rank_of(call.name) + 1)
    for axis, claim in claims:
        if axis.is_place or not claim.dims or dim in claim.dims:
            continue
        for other, own in claims:
            if other.is_place and other.input == axis.input and own.dims == (dim,):
                return axis, other
    return None


def rank_of(operation: str) -> int:
    """The number of spatial dimensions that an operation is named after; 0 if it is not."""
    return next((int(character) for character in operation if character.isdigit()), 0)


def _windows(call: Call, rank: int) -> Sequence[Window | None]:
    """What each cell of a convolution or a pooling sees; None where that is not known."""
    bound = call.bound
    if call.name in ("conv1d", "conv2d", "conv3d"):
        kernel: Any = tuple(bound["weight"].shape[2:])
    elif call.name.startswith(("max_pool", "avg_pool")):
        kernel = bound["kernel_size"]
    elif call.name.startswith("conv_transpose"):
        kernel = tuple(bound["weight"].shape[2:])
    else:
        return [None] * rank
    stride = bound["stride"] or kernel
    padding = bound["padding"]
    kernel, stride, dilation = (
        _each(option, rank) for option in (kernel, stride, bound.get("dilation", 1))
    )
    if isinstance(padding, str):  # "same": as much on both sides as keeps the size
        padding = tuple(
            (size - 1) * step / 2 if padding == "same" else 0
            for size, step in zip(kernel, dilation, strict=True)
        )
    windows = []
    sizes = zip(kernel, stride, _each(padding, rank), dilation, strict=True)
    for size, jump, pad, step in sizes:
        reach = (size - 1) * step / 2 - pad
        if call.name.startswith("conv_transpose"):
            windows.append(Window(-reach / jump, 1 / jump))
        else:
            windows.append(Window(reach, jump))
    return windows


def _each(option: Any, rank: int) -> tuple[float, ...]:
    """An option of each dimension, where one number stands for all."""
    if isinstance(option, (int, float)):
        return (option,) * rank
    return tuple(option) * rank if len(option) == 1 else tuple(option)


def folded(call: Call, outputs: Sequence[Tensor]) -> list[Places]:
    """``torch.nn.functional.fold``: each element is in the mean cell of those that it sums."""
    bound, (output,) = call.bound, outputs
    tensor = bound["input"]
    options = {
        key: bound[key] for key in ("output_size", "kernel_size", "dilation", "padding", "stride")
    }

    def move(axis: Axis, claim: Coordinates) -> Coordinates | None:
        if not claim.dims:
            return coordinates(claim.index.reshape([1] * output.dim()), claim.cells)
        low, high = (border.expand(tensor.shape) for border in claim.borders())
        has = claim.index.expand(tensor.shape) > 0
        count = F.fold(has.double(), **options)
        first, last = (
            torch.where(count > 0, F.fold(torch.where(has, b, 0), **options) / count, empty)
            for b, empty in ((low, torch.inf), (high, -torch.inf))
        )
        return from_borders(first, last, axis)

    found = _collected((axis, move(axis, claim)) for axis, claim in _claims(tensor))
    return [places(output.shape, found)]


def resized(call: Call, outputs: Sequence[Tensor]) -> list[Places]:
    """Resizing: the new cells cover the old ones evenly."""
    tensor, (output,) = call.args[0] if call.args else call.kwargs["input"], outputs
    found: Found = {}
    for axis, claim in _claims(tensor):
        left: Coordinates | None = claim
        for dim in range(2, output.dim()):
            if left is not None:
                left = regridded(left, dim, output.shape[dim], None, axis)
        found.setdefault(axis, []).append(left)
    return [places(output.shape, found)]
