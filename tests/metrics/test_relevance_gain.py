"""The difference of the areas is the symmetric relevance gain, and patches go as a whole."""

import numpy as np
import pytest
import torch

from captum_tgrad.metrics import deletion, insertion, insertion_deletion
from tests.metrics.models import classifier, linear, random

pytestmark = [
    pytest.mark.filterwarnings("ignore:The baseline keeps half"),
    pytest.mark.filterwarnings("ignore:More than a quarter"),
]


def _segments(height, width, patch_size):
    """Segments numbered from 1, as bluecher31/pixel-flipping numbers its superpixels."""
    segmentation = np.zeros((height, width), dtype=int)
    number = 0
    for row in range(0, height, patch_size):
        for column in range(0, width, patch_size):
            number += 1
            segmentation[row : row + patch_size, column : column + patch_size] = number
    return segmentation


def _flipping(model, image, heatmap, segmentation, baseline, target, steps, most_relevant_first):
    """Pixel flipping of one image as there: shares occluded, and the scores of the rest."""
    numbers = np.unique(segmentation)
    means = [heatmap[segmentation == number].mean() for number in numbers]
    ascending = numbers[np.argsort(means)]
    shares, scores = [], []
    for count in [step * len(numbers) // steps for step in range(steps + 1)]:
        if count == 0:
            occluded = []
        else:
            occluded = ascending[-count:] if most_relevant_first else ascending[:count]
        mask = torch.from_numpy(np.isin(segmentation, occluded))
        changed = torch.where(mask, baseline, image)
        scores.append(model(changed[None]).softmax(1)[0, target].item())
        shares.append(float(mask.double().mean()))
    return shares, scores


def _symmetric_relevance_gain(*arguments):
    """The area with the least relevant first minus that with the most relevant first."""
    areas = []
    for most_relevant_first in (False, True):
        shares, scores = map(np.array, _flipping(*arguments, most_relevant_first))
        areas.append(((scores[1:] + scores[:-1]) / 2 * np.diff(shares)).sum())
    return areas[0] - areas[1]


@pytest.mark.parametrize(("patch_size", "steps"), [(1, 8), (1, 64), (2, 16), (4, 4), (4, 2)])
def test_difference_is_the_symmetric_relevance_gain(patch_size, steps):
    model, inputs, maps = classifier(), random(3, 3, 8, 8), random(3, 1, 8, 8, seed=2)
    baseline, target = random(3, 3, 8, 8, seed=1), [2, 0, 3]
    segmentation = _segments(8, 8, patch_size)
    expected = [
        _symmetric_relevance_gain(
            model, inputs[n], maps[n, 0].numpy(), segmentation, baseline[n], target[n], steps
        )
        for n in range(3)
    ]
    found = insertion_deletion(
        model,
        inputs,
        maps,
        baseline,
        target=target,
        n_steps=steps,
        patch_size=None if patch_size == 1 else patch_size,
    )
    np.testing.assert_allclose(found.difference, expected, rtol=0, atol=1e-10)
    assert np.abs(expected).max() > 1e-3


def test_it_is_not_with_two_baselines():
    model, inputs, maps = classifier(), random(1, 3, 8, 8), random(1, 1, 8, 8, seed=2)
    baselines = {"insertion": 0.0, "deletion": 1.0}
    gain = _symmetric_relevance_gain(
        model, inputs[0], maps[0, 0].numpy(), _segments(8, 8, 1), torch.zeros(()).double(), 1, 8
    )
    found = insertion_deletion(model, inputs, maps, baselines, target=1, n_steps=8)
    assert abs(found.difference.item() - gain) > 1e-3


@pytest.mark.parametrize("patch_size", [3, 4, 5])
@pytest.mark.parametrize("curve", [insertion, deletion])
def test_ragged_patches_against_the_literal_form(patch_size, curve):
    # 7 x 8 places: patches at the far borders are smaller, and the counts differ by sample.
    model, inputs, maps = classifier(), random(3, 3, 7, 8), random(3, 1, 7, 8, seed=2)
    segmentation = _segments(7, 8, patch_size)
    steps = segmentation.max()
    found = curve(
        model, inputs, maps, 0, target=1, n_steps=100, patch_size=patch_size, return_curves=True
    )
    values = found.insertion_curve if curve is insertion else found.deletion_curve
    for n in range(3):
        shares, scores = _flipping(
            model,
            inputs[n],
            maps[n, 0].numpy(),
            segmentation,
            torch.zeros(()).double(),
            1,
            steps,
            curve is deletion,
        )
        if curve is insertion:
            shares, scores = [1 - share for share in shares[::-1]], scores[::-1]
        np.testing.assert_allclose(found.fractions[n], shares, rtol=0, atol=1e-10)
        np.testing.assert_allclose(values[n], scores, rtol=0, atol=1e-10)


def test_by_hand():
    # Patches of two: means 1.5, 4, 3 and the place that is left over, 2. The order is b, c, d, a.
    maps = torch.tensor([[[1.0, 2.0, 8.0, 0.0, 3.0, 3.0, 2.0]]])
    model = linear([1.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e6])
    inputs = torch.ones(1, 1, 7).double()
    found = insertion(model, inputs, maps, 0, patch_size=2, return_curves=True)
    assert found.insertion_curve.tolist() == [[0, 1100, 111100, 1111100, 1111111]]
    assert found.fractions.tolist() == [pytest.approx([0, 2 / 7, 4 / 7, 5 / 7, 1])]
    assert found.protocol["patch_size"] == 2
    assert found.tied_share.tolist() == [0]
    assert "patch_size" not in insertion(model, inputs, maps, 0).protocol


def test_ties_of_patches():
    # The mean of the second patch is that of the third.
    maps = torch.tensor([[[1.0, 2.0, 3.0, 5.0, 4.0, 4.0]]])
    model = linear([1.0, 10.0, 100.0, 1e3, 1e4, 1e5])
    inputs = torch.ones(1, 1, 6).double()
    options = {"patch_size": 2, "return_curves": True}
    stable = insertion(model, inputs, maps, 0, **options)
    assert stable.insertion_curve.tolist() == [[0, 1100, 111100, 111111]]
    assert stable.tied_share.tolist() == pytest.approx([2 / 3])
    group = insertion(model, inputs, maps, 0, ties="group", **options)
    assert group.fractions.tolist() == [pytest.approx([0, 0, 2 / 3, 1])]


def test_several_inputs_have_patches_of_their_own():
    maps = (torch.tensor([[[1.0, 2.0, 9.0]]]), None, torch.tensor([[[4.0, 0.0]]]))
    inputs = tuple(torch.ones(1, 1, size).double() for size in (3, 2, 2))

    def model(a, b, c):
        weights = torch.tensor([1.0, 10.0, 100.0, 1e3, 1e4]).double()
        return (torch.cat([a, c], 2)[:, 0] * weights).sum(1) + b.sum((1, 2)) / 4

    found = insertion(model, inputs, maps, 0, patch_size=2, return_curves=True)
    # Patches (1, 2), (9), (4, 0): means 1.5, 9, 2.
    assert found.insertion_curve.tolist() == [[0.5, 100.5, 11100.5, 11111.5]]


@pytest.mark.parametrize(
    ("patch_size", "error"), [(0, ValueError), (2.0, TypeError), (True, TypeError)]
)
def test_a_patch_size_is_a_positive_integer(patch_size, error):
    with pytest.raises(error, match="patch_size must be a positive integer"):
        insertion(classifier(), random(1, 3, 4, 4), random(1, 1, 4, 4), 0, patch_size=patch_size)
