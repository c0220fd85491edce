"""Half precision, autocast, memory formats and compiled models."""

import pytest
import torch
from torch import nn

from captum_tgrad import TGradAttribution

X = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def model():
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.Conv2d(8, 8, 3),
            nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4),
        )  # fmt: skip
        nn.init.normal_(model[1].running_mean)
        return model.eval()


def _relative_delta(whole) -> float:
    scores = torch.stack([term.score for term in whole.terms]).abs().sum(0)
    return float((whole.delta.abs() / scores).max())


def test_a_limit_that_half_precision_rounds():
    # 0.1 is a little less in float16: the output equals the limit and is smaller than 0.1.
    x = torch.tensor([[3.0, 0.05]], dtype=torch.float16)
    (term,) = (
        TGradAttribution(lambda x: torch.nn.functional.hardtanh(x, 0.0, 0.1).sum(1))
        .decompose(x)
        .biases
    )
    torch.testing.assert_close(term.score, torch.tensor([0.1]), atol=1e-4, rtol=0)


@pytest.mark.parametrize(("dtype", "reach"), [(torch.bfloat16, 0.05), (torch.float16, 0.01)])
def test_half_precision_models(model, dtype, reach):
    expected = TGradAttribution(model).attribute(X, target=2)
    whole = TGradAttribution(model.to(dtype)).decompose(X.to(dtype), target=2)
    assert _relative_delta(whole) < reach
    assert all(term.positive.dtype == torch.float32 for term in whole.terms)
    attribution = TGradAttribution(model).attribute(X.to(dtype), target=2)
    assert attribution.dtype == torch.float32
    error = (attribution - expected).abs().sum() / expected.sum()
    assert float(error) < 4 * reach


@pytest.mark.parametrize(
    "layer", [nn.LayerNorm(64), nn.GroupNorm(2, 4), nn.GELU(), nn.Hardswish(), nn.SiLU()]
)
def test_large_half_precision_activations_do_not_overflow(layer):
    x = 400 * torch.randn(2, 4, 64, generator=torch.Generator().manual_seed(0)).half()
    whole = TGradAttribution(lambda x: layer.half()(x).float().mean((1, 2))).decompose(x)
    assert bool(whole.delta.isfinite().all())
    scale = sum((term.positive + term.negative).flatten(1).sum(1) for term in whole.terms)
    assert float((whole.delta.abs() / scale).max()) < 0.01


def test_autocast(model):
    expected = TGradAttribution(model).attribute(X, target=2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        whole = TGradAttribution(model).decompose(X, target=2)
        attribution = TGradAttribution(model).attribute(X, target=2)
    assert _relative_delta(whole) < 0.05
    assert all(term.positive.dtype == torch.float32 for term in whole.terms)
    assert float((attribution - expected).abs().sum() / expected.sum()) < 0.2
    sums = torch.stack([term.score for term in whole.terms]).clamp(min=0).sum(0)
    torch.testing.assert_close(attribution.sum((1, 2, 3)), sums)


@pytest.mark.parametrize(
    "context", [torch.inference_mode, lambda: torch.autocast("cpu", dtype=torch.bfloat16)]
)
def test_maps_of_terms_are_the_same_wherever_they_are_read(context):
    """Those of a network that crops its input are computed when they are read."""
    layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 11 * 12, 3))
    method = TGradAttribution(lambda x: layers(x[..., 3:, 2:]))
    expected, found = (method.decompose(X, target=2).terms for _ in range(2))
    for one, other in zip(found, expected, strict=True):
        with context():
            maps = one.positive, one.negative
        assert not any(each.is_inference() for each in maps)
        assert torch.equal(maps[0], other.positive)
        assert torch.equal(maps[1], other.negative)
    assert found[1].positive.shape != found[1].maps[0].positive.shape  # the crop's


def test_memory_formats(model):
    expected = TGradAttribution(model).attribute(X, target=2)
    inputs = X.contiguous(memory_format=torch.channels_last)
    attribution = TGradAttribution(model).attribute(inputs, target=2)
    assert attribution.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(attribution, expected)
    transposed = X.transpose(2, 3).contiguous().transpose(2, 3)
    torch.testing.assert_close(TGradAttribution(model).attribute(transposed, target=2), expected)


def test_a_compiled_model_gives_the_eager_result(model):
    eager = TGradAttribution(model).decompose(X, target=2)
    compiled = torch.compile(model, backend="eager")
    for _ in range(2):
        whole = TGradAttribution(compiled).decompose(X, target=2)
        assert [term.name for term in whole.terms] == [term.name for term in eager.terms]
        torch.testing.assert_close(whole.output, eager.output)
        for one, other in zip(whole.terms, eager.terms, strict=True):
            torch.testing.assert_close(one.positive, other.positive)
        compiled(X)  # the next round follows a model that has been compiled


def test_a_compiled_function_runs_eagerly_only_while_it_is_explained(model):
    runs = []

    def backend(graph, inputs):
        def run(*arguments):
            runs.append(graph)
            return graph(*arguments)

        return run

    compiled = torch.compile(lambda x: model(x), backend=backend)
    with torch.no_grad():
        compiled(X)
        assert len(runs) == 1
        expected = TGradAttribution(model).decompose(X, target=2)
        whole = TGradAttribution(compiled).decompose(X, target=2)
        assert len(runs) == 1
        assert [term.score.tolist() for term in whole] == [term.score.tolist() for term in expected]
        compiled(X)
    assert len(runs) == 2
