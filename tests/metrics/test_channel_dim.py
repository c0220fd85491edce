"""Channels in another dimension than 1 give the same results."""

import pytest
import torch

from captum_tgrad.metrics import (
    average_drop,
    blur,
    insertion,
    insertion_deletion,
    mean_color,
)
from tests.metrics.every_metric import CURVES, METRICS, tensors_of
from tests.metrics.models import classifier, linear, permutation, random

pytestmark = pytest.mark.filterwarnings("ignore:The baseline keeps half")

MODEL = classifier()
IMAGES = random(3, 3, 6, 5)
METHODS = {
    "whole": random(3, 3, 6, 5, seed=1),
    "one channel": permutation(3, 1, 6, 5),
    "coarse": random(3, 1, 3, 2, seed=2),
}


def _numbers(metric, *args, **options):
    """Every tensor of every method's result, and its protocol."""
    if metric in CURVES:
        options = {"n_steps": 7, "return_curves": True, **options}
    results = metric(*args, **options)
    results = results if isinstance(results, dict) else {"": results}
    tensors = [each for one in results.values() for each in tensors_of(one)]
    return tensors, [one.protocol for one in results.values()]


def _assert_same(found, expected, tolerance=0.0):
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=tolerance)


def _last(tensor):
    return tensor.movedim(1, -1).contiguous()


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    ("first", "last"),
    [
        (None, None),
        (0.5, 0.5),
        (blur(3, 1), blur(3, 1)),
        (mean_color, mean_color),
        (random(3, 3, 6, 5, seed=3), _last(random(3, 3, 6, 5, seed=3))),
        (random(1, 3, 1, 1, seed=3), _last(random(1, 3, 1, 1, seed=3))),
        (lambda x: x.cumsum(1) + x[:, :, :1], lambda x: x.cumsum(3) + x[:, :1]),
        ((None,), (None,)),
    ],
)
@pytest.mark.parametrize("channel_dim", [-1, 3, (-1,)])
def test_channels_last_images(metric, first, last, channel_dim):
    # In this memory format the model gets the same memory: nothing may differ at all.
    images = IMAGES.to(memory_format=torch.channels_last)
    expected, _ = _numbers(metric, MODEL, images, METHODS, first)
    contiguous, _ = _numbers(metric, MODEL, IMAGES, METHODS, first)
    found, protocols = _numbers(
        metric,
        lambda x: MODEL(x.movedim(-1, 1)),
        _last(IMAGES),
        {name: _last(maps) for name, maps in METHODS.items()},
        last,
        channel_dim=channel_dim,
    )
    _assert_same(found, expected)
    _assert_same(found, contiguous, 1e-10)
    assert all(each["channel_dim"] == (3 if channel_dim == 3 else -1) for each in protocols)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("options", [{"channel_reduce": "max"}, {"interpolate_mode": "nearest"}])
@pytest.mark.parametrize("baselines", [None, random(2, 3, 4, 5, 6, seed=3)])
def test_video(metric, options, baselines):
    inputs, weights = random(2, 3, 4, 5, 6), random(3, 4, 5, 6, seed=1)
    methods = {"whole": random(2, 3, 4, 5, 6, seed=2), "coarse": random(2, 1, 2, 3, 6, seed=4)}

    def model(x):
        return torch.sigmoid((x * weights).flatten(1).sum(1) / 9)

    expected, _ = _numbers(metric, model, inputs, methods, baselines, **options)
    found, _ = _numbers(
        metric,
        lambda x: model(x.transpose(1, 2)),
        inputs.transpose(1, 2).contiguous(),
        {name: maps.transpose(1, 2) for name, maps in methods.items()},
        None if baselines is None else baselines.transpose(1, 2),
        channel_dim=2,
        **options,
    )
    _assert_same(found, expected, 1e-10)


def test_tokens_are_ranked_by_hand():
    # Three tokens that count 3, 30 and 300; the second goes first, then the third.
    model = linear([[1.0, 2.0], [10.0, 20.0], [100.0, 200.0]])
    inputs = torch.ones(1, 3, 2).double()
    # Per token 1, 3 and 2; by their columns, the first would be in the middle.
    for maps in (torch.tensor([[[1.0], [3.0], [2.0]]]), torch.tensor([[[4, -3], [0, 3], [1, 1]]])):
        result = insertion_deletion(
            model, inputs, maps, 0, n_steps=9, channel_dim=-1, return_curves=True
        )
        assert result.insertion_curve.tolist() == [[0, 30, 330, 333]]
        assert result.deletion_curve.tolist() == [[333, 303, 3, 0]]
        assert (result.protocol["features"], result.protocol["channel_dim"]) == (3, -1)
        # The scaled maps are 0, 1 and 1/2.
        found = average_drop(model, inputs, maps, channel_dim=-1)
        assert found.masked_score.tolist() == [180]


