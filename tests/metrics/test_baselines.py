"""Baselines in all forms, and presets."""

import pytest
import torch

from captum_tgrad.metrics import (
    blur,
    deletion,
    increase_in_confidence,
    insertion,
    insertion_deletion,
    mean_color,
    zeros,
)
from tests.metrics.every_metric import tensors_of
from tests.metrics.models import linear, random

pytestmark = pytest.mark.filterwarnings("ignore:The baseline keeps half")

INPUTS = random(2, 3, 4, 4).abs() + 1
MAPS = random(2, 1, 4, 4, seed=1)
WEIGHTS = random(48, seed=2)
MODEL = linear(WEIGHTS)


def _score(tensor):
    return tensor.expand(2, 3, 4, 4).flatten(1) @ WEIGHTS


@pytest.mark.parametrize(
    ("baselines", "tensor", "label"),
    [
        (0, torch.zeros(1, 1, 1, 1).double(), "0"),
        (-0.5, torch.full((1, 1, 1, 1), -0.5).double(), "-0.5"),
        (zeros, torch.zeros(1, 1, 1, 1).double(), "zeros"),
        (mean_color, INPUTS.mean((2, 3), keepdim=True), "mean_color"),
        (blur(3, 1), blur(3, 1)(INPUTS), "blur(kernel_size=3, sigma=1)"),
        (INPUTS.flip(0), INPUTS.flip(0), "tensor of shape (2, 3, 4, 4)"),
        (INPUTS[:1, :, :1, :1], INPUTS[:1, :, :1, :1], "tensor of shape (1, 3, 1, 1)"),
        ((INPUTS[:1],), INPUTS[:1], "tensor of shape (1, 3, 4, 4)"),
    ],
)
def test_every_form(baselines, tensor, label):
    result = insertion_deletion(MODEL, INPUTS, MAPS, baselines)
    expected = _score(tensor)
    torch.testing.assert_close(result.insertion_baseline_score, expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(result.deletion_baseline_score, expected, rtol=0, atol=1e-10)
    assert result.protocol["baseline"] == {"insertion": label, "deletion": label}


@pytest.mark.parametrize("metric", [insertion_deletion, increase_in_confidence])
def test_a_callable_may_write_into_what_it_gets(metric):
    inputs = INPUTS.clone()
    found = metric(MODEL, inputs, MAPS, lambda given: given.mul_(0.5))
    assert torch.equal(inputs, INPUTS)
    expected = metric(MODEL, INPUTS, MAPS, INPUTS / 2)
    for one, other in zip(tensors_of(found), tensors_of(expected), strict=True):
        assert torch.equal(one, other)


def test_one_for_each_curve():
    kinds = {"insertion": 1.0, "deletion": mean_color}
    result = insertion_deletion(MODEL, INPUTS, MAPS, kinds)
    ones = _score(torch.ones(1, 1, 1, 1).double())
    mean = _score(INPUTS.mean((2, 3), keepdim=True))
    torch.testing.assert_close(result.insertion_baseline_score, ones, rtol=0, atol=1e-10)
    torch.testing.assert_close(result.deletion_baseline_score, mean, rtol=0, atol=1e-10)
    for metric, area in [(insertion, result.insertion), (deletion, result.deletion)]:
        alone = getattr(metric(MODEL, INPUTS, MAPS, kinds), metric.__name__)
        torch.testing.assert_close(alone, area, rtol=0, atol=1e-12)


def test_one_for_each_input_and_zeros_for_tables():
    def model(image, table):
        return image.flatten(1).sum(1) + 100 * table.sum(1)

    inputs = (INPUTS, random(2, 5))
    maps = (MAPS, random(2, 5, seed=3))
    result = insertion_deletion(model, inputs, maps, (2, inputs[1].mean(1, keepdim=True)))
    expected = 96 + 100 * inputs[1].sum(1)
    torch.testing.assert_close(result.insertion_baseline_score, expected, rtol=0, atol=1e-10)
    result = insertion_deletion(model, inputs, maps, preset="rise")
    blurred = blur(11, 5)(INPUTS).flatten(1).sum(1)
    torch.testing.assert_close(result.insertion_baseline_score, blurred, rtol=0, atol=1e-10)
    assert result.deletion_baseline_score.tolist() == [0, 0]
    assert result.protocol["baseline"] == {
        "insertion": ["blur(kernel_size=11, sigma=5)", "zeros"],
        "deletion": ["zeros", "zeros"],
    }


@pytest.mark.parametrize("preset", ["paper", "rise"])
def test_a_baseline_that_both_curves_share_is_made_and_scored_once(preset):
    made, scored = [], []

    def black(inputs):
        made.append(len(inputs))
        return torch.zeros_like(inputs)

    def model(x):
        scored.append(len(x))
        return MODEL(x)

    insertion_deletion(model, INPUTS, MAPS, black, n_steps=4, preset=preset)
    assert made == [2]
    assert sum(scored) == 2 * (2 + 2 * 3)


@pytest.mark.parametrize("preset", ["paper", "rise"])
def test_none_in_a_tuple_is_what_the_preset_says(preset):
    expected = insertion_deletion(MODEL, INPUTS, MAPS, preset=preset)
    found = insertion_deletion(MODEL, INPUTS, MAPS, (None,), preset=preset)
    assert found.protocol == expected.protocol
    for name in ("insertion", "deletion", "insertion_baseline_score", "deletion_baseline_score"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name
    # Where the preset has one for both curves, it is made and scored once.
    shared = found.deletion_baseline_score is found.insertion_baseline_score
    assert shared == (preset == "paper")


def test_none_beside_another_baseline_is_what_the_preset_says():
    def model(image, other):
        return image.flatten(1).sum(1) + 100 * other.sum(1)

    inputs, maps = (INPUTS, random(2, 5)), (MAPS, random(2, 5, seed=3))
    result = insertion_deletion(model, inputs, maps, (None, 2.0), preset="rise")
    blurred = blur(11, 5)(INPUTS).flatten(1).sum(1) + 1000
    torch.testing.assert_close(result.insertion_baseline_score, blurred, rtol=0, atol=1e-10)
    assert result.deletion_baseline_score.tolist() == [1000, 1000]


def test_integers_can_be_perturbed_where_a_baseline_is_given():
    inputs = torch.tensor([[3, 5, 7]])
    result = insertion(
        lambda x: x.float().sum(1), inputs, torch.tensor([[2.0, 1.0, 3.0]]), 0, return_curves=True
    )
    assert result.insertion_curve.tolist() == [[0, 7, 10, 15]]


@pytest.mark.parametrize("metric", [insertion_deletion, insertion, deletion])
@pytest.mark.parametrize(
    ("dtype", "baselines", "name"),
    [
        (torch.int64, 0.5, "baselines"),
        (torch.uint8, -1, "baselines"),
        (torch.uint8, 256, "baselines"),
        (torch.int64, torch.nan, "baselines"),
        (torch.bool, 2, "baselines"),
        (torch.int64, torch.tensor([[1.0, 2.5, 3.0]]), "baselines"),
        (torch.uint8, torch.tensor([[-1, 0, 1]]), "baselines"),
        (torch.int64, (0.5,), r"baselines\[0\]"),
        (torch.int64, lambda x: x / 2, "the result of the callable baselines"),
    ],
)
def test_baselines_that_integer_inputs_cannot_hold(metric, dtype, baselines, name):
    inputs, maps = torch.tensor([[3, 5, 7]]).to(dtype), torch.tensor([[2.0, 1.0, 3.0]])
    with pytest.raises(ValueError, match=rf"^{name} holds values.*{dtype}.*inputs\.float\(\)"):
        metric(lambda x: x.float().sum(1), inputs, maps, baselines)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
@pytest.mark.parametrize(
    "baselines", [2, 2.0, torch.tensor([[2.0]]), torch.tensor([[2]]), lambda x: x * 0.0 + 2]
)
def test_baselines_that_integer_inputs_can_hold(dtype, baselines):
    inputs, maps = torch.tensor([[3, 5, 7]]).to(dtype), torch.tensor([[2.0, 1.0, 3.0]])
    result = insertion(lambda x: x.float().sum(1), inputs, maps, baselines, return_curves=True)
    assert result.insertion_curve.tolist() == [[6, 11, 12, 15]]


@pytest.mark.parametrize("samples", [1, 2])
@pytest.mark.parametrize("dtype", [torch.uint16, torch.uint32, torch.uint64])
def test_unsigned_integers_are_replaced_as_signed_ones(samples, dtype):
    inputs, maps = (9 * INPUTS[:samples]).long(), MAPS[:samples]
    expected = insertion_deletion(lambda x: MODEL(x.double()), inputs, maps, 3, n_steps=5)
    found = insertion_deletion(lambda x: MODEL(x.double()), inputs.to(dtype), maps, 3, n_steps=5)
    assert torch.equal(found.difference, expected.difference)


@pytest.mark.parametrize("metric", [insertion_deletion, increase_in_confidence])
def test_an_error_names_the_baseline_that_holds_nan(metric):
    baselines = 0, torch.full((2, 1, 1, 1), torch.nan)
    with pytest.raises(ValueError, match=r"^baselines\[1\] holds NaN or inf in sample 0, 1\."):
        metric(lambda a, b: MODEL(a + b), (INPUTS, INPUTS), (MAPS, MAPS), baselines)
