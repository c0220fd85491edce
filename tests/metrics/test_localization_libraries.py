"""Equal to Quantus, on what it measures alike; its numbers are here for where it is missing."""

import numpy as np
import pytest
import torch

from captum_tgrad.metrics import energy_in_mask, mass_accuracy, pointing_game, rank_accuracy

# Three maps without ties, 4 x 4, and their masks, all made by hand.
MAPS = torch.tensor(
    [
        [[0.9, -0.2, 0.1, 0.3], [0.8, 0.7, -0.5, 0.0], [0.4, 0.6, 0.2, -0.1], [0.5, -0.4, 1.1, -1]],
        [[-1, 2, 3, -4], [5, 6, -7, 8], [9, -10, 11, 12], [-13, 14, 15, 16]],
        [[0.1, 0.2, 0.3, 0.4], [1.4, 1.3, 1.2, 1.1], [0.5, 0.6, 0.7, 0.8], [3.1, 0, 2.9, 2.8]],
    ],
    dtype=torch.float64,
).unsqueeze(1)
MASKS = torch.tensor(
    [
        [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]],
        [[0, 0, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 1, 1]],
        [[0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0], [1, 0, 0, 0]],
    ],
    dtype=torch.bool,
)

# By quantus 0.6.0 with normalise=False: the name of its class, its options, our number, and what
# it has of these maps. Its energy takes absolute values: that is ours without negative ones.
ENERGY = [0.42857142857142855, 0.6138613861386139, 0.3505747126436782]
ABSOLUTE = [0.3333333333333333, 0.5073529411764706, 0.3505747126436781]
POSITIVE = MAPS.clamp_min(0)
RECORDED = [
    ("PointingGame", {}, MAPS, pointing_game, {"tolerance": 0}, [0, 1, 1]),
    ("AttributionLocalisation", {}, POSITIVE, energy_in_mask, {}, ENERGY),
    ("AttributionLocalisation", {}, MAPS, mass_accuracy, {}, ABSOLUTE),
    ("RelevanceMassAccuracy", {}, POSITIVE, energy_in_mask, {}, ENERGY),
    ("RelevanceMassAccuracy", {"abs": True}, MAPS, mass_accuracy, {}, ABSOLUTE),
    ("RelevanceRankAccuracy", {}, MAPS, rank_accuracy, {}, [3 / 4, 4 / 6, 2 / 5]),
    ("TopKIntersection", {"k": 3}, MAPS, rank_accuracy, {"k": 3}, [2 / 3, 2 / 3, 1 / 3]),
]
recorded = pytest.mark.parametrize(
    ("name", "theirs", "maps", "metric", "ours", "expected"), RECORDED
)


@recorded
def test_the_numbers_of_quantus(name, theirs, maps, metric, ours, expected):
    found = getattr(metric(maps, MASKS, **ours), metric.__name__)
    assert found.tolist() == pytest.approx(expected, abs=1e-8)


@recorded
def test_quantus_has_these_numbers(name, theirs, maps, metric, ours, expected):
    quantus = pytest.importorskip("quantus")
    measure = getattr(quantus, name)(normalise=False, disable_warnings=True, **theirs)
    found = measure(
        model=torch.nn.Identity(),
        x_batch=np.zeros((3, 1, 4, 4)),
        y_batch=np.zeros(3, dtype=int),
        a_batch=maps.numpy(),
        s_batch=MASKS.unsqueeze(1).numpy(),
        channel_first=True,
    )
    # It adds 1e-9 to what it divides by.
    assert [float(each) for each in found] == pytest.approx(expected, abs=1e-8)
