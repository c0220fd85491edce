"""What is scored: softmax, logit, a callable; targets in every form; further arguments."""

import pytest
import torch

from captum_tgrad.metrics import insertion_deletion
from tests.metrics.models import classifier, linear, permutation, random

pytestmark = pytest.mark.filterwarnings("ignore:The baseline keeps half")

MODEL = classifier()
INPUTS = random(3, 3, 6, 6)
MAPS = permutation(3, 1, 6, 6)
LOGITS = MODEL(INPUTS.clone()).detach()


def _run(model=MODEL, inputs=INPUTS, maps=MAPS, **options):
    return insertion_deletion(model, inputs, maps, 0, n_steps=4, return_curves=True, **options)


@pytest.mark.parametrize(
    ("target", "classes"),
    [
        (2, [2, 2, 2]),
        (-1, [3, 3, 3]),
        ((1,), [1, 1, 1]),
        (torch.tensor(3), [3, 3, 3]),
        (torch.tensor([1]), [1, 1, 1]),
        (torch.tensor([3, 0, 1]), [3, 0, 1]),
        ([3, 0, 1], [3, 0, 1]),
        (torch.tensor([-1, 0, -3]), [3, 0, 1]),
        ([-1, 0, -3], [3, 0, 1]),
        (torch.tensor([[1]]), [1, 1, 1]),
        ([(3,), (0,), (1,)], [3, 0, 1]),
        (None, LOGITS.argmax(1).tolist()),
    ],
)
@pytest.mark.parametrize("max_examples_per_batch", [1, 2, 64])
def test_targets_in_captums_forms(target, classes, max_examples_per_batch):
    for score, outputs in [("logit", LOGITS), ("softmax", LOGITS.softmax(1))]:
        result = _run(target=target, score=score, max_examples_per_batch=max_examples_per_batch)
        expected = outputs[[0, 1, 2], classes]
        torch.testing.assert_close(result.clean_score, expected, rtol=0, atol=1e-10)
        assert torch.equal(result.deletion_curve[:, 0], result.clean_score)
        assert torch.equal(result.insertion_curve[:, -1], result.clean_score)
    assert result.protocol["target"] == ("predicted" if target is None else "given")


def test_targets_of_a_single_sample():
    for target in (torch.tensor([[1]]), torch.tensor([-3]), [1], [-3], [(1,)]):
        result = _run(inputs=INPUTS[:1], maps=MAPS[:1], target=target, score="logit")
        torch.testing.assert_close(result.clean_score, LOGITS[:1, 1], rtol=0, atol=1e-10)


def test_a_target_with_a_place():
    def model(x):
        return torch.stack([x.sum(1), 2 * x.mean(1)], 1)  # (N, 2, 6, 6)

    result = _run(model, target=(1, 2, 3), score="logit")
    torch.testing.assert_close(result.clean_score, 2 * INPUTS[:, :, 2, 3].mean(1))
    result = _run(lambda x: model(x).softmax(1), target=(1, 2, 3), score="logit")
    torch.testing.assert_close(result.clean_score, model(INPUTS).softmax(1)[:, 1, 2, 3])


@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
@pytest.mark.parametrize("score", ["softmax", "logit"])
def test_one_output_per_sample_is_the_score(shape, score):
    weights = random(108, seed=4)
    result = _run(lambda x: (x.flatten(1) @ weights).reshape(shape), score=score)
    torch.testing.assert_close(result.clean_score, INPUTS.flatten(1) @ weights)
    assert result.protocol["score"] == "output"
    assert result.protocol["target"] == "given"  # there is no class to predict


def test_a_callable_gets_outputs_and_targets():
    def margin(outputs, target):
        assert set(outputs) == {"out"}
        logits = outputs["out"]
        assert target.shape == (len(logits),)
        rows = torch.arange(len(logits))
        others = logits.scatter(1, target[:, None], -torch.inf).amax(1)
        return logits[rows, target] - others

    target = torch.tensor([1, 0, 3])
    result = _run(
        lambda x: {"out": MODEL(x)}, target=target, score=margin, max_examples_per_batch=5
    )
    expected = margin({"out": LOGITS}, target)
    torch.testing.assert_close(result.clean_score, expected, rtol=0, atol=1e-10)
    assert result.protocol["score"] == "margin"


