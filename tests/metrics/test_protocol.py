"""The protocol of a result: what it was computed with, in plain values."""

import json

import numpy as np
import pytest
import torch

import captum_tgrad
from captum_tgrad import metrics
from captum_tgrad.metrics import (
    blur,
    energy_in_mask,
    grid_pointing_game,
    insertion_deletion,
    pointing_game,
    rank_accuracy,
)
from tests.metrics.models import classifier, linear, random

pytestmark = pytest.mark.filterwarnings("ignore:The baseline keeps half")

INPUTS = random(2, 3, 4, 4).abs() + 1
MAPS = random(2, 1, 4, 4, seed=1)
MODEL = linear(random(48, seed=2))
GRID = {
    "inputs": torch.eye(4).reshape(4, 4, 1, 1),
    "methods": lambda images, targets: images,
    "grid": 2,
    "confidence": 0.25,
}

OF_SCORES = {"score": "softmax", "target": "predicted"}
OF_REGIONS = {"regions": "masks", "size": [4, 4]}
OF_MAPS = {"channel_reduce": "sum", "interpolate_mode": "bilinear", "nan_policy": "raise"}
BLUR = "blur(kernel_size=51, sigma=10)"
OF_ROAD = {"baseline": "noisy linear imputation (noise=0.01)", "percentages": [50], "seed": 0}
OF_GRID = {"grid": 2, "n_grids": 1, "confidence": 0.25, "target": "predicted", "seed": 0}


@pytest.mark.parametrize(
    ("metric", "options", "expected"),
    [
        (
            "insertion",
            {},
            {"baseline": {"insertion": BLUR}, "n_steps": 16, "features": 16, "ties": "stable"}
            | OF_SCORES,
        ),
        (
            "deletion",
            {"baselines": 0, "n_steps": 5, "ties": "group", "target": 1, "score": "logit"},
            {"baseline": {"deletion": "0"}, "n_steps": 5, "features": 16, "ties": "group"}
            | {"score": "logit", "target": "given"},
        ),
        (
            "average_drop",
            {"channel_reduce": "abs", "interpolate_mode": "nearest", "nan_policy": "omit"},
            {"baseline": "zeros", "channel_reduce": "abs", "interpolate_mode": "nearest"}
            | {"nan_policy": "omit", **OF_SCORES},
        ),
        ("increase_in_confidence", {}, {"baseline": "zeros", **OF_SCORES}),
        ("road", {"percentages": [50]}, OF_ROAD | OF_SCORES),
        (
            "road",
            {"percentages": (20, 30.5), "noise": 0, "seed": 3},
            {"baseline": "noisy linear imputation (noise=0)", "percentages": [20, 30.5], "seed": 3}
            | OF_SCORES,
        ),
        ("pointing_game", {}, OF_REGIONS | {"tolerance": 15}),
        (
            "pointing_game",
            {"tolerance": 2, "regions": [[[0, 0, 2, 2]]] * 2, "channel_dim": -3},
            OF_REGIONS | {"regions": "boxes", "tolerance": 2, "channel_dim": -3},
        ),
        ("energy_in_mask", {"channel_reduce": "max"}, OF_REGIONS | {"channel_reduce": "max"}),
        ("mass_accuracy", {"nan_policy": "omit"}, OF_REGIONS | {"nan_policy": "omit"}),
        ("rank_accuracy", {}, OF_REGIONS | {"k": "pixels in the region"}),
        ("rank_accuracy", {"k": 3}, OF_REGIONS | {"k": 3}),
        ("grid_pointing_game", {}, OF_GRID),
        ("grid_pointing_game", {"target": [0, 1, 2, 3]}, OF_GRID | {"target": "given"}),
        ("grid_pointing_game", {"n_grids": 3, "seed": 1}, OF_GRID | {"n_grids": 3, "seed": 1}),
    ],
)
def test_every_entry(metric, options, expected):
    if metric == "grid_pointing_game":
        arguments = {"forward_func": lambda images: images.sum((2, 3)), **GRID}
    elif "regions" in expected:
        arguments = {"attributions": MAPS, "regions": torch.ones(2, 4, 4)}
    else:
        arguments = {"forward_func": classifier(), "inputs": INPUTS, "attributions": MAPS}
    versions = {"captum_tgrad": captum_tgrad.__version__, "torch": torch.__version__}
    found = getattr(metrics, metric)(**arguments | options).protocol
    assert found == {"metric": metric, **OF_MAPS, **expected, **versions}
    assert json.loads(json.dumps(found)) == found


def test_numbers_of_numpy_become_plain():
    masks = torch.ones(2, 4, 4, dtype=torch.bool)
    results = [
        insertion_deletion(MODEL, INPUTS, MAPS, n_steps=np.int64(2), patch_size=np.int64(2)),
        insertion_deletion(
            MODEL, INPUTS, MAPS, np.float32(0.5), n_steps=2, channel_dim=(np.int64(-3),)
        ),
        insertion_deletion(MODEL, INPUTS, MAPS, blur(np.int64(3), np.float32(1)), n_steps=2),
        energy_in_mask(MAPS.mT, masks, channel_dim=np.int64(-3), size=(np.int64(4), np.int64(4))),
        pointing_game(MAPS, [np.array([0, 0, 2, 2])] * 2, tolerance=np.float32(1)),
        rank_accuracy(MAPS, masks, k=np.int64(3)),
        grid_pointing_game(
            lambda images: images.sum((2, 3)),
            **GRID | {"grid": np.int64(2), "confidence": np.float32(0.25)},
            n_grids=np.int64(1),
        ),
    ]
    for result in results:
        assert json.loads(json.dumps(result.protocol)) == result.protocol
