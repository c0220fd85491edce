"""Equal to torchcam and to Quantus, on what they measure."""

from contextlib import nullcontext
from functools import partial

import pytest
import torch

from captum_tgrad.metrics import average_drop, deletion, increase_in_confidence, insertion_deletion
from tests.metrics.models import classifier, permutation, random

pytestmark = pytest.mark.filterwarnings("ignore:The baseline keeps half")


class StubExtractor:
    """Hands torchcam given maps, (N, h, w), in the place of a CAM."""

    def __init__(self, model, maps):
        self.model = model
        self._maps = maps

    def __call__(self, class_idx=None, scores=None, **kwargs):
        return [self._maps]

    def fuse_cams(self, cams):
        return cams[0]

    def _hooks_off(self):
        return nullcontext()


@pytest.mark.parametrize("steps", [6, 12, 36])
@pytest.mark.parametrize("coarse", [False, True])
def test_torchcams_areas(steps, coarse):
    torchcam = pytest.importorskip("torchcam.metrics")
    model, inputs, baseline = classifier(), random(3, 3, 12, 12), random(3, 3, 12, 12, seed=1)
    # torchcam rounds steps up to whole features: these divide the 144 of them.
    maps = random(3, 4, 4, seed=2) if coarse else permutation(3, 12, 12)
    metric = torchcam.DeletionInsertionMetric(
        StubExtractor(model, maps), partial(torch.softmax, dim=-1), steps=steps, baseline=baseline
    )
    metric.update(inputs)
    expected = metric.summary()
    result = insertion_deletion(model, inputs, maps.unsqueeze(1), baseline, n_steps=steps)
    # torchcam's fractions are float32, in which a step is off by up to 6e-8.
    assert result.deletion.mean().item() == pytest.approx(expected["deletion_auc"], abs=1e-6)
    assert result.insertion.mean().item() == pytest.approx(expected["insertion_auc"], abs=1e-6)


def test_torchcams_drop_and_increase():
    torchcam = pytest.importorskip("torchcam.metrics")
    model, inputs = classifier(), random(6, 3, 12, 12, seed=3)
    maps = permutation(6, 12, 12)
    scaled = (maps - maps.amin((1, 2), True)) / (maps.amax((1, 2), True) - maps.amin((1, 2), True))
    metric = torchcam.ClassificationMetric(
        StubExtractor(model, scaled), partial(torch.softmax, dim=-1)
    )
    metric.update(inputs)
    expected = metric.summary()
    drop = average_drop(model, inputs, maps.unsqueeze(1))
    increase = increase_in_confidence(model, inputs, maps.unsqueeze(1))
    # torchcam divides by Y + 1e-7.
    assert drop.average_drop.item() == pytest.approx(100 * expected["avg_drop"], abs=1e-3)
    percentage = 100 * expected["conf_increase"]
    assert increase.increase_in_confidence.item() == pytest.approx(percentage, abs=1e-10)
    assert 0 < increase.increase_in_confidence < 100


def test_quantus_pixel_flipping():
    # Quantus ranks single numbers, not pixels: with one channel both are the same. It leaves out
    # the score of the unchanged input, and its area is not normalized; what can be compared is
    # every score after the first, and the area of these. Its baseline "black" is the minimum of
    # what it perturbs, so the inputs get 0 for that.
    quantus = pytest.importorskip("quantus")
    model = classifier(channels=1, dtype=torch.float32)
    inputs = random(2, 1, 6, 6, dtype=torch.float32).abs()
    inputs[:, 0, 0, 0] = 0
    maps = permutation(2, 1, 6, 6).float()
    target = torch.tensor([2, 1])
    metric = quantus.PixelFlipping(
        features_in_step=4,
        perturb_baseline="black",
        normalise=False,
        disable_warnings=True,
        return_aggregate=False,
    )
    expected = metric(
        model=model,
        x_batch=inputs.numpy(),
        y_batch=target.numpy(),
        a_batch=maps.numpy(),
        channel_first=True,
        softmax=True,
        device="cpu",
    )
    result = deletion(model, inputs, maps, 0, target=target, n_steps=9, return_curves=True)
    found = result.deletion_curve[:, 1:]
    torch.testing.assert_close(found, torch.tensor(expected).to(found), rtol=0, atol=1e-6)
