"""Curves and areas against hand computations and direct evaluations."""

import pytest
import torch

from captum_tgrad.metrics import deletion, insertion, insertion_deletion
from tests.metrics.models import classifier, linear, permutation, random
from tests.metrics.reference import masked_by_rank

# Random baselines and untrained models: what they keep is beside the point.
pytestmark = pytest.mark.filterwarnings("ignore:The baseline keeps half")


def test_a_linear_model_by_hand():
    # Ranked 3, 2, 0, 1 with weights 5, 3, 2, 1: insertion 0, 5, 8, 10, 11.
    model = linear([2.0, 1.0, 3.0, 5.0])
    inputs, attributions = torch.ones(1, 4).double(), torch.tensor([[0.3, 0.1, 0.6, 0.8]])
    result = insertion_deletion(model, inputs, attributions, n_steps=4, return_curves=True)
    assert result.insertion_curve.tolist() == [[0, 5, 8, 10, 11]]
    assert result.deletion_curve.tolist() == [[11, 6, 3, 1, 0]]
    assert result.fractions.tolist() == [[0, 0.25, 0.5, 0.75, 1]]
    assert result.insertion.item() == pytest.approx((2.5 + 6.5 + 9 + 10.5) / 4, abs=1e-12)
    assert result.deletion.item() == pytest.approx((8.5 + 4.5 + 2 + 0.5) / 4, abs=1e-12)
    assert result.difference.item() == pytest.approx(28.5 / 4 - 15.5 / 4, abs=1e-12)
    assert (result.clean_score.item(), result.insertion_baseline_score.item()) == (11, 0)
    assert result.deletion_baseline_score is result.insertion_baseline_score


def test_steps_that_do_not_divide_the_features_by_hand():
    # 5 features in 3 steps: floor(j * 5 / 3) = 0, 1, 3, 5.
    model, inputs = linear([1.0, 2.0, 3.0, 4.0, 5.0]), torch.ones(1, 5).double()
    attributions = torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0]])
    result = insertion_deletion(model, inputs, attributions, n_steps=3, return_curves=True)
    assert result.fractions.tolist() == [[0, 0.2, 0.6, 1]]
    assert result.insertion_curve.tolist() == [[0, 5, 12, 15]]
    assert result.deletion_curve.tolist() == [[15, 10, 3, 0]]
    area = 0.2 * 2.5 + 0.4 * 8.5 + 0.4 * 13.5
    assert result.insertion.item() == pytest.approx(area, abs=1e-12)
    assert result.deletion.item() == pytest.approx(15 - area, abs=1e-12)


@pytest.mark.parametrize("n_steps", [5, 6, 224])
def test_with_more_steps_than_features_every_feature_is_a_step(n_steps):
    model, inputs = linear([1.0, 2.0, 3.0, 4.0, 5.0]), torch.ones(1, 5).double()
    attributions = torch.tensor([[5.0, 4.0, 3.0, 2.0, 1.0]])
    result = insertion(model, inputs, attributions, n_steps=n_steps, return_curves=True)
    assert result.insertion_curve.tolist() == [[0, 1, 3, 6, 10, 15]]
    assert result.protocol["n_steps"] == 5


@pytest.mark.parametrize("n_steps", [1, 2])
def test_one_step_is_the_mean_of_both_ends(n_steps):
    inputs = torch.ones(1, n_steps).double()
    model = linear(range(1, n_steps + 1))
    maps = torch.arange(n_steps)[None].double()
    result = insertion_deletion(model, inputs, maps, n_steps=1, return_curves=True)
    assert result.insertion_curve.shape == (1, 2)
    assert result.insertion.item() == result.deletion.item() == result.clean_score.item() / 2 > 0


@pytest.mark.parametrize(
    ("shape", "n_steps"), [((3, 3, 6, 5), 7), ((2, 4, 11), 4), ((2, 2, 3, 4, 2), 24), ((3, 9), 5)]
)
@pytest.mark.parametrize("max_examples_per_batch", [1, 7, 64])
def test_every_score_is_that_of_the_masked_input(shape, n_steps, max_examples_per_batch):
    inputs, baseline = random(*shape), random(*shape, seed=1)
    spatial = shape[2:] if len(shape) > 2 else shape[1:]
    importance = permutation(shape[0], *spatial)
    weights = random(*shape[1:], 5, seed=2)

    def model(x):
        return torch.tanh(torch.einsum("nf,fk->nk", x.flatten(1), weights.flatten(0, -2)))

    result = insertion_deletion(
        model,
        inputs,
        importance.unsqueeze(1) if len(shape) > 2 else importance,
        baseline,
        target=[3, 0, 2][: shape[0]],
        n_steps=n_steps,
        max_examples_per_batch=max_examples_per_batch,
        return_curves=True,
    )
    size = torch.Size(spatial).numel()
    for sample, target in zip(range(shape[0]), [3, 0, 2], strict=False):
        for point in range(n_steps + 1):
            count = point * size // n_steps
            for curve, start, finish in [
                (result.insertion_curve, baseline[sample], inputs[sample]),
                (result.deletion_curve, inputs[sample], baseline[sample]),
            ]:
                example = masked_by_rank(start, finish, importance[sample], count)
                expected = model(example[None]).softmax(1)[0, target]
                torch.testing.assert_close(curve[sample, point], expected, rtol=0, atol=1e-10)
            assert result.fractions[sample, point].item() == pytest.approx(count / size)
    expected = torch.trapezoid(result.insertion_curve, result.fractions)
    torch.testing.assert_close(result.insertion, expected, rtol=0, atol=1e-10)


