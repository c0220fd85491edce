"""Results do not depend on batches, layouts or gradient modes; the size of the buffer."""

import pytest
import torch

from captum_tgrad.metrics import average_drop, insertion_deletion
from tests.metrics.every_metric import MASKED, tensors_of
from tests.metrics.models import classifier, permutation, random

pytestmark = pytest.mark.filterwarnings("ignore:The baseline keeps half")

MODEL = classifier()
INPUTS = random(5, 3, 9, 7)
MAPS = permutation(5, 1, 9, 7)
TIED = MAPS.div(7).floor()


def _run(inputs=INPUTS, maps=MAPS, ties="stable", **options):
    result = insertion_deletion(
        MODEL, inputs, maps, n_steps=10, ties=ties, return_curves=True, **options
    )
    masked = [metric(MODEL, inputs, maps, **options) for metric in MASKED]
    return [
        *tensors_of(result),
        *(each for one in masked for each in tensors_of(one) if each.dim()),
    ]


def _assert_close(found, expected):
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)


@pytest.mark.parametrize("maps", [MAPS, TIED], ids=["no ties", "ties"])
@pytest.mark.parametrize("max_examples_per_batch", [1, 7, 64, 10**6])
def test_the_number_of_examples_per_batch(maps, max_examples_per_batch):
    expected = _run(maps=maps, ties="group")
    _assert_close(
        _run(maps=maps, ties="group", max_examples_per_batch=max_examples_per_batch), expected
    )


def test_the_batch():
    expected = _run()
    for sample in range(5):
        alone = _run(INPUTS[sample : sample + 1], MAPS[sample : sample + 1])
        _assert_close(alone, [value[sample : sample + 1] for value in expected])


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_gradients_and_the_random_state(context):
    expected = _run()
    torch.manual_seed(123)
    inputs = INPUTS.clone().requires_grad_()
    maps = MAPS.clone().requires_grad_()
    with context():
        found = _run(inputs, maps)
    assert not any(value.requires_grad for value in found)
    _assert_close(found, expected)


@pytest.mark.parametrize(
    ("shape", "memory_format"),
    [((5, 3, 9, 7), torch.channels_last), ((5, 3, 4, 3, 5), torch.channels_last_3d)],
)
@pytest.mark.parametrize("max_examples_per_batch", [3, 64])
def test_the_memory_format_is_kept_in_every_call(shape, memory_format, max_examples_per_batch):
    inputs, maps = random(*shape), permutation(5, 1, *shape[2:])
    weights = random(*shape[1:], seed=1)
    seen = []

    def model(x):
        seen.append(x.is_contiguous(memory_format=memory_format) and not x.is_contiguous())
        return torch.tanh((x * weights).flatten(1).sum(1))

    options = {"n_steps": 6, "max_examples_per_batch": max_examples_per_batch}
    expected = insertion_deletion(model, inputs, maps, **options)
    assert not any(seen)
    seen.clear()
    found = insertion_deletion(model, inputs.to(memory_format=memory_format), maps, **options)
    average_drop(
        lambda x: model(x) + 2,
        inputs.to(memory_format=memory_format),
        maps,
        max_examples_per_batch=max_examples_per_batch,
    )
    assert all(seen)
    _assert_close([found.insertion, found.deletion], [expected.insertion, expected.deletion])


def test_any_other_layout_of_memory():
    inputs = random(7, 9, 3, 5).permute(3, 2, 1, 0)
    expected = _run(inputs.contiguous())
    _assert_close(_run(inputs), expected)


@pytest.mark.parametrize(
    ("samples", "steps", "size", "ties"),
    [(50, 224, 224, "stable"), (3, 5, 30, "stable"), (3, 5, 30, "group")],
)
def test_no_call_gets_more_examples_than_allowed(samples, steps, size, ties):
    rooms = set()
    calls = seen = 0

    def model(x):
        nonlocal calls, seen
        calls += 1
        seen += len(x)
        rooms.add(x.untyped_storage().nbytes() // x[0].nbytes)
        assert len(x) <= 16
        return x[:, :, 0, 0]

    # One channel, for the sake of time: the buffer is counted in examples.
    inputs = torch.ones(samples, 1, size, size)
    maps = torch.arange(float(size * size)).reshape(1, 1, size, size).expand(samples, -1, -1, -1)
    insertion_deletion(
        model, inputs, maps, 0, n_steps=steps, target=0, max_examples_per_batch=16, ties=ties
    )
    # Both curves share the clean and the baseline's score.
    assert seen == samples * (2 + 2 * (steps - 1))
    assert max(rooms) == 16  # no memory holds more
    # The inputs, the baselines and the curves, in as few calls as possible.
    of_curves = samples * 2 * (steps - 1)
    assert calls == sum(-(-part // 16) for part in (samples, samples, of_curves))


@pytest.mark.parametrize("score", ["softmax", "logit"])
def test_a_model_may_return_the_same_tensor_in_every_call(score):
    output = torch.empty_like(MODEL(INPUTS)[:2])

    def model(x):
        return output[: len(x)].copy_(MODEL(x))

    options = {"n_steps": 10, "score": score, "max_examples_per_batch": 2}
    expected = insertion_deletion(MODEL, INPUTS, MAPS, **options)
    _assert_close(
        [insertion_deletion(model, INPUTS, MAPS, **options).difference], [expected.difference]
    )


def test_several_methods_share_clean_and_baseline_scores():
    calls = []

    def model(x):
        calls.append(len(x))
        return MODEL(x)

    methods = {"one": MAPS, "other": MAPS.flip(0), "coarse": random(5, 1, 3, 3)}
    together = insertion_deletion(model, INPUTS, methods, n_steps=10)
    assert list(together) == ["one", "other", "coarse"]
    assert sum(calls) == 5 * (2 + 3 * 18)
    for name, maps in methods.items():
        alone = insertion_deletion(MODEL, INPUTS, maps, n_steps=10)
        _assert_close([together[name].difference], [alone.difference])
        assert together[name].clean_score is together["one"].clean_score
    drops = average_drop(MODEL, INPUTS, methods)
    _assert_close([drops["other"].drop], [average_drop(MODEL, INPUTS, methods["other"]).drop])
