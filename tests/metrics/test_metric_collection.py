"""Several metrics in one ``torchmetrics.MetricCollection``, which may let metrics share states."""

import copy
import pickle

import pytest
import torch

torchmetrics = pytest.importorskip("torchmetrics")
classes = pytest.importorskip("captum_tgrad.metrics.torchmetrics", exc_type=ImportError)

ONES = torch.ones(1, 2)
RANKED = torch.tensor([[1.0, 3.0]])


def _weighted(*weights):
    model = torch.nn.Linear(2, 1, bias=False)
    model.weight.data.copy_(torch.tensor([weights]))
    return model


# Metrics with the same number for the first batch; the batches; the numbers for each.
ALIKE_AT_FIRST = {
    "both curves of a constant map": (
        lambda: {
            name: getattr(classes, name)(_weighted(3.0, 1.0), ties="group")
            for name in ("Insertion", "Deletion")
        },
        [(ONES, ONES), (ONES, RANKED)],
        # Insertion 0, 4 for all at once; then 0, 1, 4. Deletion 4, 0; then 4, 3, 0.
        {"Insertion": [2, 1.5], "Deletion": [2, 2.5]},
    ),
    "no drop and no rise": (
        lambda: {
            name: getattr(classes, name)(_weighted(3.0, -1.0))
            for name in ("AverageDrop", "IncreaseInConfidence")
        },
        # Masked are 1, 0 with 1, 0; then 1, 1 with 0, 1: from 3 to 3; from 2 to -1.
        [(torch.tensor([[1.0, 0.0]]), RANKED.flip(1)), (ONES, RANKED)],
        {"AverageDrop": [0, 150], "IncreaseInConfidence": [0, 0]},
    ),
    "one class with different options": (
        lambda: {
            "black": classes.AverageDrop(_weighted(3.0, 1.0)),
            "gray": classes.AverageDrop(_weighted(3.0, 1.0), baselines=0.5),
        },
        # Masked is the second feature. At 0 there is nothing to lose; then 1 of 4, or half of it.
        [(torch.tensor([[1.0, 0.0]]), RANKED.flip(1)), (ONES, RANKED.flip(1))],
        {"black": [0, 25], "gray": [0, 12.5]},
    ),
    "one class with different models": (
        lambda: {
            "one": classes.AverageDrop(_weighted(3.0, 1.0)),
            "other": classes.AverageDrop(_weighted(1.0, 1.0)),
        },
        [(torch.tensor([[1.0, 0.0]]), RANKED.flip(1)), (ONES, RANKED.flip(1))],
        {"one": [0, 25], "other": [0, 50]},
    ),
}


def _through_state_dict(collection, fresh):
    collection.persistent()
    fresh.load_state_dict(collection.state_dict())
    return fresh


@pytest.mark.filterwarnings("ignore:Constant maps")
@pytest.mark.parametrize("case", ALIKE_AT_FIRST)
@pytest.mark.parametrize(
    "between",
    [
        lambda collection, fresh: collection,
        lambda collection, fresh: copy.deepcopy(collection),
        lambda collection, fresh: pickle.loads(pickle.dumps(collection)),
        _through_state_dict,
    ],
    ids=["as it is", "copied", "pickled", "through its state"],
)
def test_a_collection_does_not_take_one_metric_for_another(case, between):
    make, batches, expected = ALIKE_AT_FIRST[case]
    collection = torchmetrics.MetricCollection(make())
    for _ in range(2):  # and again after a reset
        collection.update(*batches[0])
        collection = between(collection, torchmetrics.MetricCollection(make()))
        collection.update(*batches[1])
        found = {name: number.item() for name, number in collection.compute().items()}
        means = {name: sum(numbers) / 2 for name, numbers in expected.items()}
        assert found == pytest.approx(means, abs=1e-5)
        collection.reset()
