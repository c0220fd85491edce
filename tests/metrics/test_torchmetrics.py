"""The torchmetrics classes keep what the functions return, in any number of processes."""

import socket

import pytest
import torch
from torch import distributed, multiprocessing

from captum_tgrad import metrics as functions
from tests.metrics.models import classifier, permutation, random

torchmetrics = pytest.importorskip("torchmetrics")
classes = pytest.importorskip("captum_tgrad.metrics.torchmetrics", exc_type=ImportError)

pytestmark = [
    pytest.mark.filterwarnings("ignore:The baseline keeps half"),
    pytest.mark.filterwarnings("ignore:The ``compute`` method"),
]

INPUTS, MAPS = random(5, 3, 6, 6), permutation(5, 1, 6, 6)
LOCALIZATION = ["PointingGame", "EnergyInMask", "MassAccuracy", "RankAccuracy"]
ALL = ["Insertion", "Deletion", "InsertionDeletion", "AverageDrop", "IncreaseInConfidence"]


def _metric(name, **options):
    if name in ("Insertion", "Deletion", "InsertionDeletion"):
        options["n_steps"] = 6
    return getattr(classes, name)(classifier(), **options)


def _expected(name):
    """The numbers of all five samples, from the function."""
    model = classifier()
    if name == "AverageDrop":
        return functions.average_drop(model, INPUTS, MAPS).drop
    if name == "IncreaseInConfidence":
        return functions.increase_in_confidence(model, INPUTS, MAPS).increase
    result = functions.insertion_deletion(model, INPUTS, MAPS, n_steps=6)
    if name == "InsertionDeletion":
        return {each: getattr(result, each) for each in ("insertion", "deletion", "difference")}
    return getattr(result, name.lower())


def _assert_same(found, expected, reduce=lambda numbers: numbers):
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for name, numbers in expected.items():
            _assert_same(found[name], numbers, reduce)
    else:  # torchmetrics keeps float32
        torch.testing.assert_close(found, reduce(expected).float(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ALL)
def test_update_compute_reset(name):
    expected = _expected(name)
    mean, each = _metric(name), _metric(name, reduction="none")
    for metric in (mean, each):
        metric.update(INPUTS[:2], MAPS[:2])
        metric.update(INPUTS[2:], MAPS[2:])
    _assert_same(mean.compute(), expected, torch.mean)
    _assert_same(each.compute(), expected)
    each.reset()
    each.update(INPUTS[:2], MAPS[:2])
    _assert_same(each.compute(), expected, lambda numbers: numbers[:2])


@pytest.mark.parametrize("name", ALL)
def test_without_samples(name):
    mean, each = _metric(name).compute(), _metric(name, reduction="none").compute()
    names = ("insertion", "deletion", "difference")
    several = name == "InsertionDeletion"
    for number in [mean[name] for name in names] if several else [mean]:
        assert number.isnan()
    for numbers in [each[name] for name in names] if several else [each]:
        assert numbers.shape == (0,)


def test_the_direction_is_stated():
    stated = [getattr(classes, name).higher_is_better for name in (*ALL, "Road", *LOCALIZATION)]
    assert stated == [True, False, None, False, True, True, *[True] * 4]


def test_forward_is_the_value_of_the_batch():
    metric = _metric("Insertion")
    expected = _expected("Insertion")
    _assert_same(metric(INPUTS[:2], MAPS[:2]), expected, lambda numbers: numbers[:2].mean())
    _assert_same(metric(INPUTS[2:], MAPS[2:]), expected, lambda numbers: numbers[2:].mean())
    _assert_same(metric.compute(), expected, torch.mean)


def test_targets_and_omitted_samples():
    broken = MAPS.clone()
    broken[1] = float("nan")
    metric = _metric("Deletion", reduction="none", nan_policy="omit")
    metric.update(INPUTS, broken, target=[0, 1, 2, 3, 0])
    expected = functions.deletion(
        classifier(), INPUTS, MAPS, target=[0, 1, 2, 3, 0], n_steps=6
    ).deletion
    expected[1] = float("nan")
    found = metric.compute()
    torch.testing.assert_close(found, expected.float(), rtol=0, atol=1e-5, equal_nan=True)
    mean = _metric("Deletion", nan_policy="omit")
    mean.update(INPUTS, broken, target=[0, 1, 2, 3, 0])
    torch.testing.assert_close(mean.compute(), expected.nanmean().float(), rtol=0, atol=1e-5)


def test_the_model_is_no_part_of_the_metric():
    metric = _metric("Insertion")
    assert list(metric.parameters()) == []
    assert metric.state_dict() == {}


def test_the_state_of_another_process_is_merged():
    one, other = _metric("Deletion", reduction="none"), _metric("Deletion")
    one.update(INPUTS[:2], MAPS[:2])
    other.update(INPUTS[2:], MAPS[2:])
    one.merge_state(other)
    found = one.compute().sort().values
    _assert_same(found, _expected("Deletion").sort().values)


def test_a_wrong_reduction():
    with pytest.raises(ValueError, match="reduction must be"):
        _metric("Insertion", reduction="sum")


def test_what_belongs_to_update():
    for name in ("target", "inputs", "attributions"):
        with pytest.raises(TypeError, match=f"AverageDrop has no argument '{name}': pass it to "):
            _metric("AverageDrop", **{name: 1})
    for name in ("regions", "attributions"):
        with pytest.raises(TypeError, match=f"PointingGame has no argument '{name}': pass it to"):
            classes.PointingGame(**{name: 1})
    with pytest.raises(TypeError, match="has no argument 'size_': did you mean size"):
        classes.PointingGame(size_=(3, 4))


def test_one_method_for_each_object():
    message = "attributions must be of one method, got a dict: make one metric object for each"
    with pytest.raises(TypeError, match=message):
        _metric("Insertion").update(INPUTS, {"a": MAPS})
    with pytest.raises(TypeError, match=message):
        classes.PointingGame().update({"a": MAPS}, MAPS[:, 0] > 3)


SHARES = [([0, 1, 2], [3, 4]), ([], [0, 1, 2, 3, 4])]
TOGETHER = ["Deletion", "AverageDrop", "IncreaseInConfidence"]


def _process(rank, port, queue):
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2
    )
    found = {}
    for name in ("InsertionDeletion", "AverageDrop"):
        each, mean = _metric(name, reduction="none"), _metric(name)
        for case, shares in enumerate(SHARES):
            for metric in (each, mean):
                metric.reset()
                for sample in shares[rank]:
                    metric.update(INPUTS[sample : sample + 1], MAPS[sample : sample + 1])
            found[name, case] = (_plain(each.compute()), _plain(mean.compute()))
    collection = torchmetrics.MetricCollection([_metric(name) for name in TOGETHER])
    for sample in SHARES[1][rank]:
        collection.update(INPUTS[sample : sample + 1], MAPS[sample : sample + 1])
    found["together"] = _plain(collection.compute())
    queue.put((rank, found))
    distributed.barrier()
    distributed.destroy_process_group()