def test_nothing_is_blurred_along_the_channels():
    inputs, weights = random(2, 5, 3), random(15, seed=1)
    maps = permutation(2, 5, 1)
    result = insertion(linear(weights), inputs, maps, channel_dim=2)
    expected = blur()(inputs.transpose(1, 2)).transpose(1, 2).flatten(1) @ weights
    torch.testing.assert_close(result.insertion_baseline_score, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("shape", "coarse"), [((2, 5, 4), (2, 2, 3)), ((2, 7), (2, 3))])
@pytest.mark.parametrize("baselines", [None, 0.5, blur(3, 1)])
def test_all_dimensions_are_places(metric, shape, coarse, baselines):
    inputs, weights = random(*shape), random(*shape[1:], seed=1)
    methods = {"whole": permutation(*shape), "coarse": random(*coarse, seed=2)}

    def model(x):
        return torch.sigmoid((x * weights).flatten(1).sum(1))

    expected, _ = _numbers(
        metric,
        lambda x: model(x.squeeze(1)),
        inputs.unsqueeze(1),
        {name: maps.unsqueeze(1) for name, maps in methods.items()},
        baselines,
    )
    found, protocols = _numbers(metric, model, inputs, methods, baselines, channel_dim=None)
    _assert_same(found, expected)
    assert all(each["channel_dim"] is None for each in protocols)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("shape", "channel_dim"), [((3, 4), -1), ((3,), None)])
def test_a_table_stays_one(metric, shape, channel_dim):
    inputs, maps = random(*shape).abs(), permutation(*shape)
    whole = linear(random(*shape[1:], seed=1).abs()) if len(shape) > 1 else lambda x: 2 * x

    def model(x):
        return whole(x).sigmoid()

    expected, protocols = _numbers(metric, model, inputs, maps)
    found, _ = _numbers(metric, model, inputs, maps, channel_dim=channel_dim)
    _assert_same(found, expected)
    assert not any("channel_dim" in each for each in protocols)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("frozen", [False, True])
def test_several_inputs_of_different_ranks(metric, frozen):
    inputs = random(2, 3, 4, 5), random(2, 3, 6), random(2, 4), random(2, 3, 2, 4, 3)
    inputs += (random(2, 1, 5, 4),)
    dims = (-1, 2, 1, 2, None)
    maps = tuple(random(len(each), 1, *each.shape[2:], seed=n) for n, each in enumerate(inputs))
    maps = (*maps[:2], random(2, 4, seed=7), *maps[3:])
    baselines = (None, random(1, 3, 1), 0.5, blur(3, 1), lambda x: -x)

    def given(tensors):
        kept = [
            each.movedim(1, dim).contiguous() if isinstance(each, torch.Tensor) and dim else each
            for each, dim in zip(tensors[:-1], dims[:-1], strict=True)
        ]
        last = tensors[-1]
        return (*kept, last.squeeze(1) if isinstance(last, torch.Tensor) else last)

    def model(*several):
        return torch.sigmoid(sum(each.flatten(1).sin().sum(1) for each in several))

    if frozen:
        maps = (maps[0], None, *maps[2:])
    expected, _ = _numbers(metric, model, inputs, maps, baselines)
    found, protocols = _numbers(
        metric, model, given(inputs), given(maps), given(baselines), channel_dim=dims
    )
    _assert_same(found, expected, 1e-10)
    assert protocols[0]["channel_dim"] == [-1, 2, 1, 2, None]


@pytest.mark.parametrize("max_examples_per_batch", [1, 4])
@pytest.mark.parametrize(
    ("inputs", "channel_dim"),
    [
        (random(3, 6, 5, 4), -1),
        (random(3, 4, 6, 5).movedim(1, -1), -1),
        (random(3, 7, 4), -1),
        (random(3, 4, 7).transpose(1, 2), -1),
        (random(3, 5, 4, 3, 2), 2),
        (random(3, 4, 5, 3, 2).transpose(1, 2), 2),
        (random(3, 5, 3, 2, 4).movedim(-1, 2), 2),
        (random(3, 5, 6), None),
    ],
)
def test_examples_have_the_strides_of_the_inputs(inputs, channel_dim, max_examples_per_batch):
    maps = permutation(3, *inputs.shape[1:])
    expected, seen = inputs.stride()[1:], []

    def model(x):
        seen.append(x.shape[1:] == inputs.shape[1:] and x.stride()[1:] == expected)
        return x.abs().flatten(1).sum(1)

    options = {"channel_dim": channel_dim, "max_examples_per_batch": max_examples_per_batch}
    insertion_deletion(model, inputs, maps, n_steps=4, **options)
    average_drop(model, inputs, maps, **options)
    assert all(seen)
    assert len(seen) > 8