@pytest.mark.parametrize("samples", [1, 3])
def test_a_callable_gets_one_target_per_example(samples):
    def of_target(outputs, target):
        assert target.shape == outputs.shape[:1]
        return outputs.gather(1, target[:, None])[:, 0]

    inputs, maps = INPUTS[:samples], MAPS[:samples]
    expected = _run(inputs=inputs, maps=maps, score="logit")
    for target in (None, LOGITS[:samples].argmax(1)):
        found = _run(inputs=inputs, maps=maps, score=of_target, target=target)
        torch.testing.assert_close(found.insertion, expected.insertion, rtol=0, atol=1e-10)


def test_a_callable_gets_a_single_target_for_each_example():
    def of_target(outputs, target):
        return outputs.gather(1, target[:, None])[:, 0]

    found = _run(target=torch.tensor([2]), score=of_target, max_examples_per_batch=2)
    torch.testing.assert_close(found.clean_score, LOGITS[:, 2], rtol=0, atol=1e-10)


@pytest.mark.parametrize("max_examples_per_batch", [1, 2, 64])
def test_an_output_that_is_a_view_of_the_input(max_examples_per_batch):
    def model(x):
        return x[:, 0, 3, 2:6]

    for target in (1, torch.tensor([1, 1, 1])):
        result = _run(
            model, target=target, score="logit", max_examples_per_batch=max_examples_per_batch
        )
        # The pixel is there from the first point on at which its rank has been reached.
        rank = (MAPS[:, 0] > MAPS[:, :, 3, 3, None]).flatten(1).sum(1)
        there = rank[:, None] < torch.arange(5) * 9
        expected = there * INPUTS[:, 0, 3, 3, None]
        assert torch.equal(result.insertion_curve, expected)
        assert torch.equal(result.deletion_curve, ~there * INPUTS[:, 0, 3, 3, None])


def test_further_arguments_follow_their_samples():
    weights, offset, factor = random(3, 108), random(108, seed=1), 2.0

    def model(x, per_sample, shared, number, nothing):
        assert per_sample.shape == (len(x), 108)
        assert nothing is None
        return number * (x.flatten(1) * per_sample * shared).sum(1)

    further = (weights, offset, factor, None)
    whole = _run(model, additional_forward_args=further, max_examples_per_batch=4)
    for sample in range(3):
        one = slice(sample, sample + 1)
        fixed = linear(weights[sample] * offset * factor)
        alone = _run(fixed, INPUTS[one], MAPS[one])
        torch.testing.assert_close(whole.insertion[one], alone.insertion, rtol=0, atol=1e-10)
        torch.testing.assert_close(whole.deletion[one], alone.deletion, rtol=0, atol=1e-10)


def test_half_precision_is_scored_in_float32():
    inputs = INPUTS.to(torch.bfloat16)
    result = _run(classifier(dtype=torch.bfloat16), inputs, MAPS)
    assert result.insertion.dtype == torch.float32
    assert (result.insertion - _run().insertion).abs().max() < 0.02


def test_a_model_that_squeezes():
    weights = random(108, 1, seed=4)
    expected = _run(lambda x: x.flatten(1) @ weights).insertion
    for size in (1, 4):
        for score in ("softmax", lambda outputs, _: outputs):
            found = _run(
                lambda x: (x.flatten(1) @ weights).squeeze(),
                max_examples_per_batch=size,
                score=score,
            )
            torch.testing.assert_close(found.insertion, expected, rtol=0, atol=1e-10)


def test_a_callable_may_score_complex_outputs():
    found = _run(lambda x: MODEL(x) * 1j, score=lambda outputs, _: outputs.imag[:, 1])
    torch.testing.assert_close(found.clean_score, LOGITS[:, 1], rtol=0, atol=1e-10)