def _plain(found):
    if isinstance(found, dict):
        return {name: numbers.tolist() for name, numbers in found.items()}
    return found.tolist()


def _tensors(found):
    if isinstance(found, dict):
        return {name: torch.tensor(numbers) for name, numbers in found.items()}
    return torch.tensor(found)


def test_two_processes_with_uneven_and_empty_shares():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    processes = [context.Process(target=_process, args=(rank, port, queue)) for rank in (0, 1)]
    for process in processes:
        process.start()
    results = dict(queue.get(timeout=120) for _ in processes)
    for process in processes:
        process.join(timeout=60)
    for rank in (0, 1):
        for name, number in results[rank].pop("together").items():
            _assert_same(torch.tensor(number), _expected(name), torch.mean)
        for (name, _), (each, mean) in results[rank].items():
            _assert_same(_tensors(each), _expected(name))
            _assert_same(_tensors(mean), _expected(name), torch.mean)


@pytest.mark.parametrize("name", ALL[:4])
def test_a_misspelled_option_is_refused(name):
    kind = getattr(classes, name)
    with pytest.raises(TypeError, match="has no argument 'baseline': did you mean baselines"):
        kind(lambda x: x.sum(1), baseline=0)
    with pytest.raises(TypeError, match="has no argument 'scores': did you mean score"):
        kind(lambda x: x.sum(1), scores="logit")


@pytest.mark.parametrize("name", ALL)
def test_plot_draws_what_compute_returns(name):
    metric = _metric(name)
    metric.update(INPUTS, MAPS)
    _, axes = metric.plot()
    computed = metric.compute()
    computed = computed.values() if isinstance(computed, dict) else [computed]
    drawn = [float(height) for line in axes.lines for height in line.get_ydata()]
    for number in computed:
        assert float(number) in drawn


@pytest.mark.parametrize("name", LOCALIZATION)
def test_localization_needs_no_model(name):
    snake = "".join("_" + c.lower() if c.isupper() else c for c in name).removeprefix("_")
    function, masks = getattr(functions, snake), random(5, 6, 6, seed=4) > 0.5
    options = {"tolerance": 1} if name == "PointingGame" else {}
    expected = getattr(function(INPUTS, masks, **options), snake)
    mean, each = (
        getattr(classes, name)(reduction=reduction, **options) for reduction in ("mean", "none")
    )
    for metric in (mean, each):
        metric.update(INPUTS[:2], masks[:2])
        metric.update(INPUTS[2:], masks[2:])
    _assert_same(mean.compute(), expected, torch.mean)
    _assert_same(each.compute(), expected)
    with pytest.raises(TypeError, match="has no argument 'interpolation': did you mean interp"):
        getattr(classes, name)(interpolation="nearest")


def test_road():
    metric = classes.Road(classifier(), percentages=[50], noise=0.1)
    for part in (slice(0, 2), slice(2, 5)):
        metric.update(INPUTS[part], MAPS[part], target=1)
    expected = functions.road(classifier(), INPUTS, MAPS, None, 1, [50], noise=0.1).road
    _assert_same(metric.compute(), expected, torch.mean)
