"""The true map beats a random map, and a random one the inverted, for every metric."""

import pytest
import torch

from captum_tgrad.metrics import (
    HIGHER_IS_BETTER,
    blur,
    zeros,
)
from tests.metrics.every_metric import numbers_of
from tests.metrics.models import random

pytestmark = pytest.mark.filterwarnings("ignore:The baseline keeps half")

# Numbers that are 0 for every map that does not raise the score.
OF_A_RISE = {"increase_in_confidence"}


@pytest.fixture(scope="module")
def scene():
    """A model that looks at the four bright pixels of a patch, and is put off by the rest."""
    true = torch.zeros(16, 1, 8, 8).double()
    for sample in range(16):
        row, column = sample // 4 + 1, sample % 4 + 1
        true[sample, :, row : row + 2, column : column + 2] = 1
    inputs = 3 * true + 0.3 * random(16, 1, 8, 8).abs()

    def model(x):
        evidence = (x * (x > 1)).sum((1, 2, 3)) - 0.2 * (x * (x <= 1)).sum((1, 2, 3))
        return torch.stack([evidence - 5, torch.zeros_like(evidence)], 1)

    true = true + 0.01 * random(16, 1, 8, 8, seed=1)  # no ties
    return model, inputs, {"true": true, "random": random(16, 1, 8, 8, seed=2), "inverted": -true}


@pytest.mark.parametrize("baselines", [zeros, blur(5, 2)])
def test_true_random_inverted(scene, baselines):
    values = {
        name: [each.mean().item() for each in by_method.values()]
        for name, by_method in numbers_of(*scene, 32, target=0, baselines=baselines).items()
    }
    for name, (true, by_chance, inverted) in values.items():
        if name in OF_A_RISE:
            # Neither a random nor an inverted map ever raises the confidence; and what puts the
            # model off is still there when it is blurred.
            assert by_chance == inverted == 0
            assert true > 0 if baselines is zeros else true == 0
            continue
        sign = 1 if HIGHER_IS_BETTER[name] else -1
        assert sign * true > sign * by_chance > sign * inverted, name
