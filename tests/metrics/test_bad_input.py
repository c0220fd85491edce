"""Errors for bad input."""

import inspect
from types import SimpleNamespace

import pytest
import torch
from captum.attr import Saliency

from captum_tgrad.metrics import (
    insertion,
)
from tests.metrics.every_metric import CURVES, MASKED, METRICS, fields_of
from tests.metrics.models import classifier, permutation, random

pytestmark = pytest.mark.filterwarnings("ignore:The baseline keeps half")

MODEL = classifier()
INPUTS = random(3, 3, 6, 6)
MAPS = permutation(3, 1, 6, 6)


def _broken(tensor, value=float("nan"), sample=1):
    tensor = tensor.clone()
    tensor[sample].view(-1)[3] = value
    return tensor


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"attributions": _broken(MAPS)}, ValueError, "^attributions holds NaN or inf in sample 1"),
        (
            {"attributions": _broken(INPUTS, float("inf"), 2)},
            ValueError,
            "^attributions holds NaN or inf in sample 2",
        ),
        (
            {"attributions": {"a": MAPS, "b": _broken(MAPS)}},
            ValueError,
            r"^attributions\['b'\] holds NaN",
        ),
        ({"inputs": _broken(INPUTS)}, ValueError, "^inputs holds NaN or inf in sample 1"),
        ({"baselines": _broken(INPUTS)}, ValueError, "^baselines holds NaN or inf in sample 1"),
        ({"attributions": MAPS[:2]}, ValueError, r"shape \(2, 1, 6, 6\) for inputs of shape \(3"),
        ({"attributions": MAPS[:, 0]}, ValueError, r"attributions.unsqueeze\(1\)"),
        ({"attributions": MAPS.expand(-1, 2, -1, -1)}, ValueError, r"sum\(1, keepdim=True\)"),
        ({"inputs": MAPS, "attributions": INPUTS}, ValueError, "are swapped, pass inputs first"),
        ({"attributions": random(3, 1, 7, 6)}, ValueError, "coarser than its input, not finer"),
        ({"attributions": random(3, 6)}, ValueError, r"does not fit .* Pass \(3, 3, 6, 6\)\.$"),
        (
            {"attributions": random(3, 6, 6, 3)},
            ValueError,
            r"channels last, pass .*movedim\(-1, 1\)",
        ),
        *(
            ({"inputs": random(3, 5), "attributions": random(*shape)}, ValueError, message)
            for shape, message in {
                (3, 5, 7): r"Sum over the embedding: attributions\.sum\(-1\)\.$",
                (3, 4): r"Pass \(3, 5\)\.$",
                (3, 1): r"Pass \(3, 5\)\.$",
                (3,): r"Pass \(3, 5\)\.$",
            }.items()
        ),
        ({"attributions": torch.tensor(1.0)}, ValueError, r"shape \(\) for inputs of shape \(3"),
        ({"attributions": MAPS.numpy()}, TypeError, "torch.from_numpy"),
        (
            {"attributions": Saliency(MODEL)},
            TypeError,
            r"a Saliency: pass the result of its attribute",
        ),
        ({"attributions": Saliency}, TypeError, "got the class Saliency"),
        (
            {"attributions": [MAPS]},
            TypeError,
            "attributions must be a torch.Tensor, got a list: .* For several methods, pass a dict",
        ),
        ({"attributions": MAPS + 0j}, TypeError, "complex"),
        ({"attributions": (MAPS, MAPS)}, ValueError, "each input, got 2 for 1: .* delta"),
        ({"attributions": (None,)}, ValueError, "None for every input"),
        (
            {"attributions": {"a": MAPS, "b": (MAPS, None)}},
            ValueError,
            r"attributions\['b'\] must have one entry for each input, got 2 for 1",
        ),
        ({"attributions": {}}, ValueError, "empty dict"),
        ({"forward_func": "resnet50"}, TypeError, "forward_func must be"),
        ({"inputs": INPUTS.numpy()}, TypeError, "inputs must be a torch.Tensor"),
        ({"inputs": ()}, ValueError, "empty tuple"),
        ({"inputs": (INPUTS, 3)}, TypeError, r"inputs\[1\] must be a torch.Tensor, got int"),
        ({"inputs": (INPUTS, INPUTS[:1])}, ValueError, "same batch size"),
        ({"inputs": INPUTS[:0]}, ValueError, "at least one sample"),
        ({"baselines": INPUTS[:2]}, ValueError, r"baselines has shape \(2, 3, 6, 6\) for inputs"),
        (
            {"baselines": INPUTS[0]},
            ValueError,
            r"equal or 1\. Pass baselines\.unsqueeze\(0\) to use",
        ),
        ({"baselines": torch.zeros(3)}, ValueError, r"each dimension must be equal or 1\.$"),
        ({"baselines": True}, TypeError, "baselines must be a tensor, a number or a callable"),
        ({"baselines": lambda x: x[:, :1, :3]}, ValueError, "the result of the callable baselines"),
        ({"baselines": lambda x: 3}, TypeError, "callable that returns a tensor, got int"),
        ({"baselines": "blur"}, TypeError, "baselines must be a tensor"),
        (
            {"baselines": (0, 0)},
            ValueError,
            "baselines must have .*, got 2 for 1",
        ),
        ({"target": 4}, ValueError, "target 4 is out of range"),
        ({"target": [0, 1]}, ValueError, "one target per sample, got 2 for 3"),
        (
            {"target": [0, 1], "score": lambda o, t: o[:, 0]},
            ValueError,
            "one target per sample, got 2 for 3",
        ),
        ({"target": torch.tensor([0, 1, 9])}, ValueError, "target 9 is out of range"),
        ({"target": "espresso"}, TypeError, "target must be an int"),
        ({"forward_func": lambda x: x}, ValueError, "target is missing"),
        ({"forward_func": lambda x: x.sum((1, 2, 3)), "target": 0}, ValueError, "target=None"),
        ({"forward_func": lambda x: (MODEL(x),)}, TypeError, r"got tuple\..*model\(x\)\[0\]"),
        (
            {"forward_func": lambda x: SimpleNamespace(loss=None, logits=MODEL(x))},
            TypeError,
            r"got SimpleNamespace\..*model\(x\)\.logits\. Or pass a score that accepts",
        ),
        ({"forward_func": lambda x: MODEL(x)[:1]}, ValueError, "for a batch of 3"),
        ({"forward_func": lambda x: MODEL(x).sum()}, ValueError, "scalar for the whole batch"),
        (
            {"forward_func": lambda x: MODEL(x) * torch.nan},
            ValueError,
            "returned NaN or inf for sample",
        ),
        (
            {"forward_func": lambda x: MODEL(x) * 1j},
            TypeError,
            r"must return real numbers, got torch.complex.* model\(x\).abs\(\)",
        ),
        (
            {"forward_func": lambda x: MODEL(x).numpy()},
            TypeError,
            r"must return a tensor, got ndarray.* torch.from_numpy\(model\(x\)\)",
        ),
        (
            {"forward_func": lambda x: MODEL(x) / (x.flatten(1) != 0).all(1, keepdim=True)},
            ValueError,
            "returned NaN or inf for sample 0, 1, 2",  # only without some of the pixels
        ),
        ({"forward_func": classifier().to("meta")}, ValueError, "on cpu, the model is on meta"),
        ({"score": "probability"}, ValueError, "score must be 'softmax', 'logit' or a callable"),
        ({"score": lambda o, t: o}, ValueError, r"score must return .* shape \(3,\); got shape"),
        ({"score": lambda o, t: o.sum()}, ValueError, r"got shape \(\)"),
        ({"score": lambda o, t: 0.5}, TypeError, "score must return a tensor"),
        ({"score": torch.sigmoid}, TypeError, r"score is called as score\(outputs, target\): sigm"),
        ({"channel_reduce": "mean"}, ValueError, "channel_reduce must be"),
        ({"interpolate_mode": "linear"}, ValueError, "interpolate_mode must be"),
        ({"nan_policy": "propagate"}, ValueError, "nan_policy must be"),
        ({"max_examples_per_batch": 0}, ValueError, "max_examples_per_batch must be a positive"),
        ({"max_examples_per_batch": None}, TypeError, "max_examples_per_batch must be a positive"),
    ],
)
def test_every_metric(metric, changes, error, message):
    if not changes.keys() <= inspect.signature(metric).parameters.keys():
        pytest.skip("the metric has no such argument")
    arguments = {"forward_func": MODEL, "inputs": INPUTS, "attributions": MAPS, "baselines": 0}
    with pytest.raises(error, match=message):
        metric(**arguments | changes)


