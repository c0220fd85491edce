"""Normalizations: their terms, and gradients that torch misreads in their backward pass."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from captum_tgrad import TGradAttribution
from tests.decomposition.checks import randn

WEIGHT, SHIFT = randn(6, seed=1), randn(6, seed=2)
OPERATIONS = {
    "RMS norm": lambda x: F.rms_norm(x, (6,)),
    "RMS norm with weight": lambda x: F.rms_norm(x, (6,), WEIGHT, 0.5),
    "RMS norm of two dimensions": lambda x: F.rms_norm(x, (4, 6), eps=2.0),
    "RMS norm whose weight depends on the input": lambda x: F.rms_norm(x, (6,), x[0, 0]),
    **{
        f"normalized by order {p}": lambda x, p=p: F.normalize(x, p, eps=1.5)
        for p in (0, 0.5, 1, 2, 3, math.inf, -math.inf)
    },
    "normalized along the last": lambda x: F.normalize(x, dim=-1),
    "normalized along two": lambda x: F.normalize(x, dim=(1, -1), eps=1e-3),
    "normalized as a whole": lambda x: F.normalize(x, dim=None),
    "normalized without an order": lambda x: F.normalize(x, p=None, dim=2),
    "vectors of zeros": lambda x: F.normalize(x * (x[:, :1] > 0), eps=0.1),
    "gated": lambda x: F.glu(x),
    "gated along channels": lambda x: F.glu(input=x, dim=1),
    "gated with a mask": lambda x: F.glu(x.masked_fill(torch.arange(6) > 4, -math.inf)),
    "layer norm": lambda x: F.layer_norm(x, (6,), WEIGHT, SHIFT, 0.5),
    "layer norm without weight": lambda x: F.layer_norm(x, (4, 6), eps=3.0),
    "layer norm of single elements": lambda x: F.layer_norm(x[..., None], (1,), eps=3.0),
    "group norm": lambda x: F.group_norm(x, 2, WEIGHT[:4], SHIFT[:4], 0.5),
    "group norm without shift": lambda x: F.group_norm(x, 4, WEIGHT[:4], eps=2.0),
    "instance norm": lambda x: F.instance_norm(x, weight=WEIGHT[:4], bias=SHIFT[:4], eps=0.5),
    "softmax": lambda x: x.softmax(1),
    "softmax of large logits": lambda x: (300 * x).softmax(-1),
    "softmax with subnormal numbers": lambda x: (x - 720 * (x > 0)).softmax(-1),
    "masked softmax": lambda x: x.masked_fill(WEIGHT > 0.3, -math.inf).softmax(-1),
}


@pytest.mark.parametrize("layout", ["contiguous", "transposed"])
@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_the_terms_are_the_output_less_its_directional_derivative(operation, layout):
    x, weight = randn(1, 4, 6), randn(24, seed=3)
    if layout == "transposed":
        x = x.mT.contiguous().mT

    def forward(x):
        y = operation(x)
        return y.flatten(1) @ weight[: y[0].numel()]

    y, derivative = torch.func.jvp(forward, (x,), (x,))
    whole = TGradAttribution(forward)
    for _ in range(2):  # the second call may replay the first
        found = whole.decompose(x, channel_dim=2)
        total = sum((term.score for term in found.biases), torch.zeros_like(y))
        torch.testing.assert_close(total, y - derivative, rtol=1e-10, atol=1e-10)


class Norm(nn.Module):
    """Normalizes over channels or positions, literally, with products and sums."""

    def __init__(self, norm):
        super().__init__()
        self.norm = norm

    def forward(self, z):
        norm = self.norm
        if isinstance(norm, nn.modules.batchnorm._BatchNorm) or norm.track_running_stats:
            mean, variance = norm.running_mean, norm.running_var
            shape = (-1, *[1] * (z.dim() - 2))
            mean, variance = mean.reshape(shape), variance.reshape(shape)
        else:
            dims = tuple(range(2, z.dim()))
            mean = z.mean(dims, keepdim=True)
            variance = (z - mean).square().mean(dims, keepdim=True)
        return (z - mean) * (variance + norm.eps).rsqrt()


class Network(nn.Module):
    """A normalization whose gradient arrives in the layout of tokens, or as a part of channels."""

    def __init__(self, norm, form):
        super().__init__()
        self.norm, self.form = norm, form

    def forward(self, x):
        x = x * x
        if self.form == "input of tokens":
            x = x.flatten(2).transpose(1, 2).contiguous().transpose(1, 2).reshape(x.shape)
        y = self.norm(x)
        if self.form == "squeezed":
            y = y.squeeze(-1) if y.dim() > 3 else y
        elif self.form != "tokens":
            y = torch.cat([y, x], 1)
            y = y.contiguous(memory_format=torch.channels_last) if y.dim() == 4 else y
        y = y.flatten(2).transpose(1, 2).contiguous()
        weights = torch.arange(y[0].numel()).double().cos().reshape(y[0].shape)
        return ((y * weights.to(y.dtype)).tanh()).flatten(1).sum(1)


@pytest.mark.parametrize("form", ["tokens", "part", "input of tokens", "squeezed"])
@pytest.mark.parametrize("samples", [1, 2])
@pytest.mark.parametrize("sizes", [(3, 3, 3), (1, 3, 3), (3, 3, 1)], ids=str)
@pytest.mark.parametrize(
    "norm",
    [
        nn.BatchNorm1d(4, affine=False),
        nn.BatchNorm2d(4, affine=False),
        nn.BatchNorm3d(4, affine=False),
        nn.InstanceNorm2d(4),
        nn.InstanceNorm3d(4),
        nn.InstanceNorm2d(4, track_running_stats=True),
    ],
    ids=str,
)
def test_every_layout_of_the_gradient_gives_the_input_term_of_the_formula(
    norm, sizes, samples, form
):
    norm = norm.double().eval()
    for tensor in norm.buffers():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(4, generator=torch.Generator().manual_seed(3)) + 0.5)
    dims = {"1": 1, "2": 2, "3": 3}[type(norm).__name__[-2]]
    x = torch.randn(
        samples,
        4,
        *sizes[-dims:],
        generator=torch.Generator().manual_seed(1),
        dtype=torch.float64,
    )
    method = TGradAttribution(Network(norm, form))
    expected = TGradAttribution(Network(Norm(norm), form)).decompose(x)
    for _ in range(2):  # the second call may replay the first
        found = method.decompose(x)
        torch.testing.assert_close(found.input.positive, expected.input.positive)
        torch.testing.assert_close(found.input.negative, expected.input.negative)
        torch.testing.assert_close(found.delta, torch.zeros_like(found.delta), atol=1e-12, rtol=0)


@pytest.mark.parametrize("form", ["tokens", "part", "input of tokens"])
@pytest.mark.parametrize(
    "norm", [nn.BatchNorm2d(4), nn.InstanceNorm2d(4)], ids=["batch", "instance"]
)
def test_half_precision(norm, form):
    x = torch.randn(1, 4, 6, 6, generator=torch.Generator().manual_seed(1))
    network = Network(norm.eval(), form)
    expected = TGradAttribution(copy.deepcopy(network).double()).decompose(x.double())
    found = TGradAttribution(network.bfloat16()).decompose(x.bfloat16())
    close = {"rtol": 0, "atol": 0.05 * float(expected.input.positive.max())}
    torch.testing.assert_close(found.input.positive.double(), expected.input.positive, **close)
    torch.testing.assert_close(found.input.negative.double(), expected.input.negative, **close)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("eps", [None, 1e-3])
def test_the_rms_norm_of_small_numbers_in_half_precision(dtype, eps):
    x = (randn(2, 4, 6) / 50).to(dtype)
    found = TGradAttribution(lambda x: F.rms_norm(x, (6,), eps=eps).flatten(1).sum(1)).decompose(x)
    scale = sum(term.positive.abs().sum() + term.negative.abs().sum() for term in found.terms)
    assert bool((found.delta.abs() <= 0.01 * scale).all())


def test_a_norm_at_its_limit_follows_the_gradient_that_torch_takes():
    x = torch.tensor([[1.0, -0.5, 0.25]], dtype=torch.float64, requires_grad=True)
    y = F.normalize(x, math.inf, eps=1.0).sum()
    (slope,) = torch.autograd.grad(y, x)
    found = TGradAttribution(lambda x: F.normalize(x, math.inf, eps=1.0).sum(1)).decompose(
        x.detach()
    )
    total = sum((term.score for term in found.biases), torch.zeros(1, dtype=torch.float64))
    torch.testing.assert_close(total, (y - (slope * x).sum()).detach()[None])
