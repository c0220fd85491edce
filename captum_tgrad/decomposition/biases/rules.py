"""What each operation adds that its input does not explain: ``b = y - D op(z)[z]``.

The table holds the operations whose ``b`` has a cheap closed form; every other operation goes
through the one rule (:mod:`~captum_tgrad.decomposition.biases.one_rule`).
"""

from __future__ import annotations

from captum_tgrad.decomposition.biases import activations, arithmetic, normalizations
from captum_tgrad.decomposition.biases.closed_form import ClosedForm

_TABLE: dict[ClosedForm, str] = {
    arithmetic.homogeneous: (
        # piecewise linear
        "relu leaky_relu rrelu hardshrink abs neg negative positive "
        "max_pool1d max_pool2d max_pool3d adaptive_max_pool1d adaptive_max_pool2d "
        "adaptive_max_pool3d fractional_max_pool2d fractional_max_pool3d "
        "max min amax amin maximum minimum fmax fmin sort topk kthvalue median "
        # linear
        "avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d "
        "adaptive_avg_pool3d sum mean nansum nanmean cumsum trace diff "
        "dropout dropout1d dropout2d dropout3d feature_dropout interpolate upsample "
        "upsample_nearest upsample_bilinear fold unfold "
        # norms
        "lp_pool1d lp_pool2d lp_pool3d norm linalg_norm linalg_vector_norm linalg_matrix_norm std "
        "dist cdist "
        # Fourier transforms, and complex numbers as pairs
        "fft_fft fft_ifft fft_fft2 fft_ifft2 fft_fftn fft_ifftn fft_rfft fft_irfft fft_rfft2 "
        "fft_irfft2 fft_rfftn fft_irfftn fft_fftshift fft_ifftshift view_as_real view_as_complex "
        "complex"
    ),
    arithmetic.homogeneous_in_first: "prelu grid_sample",
    arithmetic.moved: (
        "view reshape flatten unflatten squeeze unsqueeze ravel reshape_as view_as permute "
        "transpose swapaxes swapdims t T mT H mH adjoint movedim moveaxis getitem select narrow "
        "split chunk tensor_split split_with_sizes unbind expand expand_as broadcast_to "
        "repeat tile repeat_interleave roll flip fliplr flipud rot90 diagonal diag tril triu "
        "pixel_shuffle pixel_unshuffle channel_shuffle gather index_select take_along_dim "
        "masked_select clone contiguous to float double half bfloat16 type type_as cpu cuda "
        "alias requires_grad real imag zero"
    ),
    arithmetic.linear_in_one: (
        "mul multiply rmul matmul rmatmul bmm mm mv dot einsum outer inner kron"
    ),
    arithmetic.quotient: "div divide truediv true_divide rtruediv rdiv",
    arithmetic.power: "pow",
    arithmetic.sum_of_two: "add radd sub subtract rsub",
    arithmetic.joined: "cat concat concatenate stack hstack vstack dstack",
    arithmetic.chosen: "where",
    arithmetic.affine: "masked_fill setitem index_put index_copy index_fill scatter fill copy",
    arithmetic.padding: "pad",
    arithmetic.convolution: (
        "conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d"
    ),
    arithmetic.linear: "linear",
    normalizations.batch_norm: "batch_norm",
    normalizations.layer_norm: "layer_norm",
    normalizations.group_norm: "group_norm",
    activations.saturated: "relu6 hardtanh",
    activations.clamp: "clamp clip",
    activations.hardswish: "hardswish",
    activations.silu: "silu",
    activations.gelu: "gelu",
    activations.sigmoid: "sigmoid",
    activations.tanh: "tanh",
    activations.softmax: "softmax",
}
CLOSED_FORMS: dict[str, ClosedForm] = {
    name: form for form, names in _TABLE.items() for name in names.split()
}
READS_INPUT = (
    activations.clamp,
    activations.hardswish,
    activations.silu,
    activations.gelu,
    activations.sigmoid,
    activations.tanh,
    activations.softmax,
)
"""Closed forms that read the input's values, which an in-place operation overwrites."""