@pytest.mark.parametrize("metric", CURVES)
@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"n_steps": 0}, ValueError, "n_steps must be a positive integer, got 0"),
        ({"n_steps": -3}, ValueError, "n_steps"),
        ({"n_steps": 2.0}, TypeError, "n_steps must be a positive integer, got float"),
        ({"n_steps": True}, TypeError, "n_steps"),
        ({"ties": "random"}, ValueError, "ties must be 'stable' or 'group'"),
        ({"preset": "torchcam"}, ValueError, "preset must be 'paper' or 'rise'"),
        ({"baselines": {"begin": 0}}, ValueError, r"baselines has the keys \['begin'\]"),
        ({"inputs": INPUTS.int(), "baselines": None}, ValueError, "blur needs float inputs"),
    ],
)
def test_curves(metric, changes, error, message):
    arguments = {"forward_func": MODEL, "inputs": INPUTS, "attributions": MAPS, "baselines": 0}
    with pytest.raises(error, match=message):
        metric(**arguments | changes)


@pytest.mark.parametrize(
    ("dimensions", "mode"), [(1, "bicubic"), (3, "bicubic"), (4, "bilinear"), (4, "nearest")]
)
def test_a_map_that_cannot_be_enlarged(dimensions, mode):
    inputs, maps = random(1, 3, *[4] * dimensions), random(1, 1, *[2] * dimensions)
    with pytest.raises(ValueError, match=f"interpolate_mode='{mode}'"):
        insertion(MODEL, inputs, maps, 0, interpolate_mode=mode)


