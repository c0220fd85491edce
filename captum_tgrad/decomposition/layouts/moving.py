"""Layouts of what operations that move, select and join elements return."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from captum_tgrad.decomposition.call import Call, tensors_in
from captum_tgrad.decomposition.layouts.dim import Dim
from captum_tgrad.decomposition.layouts.layout import Layout, UnknownLayoutError, broadcast, reshape
from captum_tgrad.decomposition.layouts.origin import layout_of, origin_of


def reshaped(call: Call, output: Tensor) -> Layout:
    """The elements in row-major order, cut anew."""
    return reshape(layout_of(call.args[0]), output.shape)


def permuted(call: Call, output: Tensor) -> Layout:
    """The dimensions in the order that is given."""
    layout = layout_of(call.args[0])
    return tuple(layout[dim] for dim in call.sizes(1, "dims"))


def transposed(call: Call, output: Tensor) -> Layout:
    """Two dimensions change places."""
    dims = list(layout_of(call.args[0]))
    first = call.argument(1, "dim0", call.kwargs.get("axis0", 0))
    second = call.argument(2, "dim1", call.kwargs.get("axis1", 1))
    dims[first], dims[second] = dims[second], dims[first]
    return tuple(dims)


def reversed_dims(call: Call, output: Tensor) -> Layout:
    """All dimensions in reverse order (``x.T``)."""
    return tuple(reversed(layout_of(call.args[0])))


def matrix_transposed(call: Call, output: Tensor) -> Layout:
    """The last two dimensions change places."""
    *batch, row, column = layout_of(call.args[0])
    return (*batch, column, row)


def moved_dim(call: Call, output: Tensor) -> Layout:
    """Some dimensions go elsewhere; the others keep their order."""
    layout = layout_of(call.args[0])
    source, destination = (
        [given] if isinstance(given, int) else list(given)
        for given in (call.argument(1, "source"), call.argument(2, "destination"))
    )
    moved = [dim % len(layout) for dim in source]
    rest = iter([dim for dim in range(len(layout)) if dim not in moved])
    order = {to % len(layout): dim for to, dim in zip(destination, moved, strict=True)}
    return tuple(
        layout[order[position] if position in order else next(rest)]
        for position in range(len(layout))
    )


def indexed(call: Call, output: Tensor) -> Layout:
    """Integers, slices, ``None`` and ``...``; not what an index tensor selects."""
    layout, index = layout_of(call.args[0]), call.args[1]
    index = as_tuple(index)
    if not all(item is None or item is ... or type(item) in (int, slice) for item in index):
        raise UnknownLayoutError
    used = sum(item is not None and item is not ... for item in index)
    if ... not in index:
        index = (*index, ...)
    dims: list[Dim] = []
    source = iter(layout)
    for item in index:
        if item is None:
            dims.append(Dim.channel(1))
        elif item is ...:
            dims += [next(source) for _ in range(len(layout) - used)]
        elif isinstance(item, slice):
            dim = next(source)
            start, _, step = item.indices(dim.size)
            dims.append(dim.sliced(start, len(range(*item.indices(dim.size))), step))
        else:
            next(source)
    return tuple(dims)


def assigned(call: Call, output: Tensor) -> Layout:
    """What has been written into: its own places, or those of what fills it."""
    canvas, index, value = call.args[:3]
    # A constant canvas takes the places of what fills a dimension entirely.
    plain = all(type(item) in (int, slice) or item is ... for item in as_tuple(index))
    if plain and isinstance(value, Tensor) and canvas[index].dim() == value.dim() == canvas.dim():
        return broadcast([layout_of(canvas), layout_of(value)], output.shape)
    if origin_of(canvas) is not None and (plain or not isinstance(value, Tensor)):
        return layout_of(canvas)
    raise UnknownLayoutError


def as_tuple(index: Any) -> tuple[Any, ...]:
    """An index as the tuple of its items."""
    return index if isinstance(index, tuple) else (index,)


def selected(call: Call, output: Tensor) -> Layout:
    """One dimension is gone."""
    dims = list(layout_of(call.args[0]))
    del dims[call.argument(1, "dim")]
    return tuple(dims)


def narrowed(call: Call, output: Tensor) -> Layout:
    """One dimension is a part of what it was."""
    dims = list(layout_of(call.args[0]))
    dim, start = call.argument(1, "dim"), call.argument(2, "start")
    dims[dim] = dims[dim].sliced(int(start) % max(dims[dim].size, 1), output.shape[dim])
    return tuple(dims)


def halved(call: Call, output: Tensor) -> Layout:
    """One dimension is half of what it was: the elements of both halves, combined."""
    dims = list(layout_of(call.args[0]))
    dim = call.argument(1, "dim", -1)
    dims[dim] = Dim.channel(output.shape[dim])
    return tuple(dims)


def split(call: Call, output: Tensor, position: int) -> Layout:
    """The part at ``position``, for sizes that are given or equal."""
    dims = list(layout_of(call.args[0]))
    dim = call.argument(2, "dim", 0)
    sections = call.argument(1, "split_size_or_sections", call.kwargs.get("split_size"))
    if call.name == "chunk":
        chunks = call.argument(1, "chunks")
        start = position * -(-dims[dim].size // chunks)
    elif isinstance(sections, int):
        start = position * sections
    elif isinstance(sections, (tuple, list)):
        start = sum(sections[:position])
    else:
        raise UnknownLayoutError
    dims[dim] = dims[dim].sliced(start, output.shape[dim])
    return tuple(dims)


def split_at(call: Call, output: Tensor, position: int) -> Layout:
    """The part at ``position``, for a number of parts or the places of the cuts."""
    dims = list(layout_of(call.args[0]))
    dim = call.argument(2, "dim", 0)
    cuts = call.argument(1, "indices_or_sections")
    cuts = call.kwargs.get("indices", call.kwargs.get("sections")) if cuts is None else cuts
    if isinstance(cuts, int):
        size, longer = divmod(dims[dim].size, cuts)  # the first parts are longer by one
        start = position * size + min(position, longer)
    elif isinstance(cuts, (tuple, list)):
        start = range(dims[dim].size)[: cuts[position - 1]].stop if position else 0
    else:
        raise UnknownLayoutError
    dims[dim] = dims[dim].sliced(start, output.shape[dim])
    return tuple(dims)


def unbound(call: Call, output: Tensor, position: int) -> Layout:
    """One dimension is gone."""
    dims = list(layout_of(call.args[0]))
    del dims[call.argument(1, "dim", 0)]
    return tuple(dims)


def concatenated(call: Call, output: Tensor) -> Layout:
    """One dimension after the other; in the others, all tensors agree."""
    tensors = [tensor for tensor in tensors_in(call.args[:1]) if tensor.dim() == output.dim()]
    tensors = tensors or tensors_in(call.kwargs.get("tensors", ()))
    dim = call.argument(1, "dim", call.kwargs.get("axis", 0)) % output.dim()
    dims: list[Dim] = []
    for position, size in enumerate(output.shape):
        own = [layout_of(tensor)[position] for tensor in tensors]
        if position == dim:
            dims.append(Dim.joined(own))
        else:
            dims += broadcast([(each,) for each in own], (size,))
    return tuple(dims)


def stacked(call: Call, output: Tensor) -> Layout:
    """A new dimension that counts the tensors."""
    tensors = tensors_in(call.args[:1], call.kwargs.get("tensors", ()))
    dim = call.argument(1, "dim", 0) % output.dim()
    dims = list(broadcast(map(layout_of, tensors), tensors[0].shape))
    dims.insert(dim, Dim.channel(len(tensors)))
    return tuple(dims)


def expanded(call: Call, output: Tensor) -> Layout:
    """New dimensions in front, and those of size 1 repeated."""
    return broadcast([layout_of(call.args[0])], output.shape)


def rolled(call: Call, output: Tensor) -> Layout:
    """Each dimension turned by its shift."""
    dims = list(layout_of(call.args[0]))
    shifts, over = (
        (given,) if isinstance(given, int) else tuple(given or ())
        for given in (call.argument(1, "shifts"), call.argument(2, "dims"))
    )
    if not over:
        raise UnknownLayoutError
    for shift, dim in zip(shifts, over, strict=True):
        dims[dim] = dims[dim].rolled(shift)
    return tuple(dims)


def padded(call: Call, output: Tensor) -> Layout:
    """Pads come in pairs, those of the last dimension first."""
    dims = list(layout_of(call.args[0]))
    pads: Sequence[int] = call.argument(1, "pad")
    for position in range(len(pads) // 2):
        before, after = pads[2 * position], pads[2 * position + 1]
        if before or after:
            dims[-1 - position] = dims[-1 - position].padded(before, after)
    return tuple(dims)