def test_one_curve_alone_is_the_same_curve():
    model, inputs, maps = classifier(), random(2, 3, 8, 8), permutation(2, 1, 8, 8)
    options = {"n_steps": 6, "return_curves": True, "baselines": 0}
    both = insertion_deletion(model, inputs, maps, **options)
    for metric in (insertion, deletion):
        alone = vars(metric(model, inputs, maps, **options))
        shared = {name: getattr(both, name) for name in alone if name != "protocol"}
        assert {metric.__name__, f"{metric.__name__}_curve"} <= shared.keys()
        for name, expected in shared.items():
            torch.testing.assert_close(alone[name], expected, rtol=0, atol=1e-12)


def test_inputs_are_ranked_together_and_none_freezes_one():
    # Weights are importances; the pooled order is b0 (9), a1 (7), b1 (4), a0 (2).
    weights = (torch.tensor([2.0, 7.0]).double(), torch.tensor([9.0, 4.0]).double())

    def model(a, b):
        return a @ weights[0] + b.flatten(1) @ weights[1]

    inputs = (torch.ones(1, 2).double(), torch.ones(1, 1, 2).double())
    maps = (weights[0][None], weights[1][None, None])
    result = insertion_deletion(model, inputs, maps, 0, n_steps=4, return_curves=True)
    assert result.insertion_curve.tolist() == [[0, 9, 16, 20, 22]]
    assert result.deletion_curve.tolist() == [[22, 13, 6, 2, 0]]
    frozen = insertion_deletion(model, inputs, (None, maps[1]), 0, n_steps=2, return_curves=True)
    assert frozen.insertion_curve.tolist() == [[9, 18, 22]]
    assert frozen.deletion_curve.tolist() == [[22, 13, 9]]
    assert frozen.protocol["baseline"]["insertion"] == ["frozen", "0"]


@pytest.mark.parametrize("samples", [1, 2])
def test_an_unchanged_input_may_have_a_dtype_that_torch_cannot_index(samples):
    inputs = (torch.ones(samples, 2), torch.ones(samples, 3).to(torch.uint16))
    maps = (torch.tensor([2.0, 1.0]).expand(samples, -1), None)
    result = insertion_deletion(lambda x, _: x.sum(1), inputs, maps, n_steps=2)
    assert result.insertion.tolist() == [1.0] * samples


def test_samples_whose_inputs_take_turns_differently():
    def model(a, b):
        return a.sum(1) + 10 * b.sum(1)

    inputs = (torch.ones(3, 3).double(), torch.ones(3, 2).double())
    maps = (
        torch.tensor([[9.0, 1.0, 8.0], [1.0, 2.0, 3.0], [9.0, 8.0, 7.0]]),
        torch.tensor([[7.0, 2.0], [9.0, 8.0], [2.0, 1.0]]),
    )
    result = insertion(model, inputs, maps, 0, n_steps=5, return_curves=True)
    assert result.insertion_curve.tolist() == [
        [0, 1, 2, 12, 22, 23],
        [0, 10, 20, 21, 22, 23],
        [0, 1, 2, 3, 13, 23],
    ]


def test_one_number_per_sample_is_one_feature():
    inputs = torch.tensor([3.0, 5.0]).double()
    result = insertion(lambda x: 2 * x, inputs, torch.tensor([1.0, 1.0]), return_curves=True)
    assert result.insertion_curve.tolist() == [[0, 6], [0, 10]]


def test_a_curve_with_an_infinite_score_has_no_area():
    result = insertion(
        lambda x: 1 / x[:, 0],
        torch.ones(1, 2),
        torch.tensor([[2.0, 1.0]]),
        nan_policy="omit",
        return_curves=True,
    )
    assert result.insertion_curve.tolist() == [[torch.inf, 1, 1]]
    assert result.insertion.isnan().tolist() == [True]
