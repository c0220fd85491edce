"""Layouts of what operations that compute new values return."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from torch import Tensor

from captum_tgrad.decomposition.call import Call
from captum_tgrad.decomposition.layouts.dim import Dim, Window
from captum_tgrad.decomposition.layouts.layout import (
    Layout,
    UnknownLayoutError,
    broadcast,
    unknown_layout,
)
from captum_tgrad.decomposition.layouts.origin import layout_of


def elementwise(call: Call, output: Tensor) -> Layout:
    """Element by element from all tensors."""
    return broadcast(map(layout_of, call.tensors), output.shape)


def like_first(call: Call, output: Tensor) -> Layout:
    """Element by element, or along one dimension, from the first tensor."""
    return broadcast([layout_of(call.tensors[0])], output.shape)


def reduced(call: Call, output: Tensor) -> Layout:
    """Some dimensions are gone, or of size 1."""
    layout = layout_of(call.args[0])
    place = 2 if call.name in ("norm", "linalg_vector_norm") else 1
    given = call.argument(place, "dim", call.kwargs.get("axis"))
    if isinstance(given, Tensor) or "other" in call.kwargs:  # torch.max of two tensors
        return elementwise(call, output)
    keepdim = output.dim() == len(layout)
    over = [given] if isinstance(given, int) else list(given or range(len(layout)))
    over = [dim % max(len(layout), 1) for dim in over]
    return tuple(
        Dim.channel(1) if position in over else dim
        for position, dim in enumerate(layout)
        if keepdim or position not in over
    )


def linear(call: Call, output: Tensor) -> Layout:
    """The last dimension is mixed."""
    return (*layout_of(call.argument(0, "input"))[:-1], Dim.channel(output.shape[-1]))


def attention(call: Call, output: Tensor) -> Layout:
    """The queries' tokens, with the values' features."""
    query, key = layout_of(call.argument(0, "query")), layout_of(call.argument(1, "key"))
    *batch, tokens, _ = query
    # Learned queries are the same for all samples: keys and values tell the samples apart.
    batch = list(broadcast([tuple(batch), key[:-2]], output.shape[:-2]))
    return (*batch, tokens, Dim.channel(output.shape[-1]))


def multi_head_attention(call: Call, output: Tensor) -> Layout:
    """Tokens come first here, then samples."""
    query, key = layout_of(call.argument(0, "query")), layout_of(call.argument(1, "key"))
    if output.dim() != 3 or len(query) != 3:
        raise UnknownLayoutError
    (samples,) = broadcast([query[1:2], key[1:2]], output.shape[1:2])
    return (query[0], samples, Dim.channel(output.shape[-1]))


def recurrent(call: Call, output: Tensor, position: int) -> Layout:
    """Samples stay where they are in the sequence; final states are (layers, samples, features)."""
    layout = layout_of(call.args[0])
    dims = list(unknown_layout(output.shape))
    for place, dim in enumerate(layout):
        if dim.has_sample and len(layout) == output.dim() == 3:
            dims[1 if position else place] = dim
    if not any(dim.has_sample for dim in layout):
        raise UnknownLayoutError
    return tuple(dims)


def matmul(call: Call, output: Tensor) -> Layout:
    """The left one's rows and the right one's columns."""
    left, right = (layout_of(tensor) for tensor in call.tensors[:2])
    if len(left) < 2 or len(right) < 2:
        raise UnknownLayoutError
    batch = broadcast([left[:-2], right[:-2]], output.shape[:-2])
    return (*batch, left[-2], right[-1])


def einsum(call: Call, output: Tensor) -> Layout:
    """Each letter of the result as it was in the tensors; explicit equations without dots."""
    equation = call.args[0] if call.args and isinstance(call.args[0], str) else "."
    if "." in equation or "->" not in equation:
        raise UnknownLayoutError
    left, right = equation.replace(" ", "").split("->")
    dims: dict[str, list[Dim]] = {}
    for letters, tensor in zip(left.split(","), call.tensors, strict=True):
        for letter, dim in zip(letters, layout_of(tensor), strict=True):
            dims.setdefault(letter, []).append(dim)
    result: list[Dim] = []
    for letter, size in zip(right, output.shape, strict=True):
        result += broadcast([(dim,) for dim in dims[letter]], (size,))
    return tuple(result)


def new_grid(call: Call, output: Tensor) -> Layout:
    """Places are computed anew on another grid over the same image."""
    layout = layout_of(call.argument(0, "input"))
    windows = _windows(call) if _has_padding(layout) else ()
    return _grid_over_the_same_image(layout, call.name, tuple(output.shape), windows)


@lru_cache(maxsize=4096)
def _has_padding(layout: Layout) -> bool:
    return any(dim.axis is not None and dim.axis.padding != (0, 0) for dim in layout)


@lru_cache(maxsize=4096)
def _grid_over_the_same_image(
    layout: Layout, operation: str, shape: tuple[int, ...], windows: tuple[Window, ...]
) -> Layout:
    rank = _rank(operation) or len(shape) - 2
    grid = len(layout) - rank
    leading = list(layout[:grid])
    mixes_channels = operation.startswith("conv")
    if mixes_channels or (leading and leading[-1].size != shape[grid - 1]):
        leading[-1] = Dim.channel(shape[grid - 1])
    spatial = [
        dim.resampled(size, window)
        for dim, size, window in zip(
            layout[grid:], shape[grid:], windows or [None] * rank, strict=True
        )
    ]
    return (*leading, *spatial)


def _rank(operation: str) -> int:
    """The number of spatial axes that an operation is named after; 0 if it is not."""
    return next((int(character) for character in operation if character.isdigit()), 0)


def _windows(call: Call) -> tuple[Window, ...]:
    """What each cell of a convolution or a pooling sees; empty where it is not known."""
    rank = _rank(call.name)
    if call.name in ("conv1d", "conv2d", "conv3d"):
        kernel = tuple(call.argument(1, "weight").shape[2:])
        stride, padding, dilation = (
            call.argument(position, name, default)
            for position, name, default in (
                (3, "stride", 1),
                (4, "padding", 0),
                (5, "dilation", 1),
            )
        )
    elif call.name.startswith(("max_pool", "avg_pool")):
        kernel = call.argument(1, "kernel_size")
        stride = call.argument(2, "stride") or kernel
        padding = call.argument(3, "padding", 0)
        dilation = call.argument(4, "dilation", 1) if call.name.startswith("max") else 1
    else:
        return ()
    if isinstance(padding, str):  # "same": as much on both sides as keeps the size
        padding = [
            (size - 1) * step / 2 if padding == "same" else 0
            for size, step in zip(_each(kernel, rank), _each(dilation, rank), strict=True)
        ]
    sizes = (_each(option, rank) for option in (kernel, stride, padding, dilation))
    return tuple(
        Window((size - 1) * step / 2 - pad, jump)
        for size, jump, pad, step in zip(*sizes, strict=True)
    )


def _each(option: Any, rank: int) -> Sequence[float]:
    """An option of each axis, where one number stands for all."""
    return (option,) * rank if isinstance(option, (int, float)) else tuple(option)
