"""Models that end in a softmax, and outputs of which the classes' dimension is not known."""

import pytest
import torch
from torch import nn

from captum_tgrad.metrics import (
    average_drop,
    deletion,
    increase_in_confidence,
    insertion_deletion,
    road,
)
from tests.metrics.every_metric import tensors_of

torch.manual_seed(0)
LOGITS = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(1024, 10))
LOGITS[3].weight.data *= 60
PROBABILITIES = nn.Sequential(LOGITS, nn.Softmax(dim=1))
X = torch.rand(2, 3, 16, 16)
MAPS = torch.rand(2, 1, 16, 16)
OPTIONS = {"target": [3, 4], "baselines": 0}


@pytest.mark.filterwarnings("ignore:The baseline keeps")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_softmax_in_the_model_is_not_taken_twice(dtype):
    x, logits, probabilities = X.to(dtype), LOGITS.to(dtype), PROBABILITIES.to(dtype)
    found = insertion_deletion(probabilities, x, MAPS, n_steps=4, **OPTIONS)
    wanted = insertion_deletion(probabilities, x, MAPS, n_steps=4, score="logit", **OPTIONS)
    assert found.protocol["score"] == "probability"
    for one, other in zip(tensors_of(found), tensors_of(wanted), strict=True):
        assert torch.equal(one, other)
    if dtype != torch.bfloat16:
        of_logits = insertion_deletion(logits, x, MAPS, n_steps=4, **OPTIONS)
        torch.testing.assert_close(found.insertion, of_logits.insertion)
        assert of_logits.protocol["score"] == "softmax"
    LOGITS.float()


@pytest.mark.filterwarnings("ignore:The baseline keeps")
def test_a_softmax_is_known_though_bfloat16_rounds_it():
    # The softmax of (0.6, 0.9, -0.5, -4.2) there. Its sum is 0.9971.
    rounded = torch.tensor([[0.369140625, 0.5, 0.125, 0.00299072265625]], dtype=torch.bfloat16)

    def model(x):
        return rounded.expand(len(x), 4)

    found = deletion(model, X, MAPS, target=2, baselines=0, n_steps=2)
    assert found.protocol["score"] == "probability"
    assert found.clean_score.tolist() == [0.125, 0.125]


def test_other_metrics_do_not_take_it_twice_either():
    found = average_drop(PROBABILITIES, X, MAPS, target=[3, 4])
    wanted = average_drop(LOGITS, X, MAPS, target=[3, 4])
    torch.testing.assert_close(found.drop, wanted.drop)


@pytest.mark.parametrize(
    "model",
    [
        lambda x: LOGITS(x).sigmoid(),
        lambda x: LOGITS(x).softmax(1) * 0.9,
        lambda x: LOGITS(x).softmax(1) - 0.1,
        lambda x: LOGITS(x).relu(),
    ],
)
@pytest.mark.filterwarnings("ignore:The baseline keeps")
def test_what_is_not_made_of_probabilities_gets_a_softmax(model):
    found = deletion(model, X, MAPS, n_steps=2, **OPTIONS)
    assert found.protocol["score"] == "softmax"
    expected = model(X).softmax(1)[torch.arange(2), torch.tensor([3, 4])]
    torch.testing.assert_close(found.clean_score, expected)


# Of the first two samples, not negative and with a sum of 1.
MIXED = torch.tensor([[0.25, 0.75, 0.0], [0.5, 0.25, 0.25], [2.0, -1.0, 0.5], [1.0, 2.0, 3.0]])


@pytest.mark.filterwarnings("ignore:The baseline keeps")
@pytest.mark.parametrize("metric", [deletion, average_drop, increase_in_confidence, road])
@pytest.mark.parametrize("at_once", [1, 2, 3, 64])
def test_all_samples_decide_whether_outputs_are_probabilities(metric, at_once):
    inputs = MIXED.reshape(4, 3, 1, 1).expand(-1, -1, 4, 4)
    found = metric(
        lambda x: x[:, :, 1, 1], inputs, torch.rand(4, 1, 4, 4), max_examples_per_batch=at_once
    )
    assert found.protocol["score"] == "softmax"
    torch.testing.assert_close(found.clean_score, MIXED.softmax(1).amax(1))


def test_a_sample_that_is_left_out_decides_nothing():
    inputs = MIXED[:2].reshape(2, 3, 1, 1).expand(-1, -1, 4, 4).clone()
    inputs[1] = torch.nan
    found = average_drop(lambda x: x[:, :, 1, 1], inputs, torch.rand(2, 1, 4, 4), nan_policy="omit")
    assert found.protocol["score"] == "probability"
    assert found.clean_score[0] == 0.75


@pytest.mark.filterwarnings("ignore:The baseline keeps")
@pytest.mark.parametrize("shape", [(4, 5), (5, 4, 4)])
def test_the_dimension_of_the_classes_is_asked_for(shape):
    def model(x):
        return x.flatten(1)[:, : torch.Size(shape).numel()].reshape(-1, *shape)

    target = tuple(0 for _ in shape)
    with pytest.raises(ValueError, match=r"whose class dimension is unknown.*softmax\(1\)"):
        deletion(model, X, MAPS, target=target, n_steps=2)
    found = deletion(
        lambda x: model(x).softmax(1), X, MAPS, target=target, n_steps=2, score="logit"
    )
    expected = model(X).softmax(1)[(slice(None), *target)]
    torch.testing.assert_close(found.clean_score, expected)
