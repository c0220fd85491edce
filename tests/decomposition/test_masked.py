"""Elements that a network masks contribute nothing, also if they are infinite or NaN on the way."""

import math

import pytest
import torch
import torch.nn.functional as F

from captum_tgrad import TGradAttribution
from tests.decomposition.checks import assert_complete, custom_function

X = torch.randn(2, 3, 6, generator=torch.Generator().manual_seed(0)).double()
LAST = torch.arange(6) >= 4
ROW = torch.zeros(2, 3, 1, dtype=torch.bool)
ROW[0, 1] = True
MASK = LAST | ROW
"""Masks the last columns of all rows, and the whole second row of the first sample."""
WEIGHT = torch.linspace(0.5, 2, 6).double()


def _read(y):
    return (y * WEIGHT).sum((1, 2))


def _softmax_gradient(z, gradient):
    y = torch.softmax(z, -1)
    return y * (gradient - (y * gradient).sum(-1, keepdim=True))


HIDDEN_SOFTMAX = custom_function(lambda z: torch.softmax(z, -1), _softmax_gradient)
SOFTMAXES = {
    "masked_fill": lambda z: F.softmax(z, -1).masked_fill(ROW, 0),
    "nan_to_num": lambda z: F.softmax(z, -1).nan_to_num(0),
    "where": lambda z: torch.where(ROW, 0.0, z.softmax(2)),
    "dtype": lambda z: F.softmax(z, -1, dtype=torch.float64).masked_fill(ROW, 0),
    "hidden": lambda z: HIDDEN_SOFTMAX(z).masked_fill(ROW, 0),
}


@pytest.mark.filterwarnings("ignore:A hidden operation loses the positions")
@pytest.mark.parametrize("softmax", SOFTMAXES.values(), ids=SOFTMAXES)
@pytest.mark.parametrize("channel_dim", [None, 2])
def test_a_row_of_infinities_alone_that_is_masked_after_a_softmax_contributes_nothing(
    softmax, channel_dim
):
    found = TGradAttribution(lambda x: _read(softmax(x.masked_fill(MASK, -math.inf)))).decompose(
        X, channel_dim=channel_dim
    )
    z = X[..., :4]
    y = z.softmax(-1)
    bias = y * (1 - z + (y * z).sum(-1, keepdim=True))
    expected = (bias.masked_fill(ROW, 0) * WEIGHT[:4]).sum((1, 2))
    total = sum(term.score for term in found.biases)
    torch.testing.assert_close(total, expected, rtol=1e-10, atol=1e-12)
    assert_complete(found, atol=1e-12)


OPERATIONS = {
    "gelu": lambda z: F.gelu(z).nan_to_num(0),
    "silu": lambda z: F.silu(z).masked_fill(MASK, 0),
    "logsumexp": lambda z: z.logsumexp(-1, keepdim=True).masked_fill(ROW, 0).expand(2, 3, 6),
    "log_softmax": lambda z: z.log_softmax(-1).masked_fill(MASK, 0),
    "times zero": lambda z: torch.where(MASK, 0.0, z * 2),
    "in half precision": lambda z: z.float().softmax(-1).masked_fill(ROW, 0).double(),
}


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
@pytest.mark.parametrize("sign", ["positive", "all"])
@pytest.mark.parametrize("channel_dim", [None, 2])
def test_the_map_is_that_of_finite_elements_in_place_of_infinite_ones(operation, sign, channel_dim):
    def filled(value):
        return lambda x: _read(operation(x.masked_fill(MASK, -math.inf).masked_fill(ROW, value)))

    infinite, finite = (
        TGradAttribution(filled(value)).attribute(
            X, sign=sign, channel_dim=channel_dim, return_convergence_delta=True
        )
        for value in (-math.inf, 0.0)
    )
    torch.testing.assert_close(infinite, finite, rtol=1e-5, atol=1e-7)


def test_levels_of_terms_with_masked_elements_are_finite():
    found = TGradAttribution(
        lambda x: _read(F.softmax(x.masked_fill(MASK, -math.inf), -1).masked_fill(ROW, 0))
    ).attribute(X, channel_dim=None, aggregation="levels")
    assert bool(found.isfinite().all())


def test_attributions_that_are_nan_are_warned_of():
    x = X.masked_fill(LAST, 0).abs()
    with pytest.warns(UserWarning, match="The attributions of 12 elements of inputs are NaN"):
        found = TGradAttribution(lambda x: _read(x.sqrt())).attribute(x, channel_dim=None)
    assert torch.equal(found.isnan(), LAST.expand(2, 3, 6))


def test_an_output_that_is_nan_is_still_warned_of():
    with pytest.warns(UserWarning, match="Incomplete decomposition"):
        TGradAttribution(lambda x: _read(F.softmax(x.masked_fill(MASK, -math.inf), -1))).attribute(
            X, channel_dim=None
        )
