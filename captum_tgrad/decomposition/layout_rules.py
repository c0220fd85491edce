"""How each operation moves samples and places: from the layouts of its arguments to its output's.

An operation that is not in the table keeps only what is safe to say: which dimension is the
samples, if it still has their number. Its places are unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from torch import Tensor

from captum_tgrad.decomposition.call import Call, origin_of, tensors_in
from captum_tgrad.decomposition.layout import Dim, Layout, broadcast, reshape, unknown_layout

Rule = Callable[..., Layout]


def output_layout(call: Call, output: Tensor, position: int = 0) -> Layout:
    """The layout of ``output``, the ``position``-th tensor that ``call`` returned."""
    rule = _RULES.get(call.name, _only_samples)
    if position > 0 and rule not in (_split, _unbind, _recurrent):
        rule = _only_samples
    try:
        if rule is _split or rule is _recurrent:
            layout = rule(call, output, position)
        else:
            layout = rule(call, output)
    except (IndexError, TypeError, ValueError, StopIteration):  # a form that no rule foresees
        return _only_samples(call, output)
    if [dim.size for dim in layout] != list(output.shape):
        return _only_samples(call, output)
    return layout


def _layout(tensor: Any) -> Layout:
    origin = origin_of(tensor) if isinstance(tensor, Tensor) else None
    if origin is not None and [dim.size for dim in origin.layout] == list(tensor.shape):
        return origin.layout
    return unknown_layout(tensor.shape) if isinstance(tensor, Tensor) else ()


def _only_samples(call: Call, output: Tensor) -> Layout:
    layouts = [_layout(tensor) for tensor in call.dependent]
    placed = any(dim.follows_axis and not dim.has_sample for layout in layouts for dim in layout)
    dims = [Dim.scrambled(size) if placed else Dim.channel(size) for size in output.shape]
    for layout in layouts:
        for position, dim in enumerate(layout[: len(dims)]):
            if dim.has_sample and dim.size == dims[position].size:
                if not _reorders(call, position, len(layout)):
                    dims[position] = dim
                return tuple(dims)
    return tuple(dims)


def _reorders(call: Call, position: int, rank: int) -> bool:
    """Whether the elements along a dimension may come out in another order than they went in."""
    if call.name in ("getitem", "setitem", "index_put"):
        index = _as_tuple(call.args[1])
        kept = index[position] if position < len(index) else slice(None)
        plain = all(item is not None and item is not ... for item in index[: position + 1])
        return index[0] is not ... and not (plain and kept == slice(None))
    if call.name in _REORDERING:
        given = call.argument(1, "dim", call.kwargs.get("dims", -1))
        over = [given] if isinstance(given, int) else list(given)
        return any(not isinstance(dim, int) or dim % rank == position for dim in over)
    return call.name in ("take", "masked_select", "flipud", "nonzero")


_REORDERING = {
    "flip", "index_select", "gather", "take_along_dim", "sort", "topk", "msort", "index_copy",
    "index_add", "scatter", "scatter_add", "rot90", "kthvalue", "median", "mode", "roll",
}  # fmt: skip


def _samewise(call: Call, output: Tensor) -> Layout:
    return broadcast(map(_layout, call.tensors), output.shape)


def _first(call: Call, output: Tensor) -> Layout:
    return broadcast([_layout(call.tensors[0])], output.shape)


def _reshape(call: Call, output: Tensor) -> Layout:
    return reshape(_layout(call.args[0]), output.shape)


def _permute(call: Call, output: Tensor) -> Layout:
    layout = _layout(call.args[0])
    return tuple(layout[dim] for dim in call.sizes(1, "dims"))


def _transpose(call: Call, output: Tensor) -> Layout:
    dims = list(_layout(call.args[0]))
    first = call.argument(1, "dim0", call.kwargs.get("axis0", 0))
    second = call.argument(2, "dim1", call.kwargs.get("axis1", 1))
    dims[first], dims[second] = dims[second], dims[first]
    return tuple(dims)


def _reverse(call: Call, output: Tensor) -> Layout:
    return tuple(reversed(_layout(call.args[0])))


def _matrix_transpose(call: Call, output: Tensor) -> Layout:
    *batch, row, column = _layout(call.args[0])
    return (*batch, column, row)


def _movedim(call: Call, output: Tensor) -> Layout:
    layout = _layout(call.args[0])
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


def _getitem(call: Call, output: Tensor) -> Layout:
    layout, index = _layout(call.args[0]), call.args[1]
    index = _as_tuple(index)
    if not all(item is None or item is ... or type(item) in (int, slice) for item in index):
        return _only_samples(call, output)
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


def _setitem(call: Call, output: Tensor) -> Layout:
    canvas, index, value = call.args[:3]
    # A constant canvas takes the places of what fills a dimension entirely.
    plain = all(type(item) in (int, slice) or item is ... for item in _as_tuple(index))
    if plain and isinstance(value, Tensor) and canvas[index].dim() == value.dim() == canvas.dim():
        return broadcast([_layout(canvas), _layout(value)], output.shape)
    if origin_of(canvas) is not None and (plain or not isinstance(value, Tensor)):
        return _layout(canvas)
    return _only_samples(call, output)


def _as_tuple(index: Any) -> tuple[Any, ...]:
    return index if isinstance(index, tuple) else (index,)


def _select(call: Call, output: Tensor) -> Layout:
    dims = list(_layout(call.args[0]))
    del dims[call.argument(1, "dim")]
    return tuple(dims)


def _narrow(call: Call, output: Tensor) -> Layout:
    dims = list(_layout(call.args[0]))
    dim, start = call.argument(1, "dim"), call.argument(2, "start")
    dims[dim] = dims[dim].sliced(int(start) % max(dims[dim].size, 1), output.shape[dim])
    return tuple(dims)


def _split(call: Call, output: Tensor, position: int = 0) -> Layout:
    dims = list(_layout(call.args[0]))
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
        return _only_samples(call, output)
    dims[dim] = dims[dim].sliced(start, output.shape[dim])
    return tuple(dims)


def _unbind(call: Call, output: Tensor) -> Layout:
    dims = list(_layout(call.args[0]))
    del dims[call.argument(1, "dim", 0)]
    return tuple(dims)


def _cat(call: Call, output: Tensor) -> Layout:
    tensors = [tensor for tensor in tensors_in(call.args[:1]) if tensor.dim() == output.dim()]
    tensors = tensors or tensors_in(call.kwargs.get("tensors", ()))
    dim = call.argument(1, "dim", call.kwargs.get("axis", 0)) % output.dim()
    dims: list[Dim] = []
    for position, size in enumerate(output.shape):
        own = [_layout(tensor)[position] for tensor in tensors]
        if position == dim:
            dims.append(Dim.joined(own))
        else:
            dims += broadcast([(each,) for each in own], (size,))
    return tuple(dims)


def _stack(call: Call, output: Tensor) -> Layout:
    tensors = tensors_in(call.args[:1], call.kwargs.get("tensors", ()))
    dim = call.argument(1, "dim", 0) % output.dim()
    dims = list(broadcast(map(_layout, tensors), tensors[0].shape))
    dims.insert(dim, Dim.channel(len(tensors)))
    return tuple(dims)


def _expand(call: Call, output: Tensor) -> Layout:
    return broadcast([_layout(call.args[0])], output.shape)


def _roll(call: Call, output: Tensor) -> Layout:
    dims = list(_layout(call.args[0]))
    shifts, over = (
        (given,) if isinstance(given, int) else tuple(given or ())
        for given in (call.argument(1, "shifts"), call.argument(2, "dims"))
    )
    if not over:
        return _only_samples(call, output)
    for shift, dim in zip(shifts, over, strict=True):
        dims[dim] = dims[dim].rolled(shift)
    return tuple(dims)


def _pad(call: Call, output: Tensor) -> Layout:
    dims = list(_layout(call.args[0]))
    pads: Sequence[int] = call.argument(1, "pad")
    for position in range(len(pads) // 2):
        before, after = pads[2 * position], pads[2 * position + 1]
        if before or after:
            dims[-1 - position] = dims[-1 - position].padded(before, after)
    return tuple(dims)


def _reduce(call: Call, output: Tensor) -> Layout:
    layout = _layout(call.args[0])
    given = call.argument(1, "dim", call.kwargs.get("axis"))
    if isinstance(given, Tensor) or "other" in call.kwargs:  # torch.max of two tensors
        return _samewise(call, output)
    keepdim = output.dim() == len(layout)
    over = [given] if isinstance(given, int) else list(given or range(len(layout)))
    over = [dim % max(len(layout), 1) for dim in over]
    return tuple(
        Dim.channel(1) if position in over else dim
        for position, dim in enumerate(layout)
        if keepdim or position not in over
    )


def _linear(call: Call, output: Tensor) -> Layout:
    return (*_layout(call.argument(0, "input"))[:-1], Dim.channel(output.shape[-1]))


def _attention(call: Call, output: Tensor) -> Layout:
    query, key = _layout(call.argument(0, "query")), _layout(call.argument(1, "key"))
    *batch, tokens, _ = query
    # Learned queries are the same for all samples: keys and values tell the samples apart.
    batch = list(broadcast([tuple(batch), key[:-2]], output.shape[:-2]))
    return (*batch, tokens, Dim.channel(output.shape[-1]))


def _multi_head_attention(call: Call, output: Tensor) -> Layout:
    """Tokens come first here, then samples."""
    query, key = _layout(call.argument(0, "query")), _layout(call.argument(1, "key"))
    if output.dim() != 3 or len(query) != 3:
        return _only_samples(call, output)
    (samples,) = broadcast([query[1:2], key[1:2]], output.shape[1:2])
    return (query[0], samples, Dim.channel(output.shape[-1]))


def _recurrent(call: Call, output: Tensor, position: int = 0) -> Layout:
    """The sequence keeps its dimensions; final states are (layers, samples, features)."""
    layout = _layout(call.args[0])
    dims = list(unknown_layout(output.shape))
    for place, dim in enumerate(layout):
        if dim.has_sample and len(layout) == output.dim() == 3:
            dims[1 if position else place] = dim
    return tuple(dims)


def _matmul(call: Call, output: Tensor) -> Layout:
    left, right = (_layout(tensor) for tensor in call.tensors[:2])
    if len(left) < 2 or len(right) < 2:
        return _only_samples(call, output)
    batch = broadcast([left[:-2], right[:-2]], output.shape[:-2])
    return (*batch, left[-2], right[-1])


def _einsum(call: Call, output: Tensor) -> Layout:
    equation = call.args[0] if call.args and isinstance(call.args[0], str) else "."
    if "." in equation or "->" not in equation:
        return _only_samples(call, output)
    left, right = equation.replace(" ", "").split("->")
    dims: dict[str, list[Dim]] = {}
    for letters, tensor in zip(left.split(","), call.tensors, strict=True):
        for letter, dim in zip(letters, _layout(tensor), strict=True):
            dims.setdefault(letter, []).append(dim)
    result: list[Dim] = []
    for letter, size in zip(right, output.shape, strict=True):
        result += broadcast([(dim,) for dim in dims[letter]], (size,))
    return tuple(result)


def _new_grid(call: Call, output: Tensor) -> Layout:
    return _grid_over_the_same_image(
        _layout(call.argument(0, "input")), call.name, tuple(output.shape)
    )


@lru_cache(maxsize=4096)
def _grid_over_the_same_image(layout: Layout, operation: str, shape: tuple[int, ...]) -> Layout:
    digits = [int(character) for character in operation if character.isdigit()]
    rank = digits[0] if digits else len(shape) - 2
    grid = len(layout) - rank
    leading = list(layout[:grid])
    if operation.startswith("conv"):
        leading[-1] = Dim.channel(shape[grid - 1])
    spatial = [dim.resampled(size) for dim, size in zip(layout[grid:], shape[grid:], strict=True)]
    return (*leading, *spatial)


_TABLE: dict[Rule, str] = {
    _samewise: (
        "add sub subtract rsub radd mul multiply rmul div divide truediv rtruediv rdiv true_divide "
        "pow rpow square sqrt rsqrt reciprocal exp expm1 log log1p log2 log10 sin cos tan atan "
        "erf abs neg negative sign where maximum minimum fmax fmin lerp addcmul addcdiv "
        "floor_divide clamp clip clamp_min clamp_max masked_fill nan_to_num copy fill"
    ),
    _first: (
        "relu relu6 leaky_relu rrelu elu celu selu gelu silu mish sigmoid logsigmoid log_sigmoid "
        "hardsigmoid hardswish hardtanh hardshrink softshrink tanhshrink softsign softplus tanh "
        "threshold prelu softmax log_softmax softmin batch_norm layer_norm group_norm "
        "instance_norm rms_norm local_response_norm normalize dropout dropout1d dropout2d "
        "dropout3d alpha_dropout feature_dropout feature_alpha_dropout clone contiguous to float "
        "double half "
        "bfloat16 type type_as cpu cuda requires_grad detach detach_ "
        "alias positive"
    ),
    _reshape: "view reshape flatten unflatten squeeze unsqueeze ravel reshape_as view_as",
    _permute: "permute",
    _transpose: "transpose swapaxes swapdims t",
    _reverse: "T",
    _matrix_transpose: "mT adjoint",
    _movedim: "movedim moveaxis",
    _getitem: "getitem",
    _setitem: "setitem",
    _select: "select",
    _narrow: "narrow",
    _split: "split chunk tensor_split split_with_sizes",
    _unbind: "unbind iter",
    _cat: "cat concat concatenate",
    _stack: "stack",
    _expand: "expand expand_as broadcast_to",
    _roll: "roll",
    _pad: "pad constant_pad_nd",
    _reduce: "mean sum amax amin max min prod logsumexp var std norm vector_norm nanmean nansum",
    _linear: "linear",
    _attention: "scaled_dot_product_attention",
    _multi_head_attention: "multi_head_attention_forward",
    _recurrent: "lstm gru rnn_tanh rnn_relu",
    _matmul: "matmul rmatmul bmm mm",
    _einsum: "einsum",
    _new_grid: (
        "conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d "
        "max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d "
        "lp_pool1d lp_pool2d lp_pool3d adaptive_avg_pool1d adaptive_avg_pool2d "
        "adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d "
        "interpolate upsample upsample_nearest upsample_bilinear"
    ),
}
_RULES: dict[str, Rule] = {name: rule for rule, names in _TABLE.items() for name in names.split()}
