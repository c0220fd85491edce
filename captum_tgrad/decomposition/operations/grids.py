"""Operations that compute a new grid over the same image: convolutions, pooling, resizing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from captum_tgrad.decomposition.bias import Bias, channel_bias
from captum_tgrad.decomposition.call import Call, NoRuleError, Operation
from captum_tgrad.decomposition.operations.activations import homogeneous_in_first
from captum_tgrad.decomposition.operations.arithmetic import of_degree
from captum_tgrad.decomposition.operations.helpers import records, require_constant
from captum_tgrad.decomposition.operations.layers_in_parts import another_depends, with_bias
from captum_tgrad.decomposition.operations.moving import no_bias
from captum_tgrad.decomposition.places.origin import places_of
from captum_tgrad.decomposition.places.places import make_places
from captum_tgrad.decomposition.places.rules import boxes, grids, indexing


def convolution(call: Call, output: Tensor) -> Bias | None:
    """The bias parameter."""
    if len(call.tensors) == 2 and len(call.dependent) == 1:
        return None
    bias = call.bound["bias"]
    require_constant(*(call.bound.get(name) for name in ("weight", "offset", "mask")), bias)
    return None if bias is None else channel_bias(bias, grids.rank_of(call.name))


def deformed(call: Call, output: Tensor) -> Bias | None:
    """``(1 - k) y``, minus the offsets times their gradient if they depend on the input.

    ``y`` is linear in the image and in the mask; k is 2 if the mask depends on the input, else 1.
    torch has no derivative along the offsets, but the backward pass computes their gradient.
    """
    names = ("input", "weight", "offset", "mask", "bias", "use_mask")
    image, weight, offset, mask, bias, uses_mask = (call.bound[name] for name in names)
    require_constant(weight, bias)
    if not image.requires_grad:
        raise NoRuleError  # the results have the samples of the offsets
    if len(call.dependent) == 1:
        return convolution(call, output)
    degree = 1 + (uses_mask and mask.requires_grad)
    if not offset.requires_grad:
        return of_degree(degree, output)
    places, node = places_of(offset), output.grad_fn
    if places is None or node is None or any(1 in coords.dims for _, coords in places.pairs):
        raise NoRuleError
    channels = output.shape[1] + offset.shape[1]

    def register_hook(hook: Callable[[Tensor], None]) -> RemovableHandle:
        def arrived(inner: Sequence[Tensor], outer: Sequence[Tensor]) -> None:
            hook(torch.cat([outer[0], inner[2]], 1))

        return node.register_hook(arrived)

    return Bias(
        lambda y, offset: torch.cat([(1 - degree) * y, -offset], 1),
        output,
        offset,
        uncut=(1,),
        register_hook=register_hook,
        places=make_places((len(output), channels, *output.shape[2:]), places.pairs),
    )


CONVOLUTIONS = {"conv1d", "conv2d", "conv3d"}
"""Convolutions that are not transposed or deformable."""

_convolution = partial(
    records,
    places=grids.convolved,
    bias=convolution,
    parts=with_bias,
    parts_if=another_depends,
)
_pooling = partial(records, places=grids.pooled, bias=no_bias)
_boxes = partial(records, places=boxes.pooled_in_boxes, bias=homogeneous_in_first)
_BOXES = "input, rois, spatial_scale, pooled_height, pooled_width"

OPERATIONS: dict[str, Operation] = {
    **_convolution(
        "conv1d conv2d conv3d",
        "input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1",
    ),
    **_convolution(
        "conv_transpose1d conv_transpose2d conv_transpose3d",
        "input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1",
    ),
    **_pooling(
        "max_pool1d max_pool2d max_pool3d max_pool1d_with_indices max_pool2d_with_indices "
        "max_pool3d_with_indices",
        "input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, "
        "return_indices=False",
    ),
    **_pooling(
        "avg_pool1d avg_pool2d avg_pool3d",
        "input, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, "
        "divisor_override=None",
    ),
    **_pooling(
        "adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d "
        "adaptive_max_pool2d adaptive_max_pool3d fractional_max_pool2d fractional_max_pool3d "
        "lp_pool1d lp_pool2d lp_pool3d"
    ),
    **records(
        "interpolate upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_linear1d "
        "upsample_bilinear2d upsample_trilinear3d upsample_bicubic2d upsample_nearest_exact1d "
        "upsample_nearest_exact2d upsample_nearest_exact3d upsample_bilinear2d_aa "
        "upsample_bicubic2d_aa",
        places=grids.resized,
        bias=no_bias,
    ),
    **records(
        "grid_sample",
        "input, grid, mode='bilinear', padding_mode='zeros', align_corners=None",
        indexing.sampled,
        homogeneous_in_first,
    ),
    **_boxes("roi_align", f"{_BOXES}, sampling_ratio, aligned"),
    **_boxes("roi_pool", _BOXES),
    **_convolution(
        "deform_conv2d",
        "input, weight, offset, mask, bias, stride_h, stride_w, pad_h, pad_w, dilation_h, "
        "dilation_w, groups, offset_groups, use_mask",
        bias=deformed,
    ),
    **records(
        "fold",
        "input, output_size, kernel_size, dilation=1, padding=0, stride=1",
        grids.folded,
        no_bias,
    ),
}
