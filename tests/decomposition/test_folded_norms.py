"""A batch norm that runs as a part of the convolution before it changes no term."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint
from torch.utils.dlpack import from_dlpack, to_dlpack

from captum_tgrad import LayerTGradAttribution, TGradAttribution
from captum_tgrad.decomposition.tracing import trace
from captum_tgrad.decomposition.tracing.folded_norms import FoldedNorms

EXACT = {"rtol": 1e-11, "atol": 1e-11}
KINDS = {
    1: (nn.Conv1d, nn.BatchNorm1d),
    2: (nn.Conv2d, nn.BatchNorm2d),
    3: (nn.Conv3d, nn.BatchNorm3d),
}


@pytest.fixture(autouse=True)
def _inputs_count_as_large(monkeypatch):
    monkeypatch.setattr(trace, "are_small", lambda leaves: False)


@pytest.fixture
def folded(monkeypatch):
    """The names of the modules whose convolutions are folded."""
    names, fold = [], FoldedNorms.fold

    def recording(self, call):
        found = fold(self, call)
        if found is not None:
            names.append(self._modules.path)
        return found

    monkeypatch.setattr(FoldedNorms, "fold", recording)
    return names


def _filled(network):
    """The network in float64 and evaluation mode, with random values in all tensors."""
    torch.manual_seed(0)
    network = network.double().eval()
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            random = torch.rand_like(tensor) + 0.5 if "var" in name else torch.randn_like(tensor)
            tensor.copy_(random)
    return network


def _x(rank=2):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, 3, *[6] * rank, dtype=torch.float64, generator=generator)


def _decomposed(network, x):
    return TGradAttribution(network).decompose(x, target=0)


def _assert_same(one, other):
    assert [term.name for term in one.terms] == [term.name for term in other.terms]
    torch.testing.assert_close(one.output, other.output, **EXACT)
    assert float(one.delta.abs().max()) < 1e-10
    for term, expected in zip(one.terms, other.terms, strict=True):
        torch.testing.assert_close(term.score, expected.score, **EXACT)
        torch.testing.assert_close(term.positive, expected.positive, **EXACT)
        torch.testing.assert_close(term.negative, expected.negative, **EXACT)


def _unfolded(network, x, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(FoldedNorms, "fold", lambda self, call: None)
        return _decomposed(network, x)


class _Pooled(nn.Module):
    """A convolution, a batch norm and a head, with one class."""

    def __init__(self, rank=2, affine=True, **options):
        super().__init__()
        conv, norm = KINDS[rank]
        self.conv = conv(3, 6, 3, **options)
        self.norm = norm(6, affine=affine)
        self.head = nn.Linear(6, 1)

    def forward(self, x):
        return self.head(self.pooled(self.features(x)))

    def features(self, x):
        return self.norm(self.conv(x))

    def pooled(self, y):
        return F.silu(y).flatten(2).mean(2)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bias": False},
        {"affine": False},
        {"groups": 3, "stride": 2},
        {"padding": "same", "dilation": 2},
        {"padding": 1, "padding_mode": "reflect"},
        {"rank": 1},
        {"rank": 3},
    ],
    ids=str,
)
def test_terms_are_those_of_the_two_operations(options, folded, monkeypatch):
    network, x = _filled(_Pooled(**options)), _x(options.get("rank", 2))
    found = _decomposed(network, x)
    assert folded == ["conv"]
    assert torch.allclose(found.output, network(x)[:, 0])
    _assert_same(found, _unfolded(network, x, monkeypatch))


def test_the_term_of_a_norm_is_its_shift_times_the_gradient(folded):
    network, x = _filled(_Pooled()), _x()
    norm = network.norm
    y = network.features(x).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(network.head(network.pooled(y)).sum(), y)
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    shift = norm.bias - norm.running_mean * scale
    scores = {term.name: term.score for term in _decomposed(network, x).biases}
    assert folded
    each = gradient.sum((2, 3))
    torch.testing.assert_close(scores["norm"], (each * shift).sum(1), **EXACT)
    torch.testing.assert_close(scores["conv"], (each * scale * network.conv.bias).sum(1), **EXACT)


class _ReluFirst(_Pooled):
    def features(self, x):
        return self.norm(F.relu(self.conv(x)))


class _Skip(_Pooled):
    def features(self, x):
        y = self.conv(x)
        return self.norm(y) + y


class _SkipBefore(_Pooled):
    def features(self, x):
        y = self.conv(x)
        z = y * 2
        return self.norm(y) + z


class _NormTwice(_Pooled):
    def features(self, x):
        y = self.conv(x)
        return self.norm(y) * self.norm(y)


class _OtherNorm(_Pooled):
    def __init__(self):
        super().__init__()
        self.other = nn.BatchNorm2d(6)

    def features(self, x):
        return self.norm(self.other(self.conv(x)))


class _InPlace(_Pooled):
    def features(self, x):
        return self.norm(self.conv(x).mul_(2))


class _Overwritten(_Pooled):
    def features(self, x):
        y = self.conv(x)
        z = self.norm(y)
        y += 1
        return z * y


class _Detached(_Pooled):
    def features(self, x):
        y = self.conv(x)
        return self.norm(y) * y.detach()


class _Data(_Pooled):
    def features(self, x):
        y = self.conv(x)
        return self.norm(y) * y.data.mean()


class _AsNumbers(_Pooled):
    def features(self, x):
        y = self.conv(x)
        return self.norm(y) * float(y.detach().max())


class _Checked(_Pooled):
    """Fails if it reads other values than those of the convolution."""

    def features(self, x):
        y = self.conv(x)
        expected = F.conv2d(x, self.conv.weight, self.conv.bias)
        if not torch.allclose(y.detach(), expected.detach()):
            raise AssertionError
        return self.norm(y)


class _ChangedNorm(_Pooled):
    def features(self, x):
        y = self.conv(x)
        self.norm.weight.data.mul_(2)
        y = self.norm(y)
        self.norm.weight.data.div_(2)
        return y


class _ChangedUnseen(_Pooled):
    """A batch norm whose parameters change without a call that the trace sees."""

    def features(self, x):
        weight = self.norm.weight.detach().numpy()
        y = self.conv(x)
        weight *= 2
        y = self.norm(y)
        weight /= 2
        return y


class _SameAddresses(_Pooled):
    """A batch norm with the first value of each parameter for all channels."""

    def features(self, x):
        norm = self.norm
        values = (norm.running_mean, norm.running_var, norm.weight, norm.bias)
        first = [tensor[:1].expand(6) for tensor in values]
        return F.batch_norm(self.conv(x), *first, eps=norm.eps)


class _Triple(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 3

    @staticmethod
    def backward(ctx, gradient):
        return gradient * 3


class _ReadByFunction(_Pooled):
    def features(self, x):
        y = self.conv(x)
        return self.norm(_Triple.apply(y))


class _ReadByFunctionToo(_Pooled):
    def features(self, x):
        y = self.conv(x)
        z = _Triple.apply(y)
        return self.norm(y) * z


class _ReadByScript(_Pooled):
    def __init__(self):
        super().__init__()
        self.script = torch.jit.script(nn.Tanh())

    def features(self, x):
        y = self.conv(x)
        z = self.norm(y)
        return z * self.script(y)


class _Gradient(_Pooled):
    def features(self, x):
        y = self.conv(x)
        z = self.norm(y)
        (gradient,) = torch.autograd.grad(z.square().sum(), y, create_graph=True)
        return z * gradient.detach()


class _Unused(_Pooled):
    def features(self, x):
        self.conv(x)
        return x.repeat(1, 2, 1, 1)


class _InBranches(_Pooled):
    """Folded: another convolution runs before the batch norm."""

    def __init__(self):
        super().__init__()
        self.branch = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6))

    def features(self, x):
        y = self.conv(x)
        z = self.branch(x)
        return self.norm(y) + z


READERS = [
    _ReluFirst, _Skip, _SkipBefore, _NormTwice, _OtherNorm, _InPlace, _Overwritten, _Detached,
    _Data, _AsNumbers, _Checked, _ChangedNorm, _ReadByFunction, _ReadByFunctionToo, _ReadByScript,
    _Gradient, _Unused, _ChangedUnseen, _SameAddresses,
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is")
@pytest.mark.parametrize("kind", READERS)
def test_networks_that_read_the_result_of_the_convolution(kind, folded, monkeypatch):
    network, x = _filled(kind()), _x()
    expected = _unfolded(network, x, monkeypatch)
    torch.testing.assert_close(expected.output, network(x)[:, 0].detach(), **EXACT)
    method = TGradAttribution(network)
    _assert_same(method.decompose(x, target=0), expected)
    assert folded
    folded.clear()
    _assert_same(method.decompose(x, target=0), expected)
    assert not folded


def _positive(y):
    return (y > 0).double()


def _without_trace(y):
    with torch._C.DisableTorchFunction():
        return y.detach().mean()


def _in_thread(y):
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(_positive, y).result()


UNSEEN = {
    "script": lambda y: torch.jit.trace(_positive, torch.ones(()))(y),
    "thread": _in_thread,
    "transform": lambda y: torch.func.vmap(_positive)(y),
    "DLPack": lambda y: from_dlpack(to_dlpack(y)).mean(),
    "without trace": _without_trace,
}


@pytest.mark.filterwarnings("ignore:`torch.jit.trace` is")
@pytest.mark.parametrize("normalizes_first", [True, False])
@pytest.mark.parametrize("read", UNSEEN.values(), ids=UNSEEN)
def test_reading_constants_unseen_by_the_trace(read, normalizes_first, folded, monkeypatch):
    class Unseen(_Pooled):
        def features(self, x):
            y = self.conv(x)
            if normalizes_first:
                z = self.norm(y)
                return z * read(y)
            return read(y) * self.norm(y)

    network, x = _filled(Unseen()), _x()
    found = _decomposed(network, x)
    assert folded
    _assert_same(found, _unfolded(network, x, monkeypatch))


def test_another_convolution_before_the_norm(folded, monkeypatch):
    network, x = _filled(_InBranches()), _x()
    _assert_same(_decomposed(network, x), _unfolded(network, x, monkeypatch))
    assert folded == ["conv", "branch.0"]


def test_a_result_that_the_network_keeps_is_that_of_the_convolution(folded):
    class Keeps(_Pooled):
        def features(self, x):
            self.kept = self.conv(x)
            return self.norm(self.kept)

    network, x = _filled(Keeps()), _x()
    _decomposed(network, x)
    assert folded
    torch.testing.assert_close(network.kept, network.conv(x), **EXACT)


def test_hooks_see_the_result_of_the_convolution_once(folded):
    network, x = _filled(_Pooled()), _x()
    seen = []
    handles = [
        network.conv.register_forward_hook(lambda module, inputs, output: seen.append(output)),
        network.norm.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0])),
    ]
    for handle in handles:
        _decomposed(network, x)
        torch.testing.assert_close(seen.pop(), network.conv(x), **EXACT)
        handle.remove()
        seen.clear()
    assert not folded


def test_a_network_that_runs_again_draws_the_same_numbers(folded, monkeypatch):
    class Noisy(_ReluFirst):
        def features(self, x):
            return super().features(x + torch.rand_like(x))

    network, x = _filled(Noisy()), _x()
    found = []
    for decomposed in (partial(_unfolded, monkeypatch=monkeypatch), _decomposed):
        torch.manual_seed(5)
        with pytest.warns(UserWarning, match="random"):
            found.append(decomposed(network, x))
    _assert_same(*found)
    assert folded


def test_a_folded_network_runs_once(folded):
    class Counted(_Pooled):
        runs = 0

        def features(self, x):
            self.runs += 1
            return super().features(x)

    network = _filled(Counted())
    _decomposed(network, _x())
    assert folded
    assert network.runs == 1


@pytest.mark.filterwarnings("ignore:Initializing zero-element")
def test_a_convolution_without_channels():
    network = nn.Sequential(nn.Conv2d(3, 0, 1), nn.BatchNorm2d(0))
    with pytest.raises(RuntimeError, match="weight"):
        _decomposed(_filled(network), _x())


def test_a_sample_without_a_batch_dimension_is_not_folded(folded, monkeypatch):
    class Unbatched(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)
            self.norm = nn.BatchNorm1d(4)  # over the rows

        def forward(self, x):
            return self.norm(self.conv(x[0])).tanh().sum((0, 2))[None]

    network, x = _filled(Unbatched()), _x()[:1]
    found = _decomposed(network, x)
    torch.testing.assert_close(found.output, network(x)[:, 0].detach(), **EXACT)
    _assert_same(found, _unfolded(network, x, monkeypatch))
    assert not folded


def test_the_activation_of_a_layer_is_that_of_the_network():
    network, x = _filled(_ReluFirst()), _x()
    network.norm.weight.data[0] = 0
    found = LayerTGradAttribution(network, network.norm).decompose(x, target=0)
    torch.testing.assert_close(found.output, network(x)[:, 0].detach(), **EXACT)


@pytest.mark.parametrize("with_norm", [True, False])
def test_checkpointed_blocks(with_norm, folded, monkeypatch):
    class Checkpointed(_Pooled):
        def features(self, x):
            if with_norm:
                return checkpoint(super().features, x, use_reentrant=False)
            return self.norm(checkpoint(self.conv, x, use_reentrant=False))

    network, x = _filled(Checkpointed()), _x()
    _assert_same(_decomposed(network, x), _unfolded(network, x, monkeypatch))
    assert folded == ["conv"]


@pytest.mark.parametrize("change", [torch.flatten, torch.sum, lambda x: x[:, :0]])
def test_errors_of_the_convolution_are_its_own(change):
    class Wrong(_Pooled):
        def features(self, x):
            return super().features(change(x))

    with pytest.raises(RuntimeError, match="input"):
        _decomposed(_filled(Wrong()), _x())


@pytest.mark.parametrize("change", ["autocast", "half", "without statistics", "training"])
def test_what_is_not_folded(change, folded):
    network, x = _filled(_Pooled()), _x()
    with torch.autocast("cpu", enabled=change == "autocast"):
        if change == "autocast":
            network, x = network.float(), x.float()
        elif change == "half":
            network, x = network.bfloat16(), x.bfloat16()
        elif change == "without statistics":
            network.norm.running_mean = network.norm.running_var = None
        else:
            network.norm.train()
        if change in ("without statistics", "training"):
            with pytest.raises(ValueError, match="batch norm"):
                _decomposed(network, x)
        else:
            _decomposed(network, x)
    assert not folded


def test_a_mask_does_not_pass_through_a_folded_convolution(folded, monkeypatch):
    class Masked(_Pooled):
        """The windows of a convolution also hold positions that are not masked."""

        def forward(self, x):
            kept = torch.ones(1, 1, 6, dtype=x.dtype)
            kept[..., 3:] = 0
            y = self.norm(self.conv(x * kept))
            return self.head(y.sum(2).square())

    network, x = _filled(Masked(rank=1, padding=1)), _x(1)
    _assert_same(_decomposed(network, x), _unfolded(network, x, monkeypatch))
    assert folded
