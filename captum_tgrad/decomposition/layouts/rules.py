"""How each operation moves samples and places: from the layouts of its arguments to its output's.

An operation that is not in the table keeps only what is safe to say: which dimension is the
samples, if it still has their number. Its places are unknown.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from captum_tgrad.decomposition.call import Call
from captum_tgrad.decomposition.layouts import computing, moving
from captum_tgrad.decomposition.layouts.dim import Dim
from captum_tgrad.decomposition.layouts.layout import Layout, UnknownLayoutError
from captum_tgrad.decomposition.layouts.origin import layout_of

Rule = Callable[[Call, Tensor], Layout]
RuleOfSeveral = Callable[[Call, Tensor, int], Layout]


def output_layout(call: Call, output: Tensor, position: int = 0) -> Layout:
    """The layout of ``output``, the ``position``-th tensor that ``call`` returned."""
    try:
        layout = _by_rule(call, output, position)
    # A rule that meets a form of the call that it does not foresee fails in one of these ways.
    except (UnknownLayoutError, IndexError, TypeError, ValueError, StopIteration):
        return _only_samples(call, output)
    if [dim.size for dim in layout] != list(output.shape):
        return _only_samples(call, output)
    return layout


def _by_rule(call: Call, output: Tensor, position: int) -> Layout:
    if call.name in _RULES_OF_SEVERAL:
        return _RULES_OF_SEVERAL[call.name](call, output, position)
    if call.name not in _RULES or position > 0:
        raise UnknownLayoutError
    return _RULES[call.name](call, output)


def _only_samples(call: Call, output: Tensor) -> Layout:
    """Which dimension is the samples, if that is certain."""
    layouts = [layout_of(tensor) for tensor in call.dependent]
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
        index = moving.as_tuple(call.args[1])
        kept = index[position] if position < len(index) else slice(None)
        plain = all(item is not None and item is not ... for item in index[: position + 1])
        return index[0] is not ... and not (plain and kept == slice(None))
    if call.name in _REORDERING:
        place = _REORDERING[call.name]
        given = call.sizes(place, "dims" if "dims" in call.kwargs else "dim")
        # Without a dimension that we can read, it may be any.
        return not given or any(dim % rank == position for dim in given)
    return call.name in ("take", "masked_select", "flipud", "msort", "nonzero")


_REORDERING = {
    "flip": 1, "index_select": 1, "gather": 1, "take_along_dim": 2, "sort": 1, "topk": 2,
    "index_copy": 1, "index_add": 1, "scatter": 1, "scatter_add": 1, "rot90": 2, "kthvalue": 2,
    "median": 1, "mode": 1, "roll": 2,
}  # fmt: skip
"""Which argument says along which dimensions elements change places."""

_TABLE: dict[Rule, str] = {
    computing.elementwise: (
        "add sub subtract rsub radd mul multiply rmul div divide truediv rtruediv rdiv true_divide "
        "pow rpow square sqrt rsqrt reciprocal exp expm1 log log1p log2 log10 sin cos tan atan "
        "erf abs neg negative sign where maximum minimum fmax fmin lerp addcmul addcdiv "
        "floor_divide clamp clip clamp_min clamp_max masked_fill nan_to_num copy fill"
    ),
    computing.like_first: (
        "relu relu6 leaky_relu rrelu elu celu selu gelu silu mish sigmoid logsigmoid log_sigmoid "
        "hardsigmoid hardswish hardtanh hardshrink softshrink tanhshrink softsign softplus tanh "
        "threshold prelu softmax log_softmax softmin batch_norm layer_norm group_norm "
        "instance_norm rms_norm local_response_norm normalize channel_shuffle "
        "dropout dropout1d dropout2d dropout3d alpha_dropout feature_dropout feature_alpha_dropout "
        "clone contiguous to float double half bfloat16 type type_as cpu cuda requires_grad detach "
        "alias positive"
    ),
    moving.reshaped: "view reshape flatten unflatten squeeze unsqueeze ravel reshape_as view_as",
    moving.permuted: "permute",
    moving.transposed: "transpose swapaxes swapdims t",
    moving.reversed_dims: "T",
    moving.matrix_transposed: "mT adjoint",
    moving.moved_dim: "movedim moveaxis",
    moving.indexed: "getitem",
    moving.assigned: "setitem",
    moving.selected: "select",
    moving.narrowed: "narrow",
    moving.halved: "glu",
    moving.concatenated: "cat concat concatenate",
    moving.stacked: "stack",
    moving.expanded: "expand expand_as broadcast_to",
    moving.rolled: "roll",
    moving.padded: "pad constant_pad_nd",
    computing.reduced: (
        "mean sum amax amin max min prod logsumexp var std nanmean nansum norm linalg_vector_norm"
    ),
    computing.linear: "linear",
    computing.attention: "scaled_dot_product_attention",
    computing.multi_head_attention: "multi_head_attention_forward",
    computing.matmul: "matmul bmm mm",
    computing.einsum: "einsum",
    computing.new_grid: (
        "conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d "
        "max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d "
        "lp_pool1d lp_pool2d lp_pool3d adaptive_avg_pool1d adaptive_avg_pool2d "
        "adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d "
        "max_pool1d_with_indices max_pool2d_with_indices max_pool3d_with_indices "
        "interpolate upsample upsample_nearest upsample_bilinear pixel_shuffle pixel_unshuffle"
    ),
}
_TABLE_OF_SEVERAL: dict[RuleOfSeveral, str] = {
    moving.split: "split chunk split_with_sizes",
    moving.split_at: "tensor_split",
    moving.unbound: "unbind",
    computing.recurrent: "lstm gru rnn_tanh rnn_relu",
}
_RULES = {name: rule for rule, names in _TABLE.items() for name in names.split()}
_RULES_OF_SEVERAL = {
    name: rule for rule, names in _TABLE_OF_SEVERAL.items() for name in names.split()
}
