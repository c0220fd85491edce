"""Metrics computed together give what each gives alone, under its own name."""

import pytest
import torch

from captum_tgrad import metrics
from captum_tgrad.metrics.engine.metric import together
from tests.metrics.models import random

NAMES = ("average_drop", "increase_in_confidence", "deletion")


@pytest.mark.filterwarnings("ignore:The baseline keeps half")
def test_each_metric_has_its_own_protocol():
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, 2)).eval()
    inputs, maps = random(2, 1, 6, 6).float(), {"a": random(2, 1, 6, 6, seed=1).float()}
    found, _ = together({name: {} for name in NAMES}, model, inputs, maps, target=0)
    for name in NAMES:
        alone = getattr(metrics, name)(model, inputs, maps["a"], target=0)
        assert found[name]["a"].protocol == alone.protocol
        assert repr(found[name]["a"]) == repr(alone)