def test_the_model_gets_dense_memory_of_inputs_that_have_gaps():
    inputs, maps = random(3, 6, 5, 4)[..., :3], permutation(3, 6, 5, 1)

    def area(x, model):
        return insertion(model, x, maps, n_steps=4, channel_dim=-1).insertion

    found = area(inputs, lambda x: x.view(len(x), -1).square().sum(1))
    expected = area(inputs.contiguous(), lambda x: x.square().sum((1, 2, 3)))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


def test_callable_baselines_get_the_layout_of_the_inputs():
    inputs, seen = _last(IMAGES), []

    def baseline(x):
        seen.append(x.shape)
        return x.mean((1, 2), keepdim=True)

    maps = _last(METHODS["one channel"])
    model = linear(random(90, seed=1))
    kinds = {"insertion": baseline, "deletion": mean_color}
    result = insertion_deletion(model, inputs, maps, kinds, channel_dim=3)
    assert seen == [inputs.shape]
    torch.testing.assert_close(
        result.insertion_baseline_score, result.deletion_baseline_score, rtol=0, atol=1e-10
    )
    tensor = insertion(model, inputs, maps, inputs[:1, :1, :1], channel_dim=3)
    assert tensor.protocol["baseline"] == {"insertion": "tensor of shape (1, 1, 1, 3)"}


def test_the_default_channel_dim_is_not_in_the_protocol():
    for channel_dim in (1, (1,)):
        result = insertion(MODEL, IMAGES, METHODS["whole"], n_steps=3, channel_dim=channel_dim)
        assert "channel_dim" not in result.protocol


def test_torchmetrics():
    classes = pytest.importorskip("captum_tgrad.metrics.torchmetrics", exc_type=ImportError)
    inputs, maps = _last(IMAGES), _last(METHODS["whole"])
    metric = classes.AverageDrop(lambda x: MODEL(x.movedim(-1, 1)), channel_dim=-1)
    metric.update(inputs, maps)
    expected = average_drop(MODEL, IMAGES, METHODS["whole"]).average_drop
    torch.testing.assert_close(metric.compute(), expected.float(), rtol=0, atol=1e-4)


LAST = random(3, 6, 5, 4)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"channel_dim": 4}, ValueError, "channel_dim is 4, but inputs has .* from 1 to 3, or"),
        ({"channel_dim": 0}, ValueError, "channel_dim is 0, .* is the batch"),
        ({"channel_dim": -4}, ValueError, "channel_dim is -4, .* is the batch"),
        (
            {"channel_dim": (-1, 1)},
            ValueError,
            "channel_dim must have one entry per input, got 2 for 1",
        ),
        ({"channel_dim": "last"}, TypeError, "channel_dim must be an int, None, or a tuple"),
        ({"channel_dim": [3]}, TypeError, "channel_dim must be an int, None, or a tuple"),
        ({"channel_dim": True}, TypeError, "channel_dim must be an int, None, or a tuple"),
        ({"channel_dim": 1}, ValueError, "If dimension 3 holds the channels, pass it as chan"),
        ({"attributions": LAST.sum(3)}, ValueError, r"attributions.unsqueeze\(-1\) if"),
        ({"attributions": random(3, 6, 5, 2)}, ValueError, r"attributions.sum\(-1, keepdim=True"),
        ({"attributions": random(3, 1, 6, 5)}, ValueError, r"shape \(3, 1, 6, 5\) does not fit"),
        ({"attributions": random(3, 7, 5, 1)}, ValueError, "not finer"),
        (
            {"attributions": LAST.sum(3), "channel_dim": None},
            ValueError,
            r"does not fit inputs of shape \(3, 6, 5, 4\). Pass \(3, 6, 5, 4\)",
        ),
        ({"baselines": random(3, 4, 6, 5)}, ValueError, r"inputs of shape \(3, 6, 5, 4\)"),
        ({"baselines": lambda x: x.movedim(-1, 1)}, ValueError, "callable baselines has shape"),
    ],
)
def test_bad_input(metric, changes, error, message):
    arguments = {
        "forward_func": lambda x: x.flatten(1).sum(1),
        "inputs": LAST,
        "attributions": LAST.sum(3, keepdim=True),
        "baselines": 0,
        "channel_dim": -1,
    }
    with pytest.raises(error, match=message):
        metric(**arguments | changes)


@pytest.mark.parametrize("metric", CURVES)
@pytest.mark.parametrize("channel_dim", [2, -3, 0])
def test_a_dimension_that_integers_do_not_have(metric, channel_dim):
    tokens = torch.zeros(3, 7, dtype=torch.long)
    message = f"channel_dim is {channel_dim}, but inputs has shape .* from 1 to 1, or None"
    with pytest.raises(ValueError, match=message):
        metric(lambda x: x.sum(1), tokens, random(3, 7), 0, channel_dim=channel_dim)
