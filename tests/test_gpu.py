"""A GPU gives the maps and the numbers of the CPU, and no global setting changes."""

import warnings

import pytest
import torch
from torch import nn

from captum_tgrad import FullGradAttribution, TGradAttribution
from captum_tgrad.decomposition.tracing.trace import Trace
from captum_tgrad.evaluation import built_in_images, evaluate
from captum_tgrad.sanity_checks import cascading_randomization
from captum_tgrad.zoo import load_classifier
from tests.global_settings import global_settings
from tests.metrics.every_metric import METRICS, tensors_of
from tests.networks import each_network

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def _closeness(tiny):
    # On a GPU, torch's hardswish multiplies by 1 / 6 in float32, also in float64.
    return {"rtol": 1e-5, "atol": 1e-6} if tiny.id == "hardswish" else {"rtol": 1e-7, "atol": 1e-8}


def _assert_equal_on_the_cpu(found, expected, **close):
    assert [term.name for term in found.terms] == [term.name for term in expected.terms]
    for term, other in zip(found.terms, expected.terms, strict=True):
        assert term.score.is_cuda
        torch.testing.assert_close(term.score.cpu(), other.score, **close)
        torch.testing.assert_close(term.positive.cpu(), other.positive, **close)
        torch.testing.assert_close(term.negative.cpu(), other.negative, **close)
    for aggregation in ("paper", "levels"):
        torch.testing.assert_close(
            found.map(aggregation=aggregation).cpu(),
            expected.map(aggregation=aggregation),
            **close,
        )


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@each_network
def test_every_term_is_that_of_the_cpu(tiny, memory_format):
    if memory_format == torch.channels_last and any(x.dim() != 4 for x in tiny.inputs):
        pytest.skip("channels_last is for images")
    expected = TGradAttribution(tiny.build()).decompose(tiny.inputs, target=tiny.target)
    network = tiny.build().cuda()
    inputs = tuple(x.cuda().contiguous(memory_format=memory_format) for x in tiny.inputs)
    before = global_settings()
    method = TGradAttribution(network)
    for _ in range(2):  # the second call may replay the first
        found = method.decompose(inputs, target=tiny.target)
        assert global_settings() == before
        _assert_equal_on_the_cpu(found, expected, **_closeness(tiny))


def test_fused_attention_in_a_later_call(monkeypatch):
    layer = nn.TransformerEncoderLayer(32, 4, 64, activation="gelu", batch_first=True)
    network = nn.Sequential(layer, nn.Flatten(), nn.Linear(16 * 32, 3)).cuda().eval()
    method = TGradAttribution(network)
    recorded, follow = [], Trace.follow
    monkeypatch.setattr(Trace, "follow", lambda *given: recorded.append(1) or follow(*given))
    inputs = torch.randn(2, 16, 32, device="cuda")
    first, later = (method.decompose(inputs, target=1, channel_dim=2) for _ in range(2))
    assert len(recorded) == 1
    assert [term.name for term in later] == [term.name for term in first]
    for one, other in zip(later, first, strict=True):
        for name in ("score", "positive", "negative"):
            torch.testing.assert_close(getattr(one, name), getattr(other, name))


@pytest.mark.parametrize("form", [{}, {"num_layers": 2, "dropout": 0.5, "bidirectional": True}])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_a_recurrent_layer_in_evaluation_mode(kind, packed, form):
    # cuDNN has no backward pass in evaluation mode: Captum's Saliency raises an error.
    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = kind(3, 4, **form)

        def forward(self, steps):
            given = nn.utils.rnn.pack_padded_sequence(steps, [5]) if packed else steps
            found = self.layer(given)[0]
            return (found.data if packed else found).sum(0).reshape(steps.shape[1], -1)

    torch.manual_seed(0)
    model, steps = Network().double().eval(), torch.randn(5, 1, 3).double()

    def decomposed(model, steps):
        turned = steps.transpose(0, 1)
        method = TGradAttribution(lambda x: model(x.transpose(0, 1)))
        return method.decompose(turned, target=1, channel_dim=-1)

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*loses the positions.*")
        warnings.filterwarnings("ignore", "RNN module weights are not part of single")  # of torch
        expected = decomposed(model, steps)
        found = decomposed(model.cuda(), steps.cuda())
    assert not model.training
    for own, other in zip(found.terms, expected.terms, strict=True):
        torch.testing.assert_close(own.score.cpu(), other.score, rtol=1e-7, atol=1e-8)
        torch.testing.assert_close(own.positive.cpu(), other.positive, rtol=1e-7, atol=1e-8)


@each_network
def test_full_grad_is_that_of_the_cpu(tiny):
    expected = FullGradAttribution(tiny.build()).attribute(tiny.inputs, target=tiny.target)
    inputs = tuple(x.cuda() for x in tiny.inputs)
    found = FullGradAttribution(tiny.build().cuda()).attribute(inputs, target=tiny.target)
    torch.testing.assert_close(found, expected, **_closeness(tiny), check_device=False)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.filterwarnings("ignore:The baseline keeps half")
def test_every_metric_is_that_of_the_cpu(metric):
    generator = torch.Generator().manual_seed(0)

    def random(*shape):
        return torch.rand(shape, generator=generator, dtype=torch.float64)

    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GELU(), nn.Flatten(), nn.Linear(144, 3)).double()
    inputs, maps, baseline = random(2, 3, 8, 8), random(2, 1, 8, 8), random(2, 3, 8, 8)
    expected = metric(model, inputs, maps, baseline, target=1)
    before = global_settings()
    found = metric(model.cuda(), inputs.cuda(), maps.cuda(), baseline.cuda(), target=1)
    assert global_settings() == before
    pairs = list(zip(tensors_of(found), tensors_of(expected), strict=True))
    assert pairs
    for own, other in pairs:
        torch.testing.assert_close(own.cpu(), other.cpu(), rtol=1e-7, atol=1e-9)


def test_cascading_randomization_on_a_gpu():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(64, 3)
    )
    x = torch.randn(2, 3, 8, 8)
    weights = {name: value.clone() for name, value in model.cuda().state_dict().items()}
    before = global_settings()
    steps = list(cascading_randomization(model, TGradAttribution, x.cuda(), target=1))
    assert global_settings() == before
    assert len(steps) > 2
    for name, value in model.state_dict().items():
        assert value.is_cuda
        assert torch.equal(value, weights[name])


@pytest.mark.filterwarnings("ignore:More than a quarter of the features are tied")
def test_evaluate_on_a_gpu():
    # Real images: the orders of their pixels may differ by what a GPU rounds differently.
    records = {}
    for device in ("cpu", "cuda"):
        classifier = load_classifier("efficientnet_lite0")
        classifier.model.to(device)
        pictures = built_in_images(classifier)
        methods = ["t_grad", "t_grad_levels", "full_grad", "saliency", "grad_cam", "eigen_cam"]
        with torch.backends.cudnn.flags(allow_tf32=False):
            records[device] = evaluate(classifier, pictures, methods, n_steps=7, limit=2).records
    for own, other in zip(records["cuda"], records["cpu"], strict=True):
        assert (own["image"], own["method"]) == (other["image"], other["method"])
        for key in ("insertion", "deletion"):
            assert own[key] == pytest.approx(other[key], abs=0.03), (own["method"], key)
