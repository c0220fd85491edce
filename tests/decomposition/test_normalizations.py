"""Gradients that torch misreads in the backward pass of a normalization, on a CPU."""

import copy

import pytest
import torch
from torch import nn

from captum_tgrad import TGradAttribution


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
