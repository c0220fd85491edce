"""Similarities are those of scipy and scikit-image."""

import math
import sys
import warnings

import numpy as np
import pytest
import scipy.stats
import skimage.metrics
import torch

from captum_tgrad.sanity_checks.similarity import similarity


def maps(*shape, seed=0, ties=False):
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return values.round(decimals=0) if ties else values


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rank_correlation_is_scipys(ties, dtype):
    one = maps(3, 1, 9, 11, ties=ties).to(dtype)
    other = (maps(3, 1, 9, 11, seed=1, ties=ties) + 0.5 * one).to(dtype)
    result = similarity(one, other)
    for sample in range(3):
        first, second = one[sample].flatten().numpy(), other[sample].flatten().numpy()
        expected = scipy.stats.spearmanr(first, second).statistic
        absolute = scipy.stats.spearmanr(np.abs(first), np.abs(second)).statistic
        assert 0.1 < expected < 0.9
        assert float(result.spearman[sample]) == pytest.approx(expected, abs=1e-6)
        assert float(result.spearman_absolute[sample]) == pytest.approx(absolute, abs=1e-6)


def test_tied_places_share_their_average_rank():
    # Ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4: Pearson's correlation of those is 3 / sqrt(10).
    one, other = torch.tensor([[0.0, 1.0, 1.0, 5.0]]), torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    assert float(similarity(one, other).spearman) == pytest.approx(3 / math.sqrt(10), abs=1e-12)


@pytest.mark.parametrize(
    ("shape", "window"),
    [
        ((20, 24), 7),
        ((7, 7), 7),
        ((6, 9), 5),
        ((4, 4), 3),
        ((3, 8), 3),
        ((9, 8, 10), 7),
        ((15,), 7),
    ],
)
def test_structural_similarity_is_that_of_scikit_image(shape, window):
    one = 3 * maps(2, 1, *shape)
    other = 0.1 * (maps(2, 1, *shape, seed=1) + one)
    result = similarity(one, other)
    for sample in range(2):
        first, second = one[sample, 0].numpy(), other[sample, 0].numpy()
        expected, absolute = (
            skimage.metrics.structural_similarity(
                np.interp(a, (a.min(), a.max()), (0, 1)),
                np.interp(b, (b.min(), b.max()), (0, 1)),
                win_size=window,
                data_range=1.0,
            )
            for a, b in ((first, second), (np.abs(first), np.abs(second)))
        )
        assert 0.05 < expected < 0.99
        assert float(result.ssim[sample]) == pytest.approx(expected, abs=1e-6)
        assert float(result.ssim_absolute[sample]) == pytest.approx(absolute, abs=1e-6)


def test_equal_maps_are_alike_and_opposite_maps_only_without_their_sign():
    one = maps(2, 1, 9, 9)
    assert torch.allclose(torch.stack(similarity(one, 5 * one)), torch.ones(4, 2).double())
    opposite = similarity(one, -one)
    assert torch.allclose(opposite.spearman, -torch.ones(2).double())
    assert torch.allclose(opposite.spearman_absolute, torch.ones(2).double())
    assert bool((opposite.ssim < 0).all())
    assert torch.allclose(opposite.ssim_absolute, torch.ones(2).double())


def test_constant_maps_have_no_ranks():
    one, constant = maps(2, 1, 9, 9), torch.full((2, 1, 9, 9), 3.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for first, second in ((one, constant), (constant, one), (constant, 0 * constant)):
            result = similarity(first, second)
            assert bool(result.spearman.isnan().all())
            assert bool(result.spearman_absolute.isnan().all())
            assert bool(result.ssim.isfinite().all())
            assert bool(result.ssim_absolute.isfinite().all())
        # The sign is all that differs here, and there are no ranks without it.
        signs = torch.tensor([[-1.0, 1.0, 1.0]])
        assert float(similarity(signs, signs).spearman) == pytest.approx(1)
        assert bool(similarity(signs, signs).spearman_absolute.isnan())


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_maps_that_are_not_finite_only_spoil_their_own_sample(value):
    one, other = maps(2, 1, 9, 9), maps(2, 1, 9, 9, seed=1)
    other[0, 0, 3, 4] = value
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = similarity(one, other)
    for values in found:
        assert values.isnan().tolist() == [True, False]


def test_maps_of_any_dtype_with_a_graph_and_on_any_default_device():
    one, other = maps(2, 1, 9, 9).bfloat16(), maps(2, 1, 9, 9, seed=1).bfloat16()
    with torch.device("meta"):
        found = similarity(one.requires_grad_(), other)
    for values, expected in zip(found, similarity(one.double(), other.double()), strict=True):
        assert values.device.type == "cpu"
        assert torch.equal(values, expected)


@pytest.mark.parametrize("shape", [(2, 9), (2, 1, 2, 9), (2, 1, 1, 1)])
def test_what_is_too_small_for_a_window(shape):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = similarity(maps(*shape), maps(*shape, seed=1))
    assert bool(result.ssim.isnan().all())
    assert bool(result.ssim_absolute.isnan().all())
    assert bool(result.spearman.isnan().all()) == (math.prod(shape) == 2)


@pytest.mark.parametrize("missing", ["scipy.stats", "skimage.metrics"])
def test_a_missing_library_is_named_with_its_extra(missing, monkeypatch):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "\.\[sanity\]"'):
        similarity(maps(1, 1, 9, 9), maps(1, 1, 9, 9))
