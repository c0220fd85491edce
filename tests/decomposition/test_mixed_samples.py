"""Networks whose output for one sample depends on other samples are refused in a batch."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from captum_tgrad import TGradAttribution
from captum_tgrad.decomposition.places.rules import elementwise
from tests.decomposition.checks import assert_as_alone, custom_function, randn

N, C = 4, 5


X, SHIFT, WEIGHT = randn(N, 1, C, seed=0), randn(C, seed=1), randn(C, C, seed=2)


def _network(part):
    return lambda x: part(((x + SHIFT)[:, 0] @ WEIGHT).sigmoid()).sigmoid()


def _layer(kind, **options):
    torch.manual_seed(3)
    return kind(C, C, **options).double()


LSTM, GRU = _layer(torch.nn.LSTM), _layer(torch.nn.GRU, batch_first=True)
PAIRS = (2, 2, C)
LESS_MEAN = custom_function(
    lambda h: h - 0.01 * h.mean(0), lambda h, gradient: gradient - 0.01 * gradient.mean(0)
)


MIXING = {
    "mean": lambda h: h - h.mean(),
    "mean of the batch": lambda h: h - h.mean(0),
    "small share of the mean": lambda h: h - 1e-6 * h.mean(0),
    "mean as a gate": lambda h: h * h.mean(0),
    "mean times the sample": lambda h: h - h.mean(0) * h,  # its terms add up by coincidence
    "maximum": lambda h: h / h.amax(),
    "norm": lambda h: h / h.norm(),
    "clipped norm": lambda h: h * (1 / h.norm()).clamp(max=0.5),
    "standardized": lambda h: (h - h.mean(0)) / h.std(0),
    "pairs": lambda h: h + h.view(PAIRS).mean(1).repeat_interleave(2, 0),
    "gate of pairs": lambda h: h * h.view(PAIRS).mean((1, 2)).repeat_interleave(2)[:, None],
    "average pooling": lambda h: h + F.avg_pool1d(h.T[None], 3, 1, 1)[0].T,
    "convolution": lambda h: h * F.conv1d(h.T[:, None], h.new_ones(1, 1, 3), padding=1)[:, 0].T,
    "interpolation": lambda h: h + F.interpolate(h.T[None], 6, mode="linear")[0].T[1:5],
    "cumulative sum": lambda h: h * h.cumsum(0),
    "cumulative maximum": lambda h: h + 0.01 * h.cummax(0).values,
    "log of a cumulative sum": lambda h: h + 0.01 * h.logcumsumexp(0),
    "first sample": lambda h: h - h[:1],
    "gate of the first sample": lambda h: h * h[:1].mean(),
    "softmax": lambda h: h * h.mean(1).softmax(0)[:, None],
    "log of a softmax": lambda h: h - h.log_softmax(0),
    "normalized": lambda h: h + F.normalize(h, dim=0),
    "attention": lambda h: (h @ h.T).softmax(1) @ h,
    "attention without gradient": lambda h: h + (h @ h.new_zeros(C, N)).softmax(1) @ h,
    "fused attention": lambda h: F.scaled_dot_product_attention(h[None], h[None], h[None])[0],
    "constant matrix": lambda h: h + h.new_full((N, N), 0.25) @ h,
    "permutation": lambda h: h + torch.eye(N, dtype=h.dtype)[[1, 0, 3, 2]] @ h,
    "index": lambda h: h * h[[1, 2, 3, 0]],
    "reordered": lambda h: h[[3, 2, 1, 0]],
    "reordered by index_select": lambda h: h.index_select(0, torch.tensor([3, 2, 1, 0])),
    "reordered by flip": lambda h: h.flip(1, 0),
    "reordered by sort": lambda h: h.sort(0).values,
    "roll": lambda h: (h * h.roll(1, 0)).sigmoid(),
    "sorted": lambda h: h + h.sort(0).values,
    "median": lambda h: h - h.median(0).values,
    "product": lambda h: h * h.prod(0),
    "einsum": lambda h: h + torch.einsum("nd,md->md", h, h),
    "distances": lambda h: torch.cdist(h, h).softmax(1) @ h,
    "covariance": lambda h: h @ torch.cov(h.T),
    "Fourier transform": lambda h: h + torch.fft.fft(h, dim=0).real,
    "pseudo inverse": lambda h: h + 0.01 * torch.linalg.pinv(h).T,
    "layer norm": lambda h: F.layer_norm(h.T, (N,)).T,
    "RMS norm": lambda h: F.rms_norm(h.T, (N,)).T,
    "group norm": lambda h: F.group_norm(h[None], 1)[0],
    "groups of two samples": lambda h: F.group_norm(h.reshape(1, -1), 2).reshape(N, C),
    "instance norm": lambda h: F.instance_norm(h.T[None])[0].T,
    "local response norm": lambda h: F.local_response_norm(h[None], 3)[0],
    "LSTM whose steps are samples": lambda h: LSTM(h[:, None])[0][:, 0],
    "loop over samples": lambda h: torch.stack([h[i] + 0.01 * h[i - 1] for i in range(N)]),
    "scalar as a channel": lambda h: torch.cat([h, h.mean().expand(N, 1)], 1) @ h.new_ones(6, C),
    "where": lambda h: torch.where(h > 0.5, h, h.mean()),
    "minimum": lambda h: torch.minimum(h, h.mean() + 0.1),
    "written": lambda h: h.index_put((torch.tensor([0]),), h.mean(0)),
    "index_add": lambda h: h + h.new_zeros(1, C).index_add(0, torch.zeros(N).long(), h),
    "custom function": LESS_MEAN,
    "checkpoint": lambda h: checkpoint(LESS_MEAN, h, use_reentrant=False),
}


@pytest.mark.parametrize("name", MIXING)
def test_samples_that_depend_on_others_are_refused(name):
    network = _network(MIXING[name])
    others = X.clone()
    others[1:-1] += 0.3
    others[0], others[-1] = X[0], X[-1] + 0.3
    changed = [network(others)[0] != network(X)[0]]
    others[0], others[-1] = X[0] + 0.3, X[-1]
    changed.append(network(others)[-1] != network(X)[-1])
    assert bool(torch.stack(changed).any())
    with pytest.raises(ValueError, match="one at a time"):
        TGradAttribution(network).decompose(X, 0)


def _packed(h, mask_of):
    """Attention to the elements of the own sample, with all samples in one sequence."""
    tokens, own = h.reshape(1, -1, 1).expand(-1, -1, 2), torch.arange(len(h)).repeat_interleave(C)
    mask = mask_of(own[:, None] == own)
    return F.scaled_dot_product_attention(tokens, tokens, tokens, attn_mask=mask)[0, :, 0]


APART = {
    "gate": lambda h: h * h.mean(1, keepdim=True),
    "softmax": lambda h: h.softmax(1),
    "group of a sample": lambda h: F.group_norm(h.reshape(1, -1), len(h)).view_as(h),
    "two groups of a sample": lambda h: F.group_norm(h[:, :4].reshape(1, -1), 2 * len(h)),
    "instance norm": lambda h: F.instance_norm(h[None])[0],
    "batch norm": lambda h: F.batch_norm(
        h.reshape(1, -1), SHIFT.repeat(len(h)), torch.ones_like(h).flatten()
    ),
    "convolution with one weight": lambda h: F.conv1d(h.T[None], WEIGHT[..., None])[0].T,
    "einsum": lambda h: torch.einsum("nd,nd->n", h, h)[:, None] * h,
    "loop over samples": lambda h: torch.stack([row.softmax(0) for row in h]),
    "GRU": lambda h: GRU(h[:, :, None].expand(-1, -1, C))[0][:, -1],
    "Kronecker product": lambda h: torch.kron(h, h.new_ones(1, 2)),
    "padded": lambda h: F.pad(h, (1, 1)).sigmoid(),
    "packed": lambda h: _packed(h, lambda own: own),
    "packed with an additive mask": lambda h: _packed(h, lambda own: own.double().log()),
    "no elements": lambda h: h + h[:, :0].sum(1, keepdim=True),
}


@pytest.mark.parametrize("name", APART)
def test_samples_that_do_not_depend_on_others_have_the_map_of_each_alone(name):
    assert_as_alone(_network(lambda h: APART[name](h).reshape(len(h), -1)), X, target=0)


def test_the_error_names_an_operation():
    with pytest.raises(ValueError, match="'sigmoid' in 'forward_func'"):
        TGradAttribution(_network(lambda h: (h - h.mean(0)).sigmoid())).decompose(X, 0)


def test_samples_whose_places_are_wrong_are_noticed(monkeypatch):
    monkeypatch.setattr(elementwise, "samples_mixed_along", lambda given, dims: given)
    with pytest.warns(UserWarning, match="samples of the batch probably influence each other"):
        TGradAttribution(_network(lambda h: h - h.softmax(0))).decompose(X, 0)