def test_methods_that_freeze_different_inputs():
    methods = {"one": (MAPS, None), "other": (None, MAPS)}
    with pytest.raises(ValueError, match="None for the same inputs"):
        insertion(lambda a, b: MODEL(a + b), (INPUTS, INPUTS), methods, 0)


@pytest.mark.parametrize("metric", METRICS)
def test_all_samples_omitted(metric):
    maps = torch.full_like(MAPS, torch.inf)
    found = metric(MODEL, INPUTS, maps, 0, nan_policy="omit")
    for field in {metric.__name__, *fields_of(metric)} & vars(found).keys():
        assert getattr(found, field).isnan().all()


@pytest.mark.parametrize("metric", METRICS)
def test_omitted_samples_are_nan_and_the_others_unchanged(metric):
    maps = _broken(MAPS, sample=0)
    calls = []

    def model(x):
        calls.append(len(x))
        scores = MODEL(x)
        # Something in sample 2 alone breaks the model.
        return scores.masked_fill((x.flatten(1) == 77).any(1, keepdim=True), torch.nan)

    inputs = INPUTS.clone()
    inputs[2, 0, 0, 0] = 77
    expected = metric(MODEL, INPUTS, MAPS, 0, target=1)
    found = metric(model, inputs, maps, 0, target=1, nan_policy="omit")
    for field in fields_of(metric):
        values = getattr(found, field)
        assert values.isnan().tolist() == [True, False, True], field
        torch.testing.assert_close(values[1], getattr(expected, field)[1], rtol=0, atol=1e-10)
    if metric in MASKED:  # the mean of the sample that is left
        assert torch.equal(getattr(found, metric.__name__), values[1])
