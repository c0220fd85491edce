"""ROAD: by hand, against a dense literal form, pytorch-grad-cam and Quantus."""

import json

import numpy as np
import pytest
import torch

from captum_tgrad.metrics import road
from captum_tgrad.metrics.engine.linear_imputation import Multilevel, linear_imputation
from tests.metrics.models import classifier, permutation, random


def _literal(image, missing):
    """One equation for each missing pixel, one neighbor at a time, solved densely."""
    places = list(zip(*np.nonzero(missing), strict=True))
    number = {place: at for at, place in enumerate(places)}
    height, width = missing.shape
    matrix = np.zeros((len(places), len(places)))
    right = np.zeros((len(places), len(image)))
    for (row, column), at in number.items():
        for down in (-1, 0, 1):
            for along in (-1, 0, 1):
                other = (row + down, column + along)
                if (down, along) == (0, 0) or not (0 <= other[0] < height):
                    continue
                if not 0 <= other[1] < width:
                    continue
                weight = 1 / 6 if down == 0 or along == 0 else 1 / 12
                matrix[at, at] += weight
                if other in number:
                    matrix[at, number[other]] -= weight
                else:
                    right[at] += weight * image[:, other[0], other[1]]
    filled = image.copy()
    for place, values in zip(places, np.linalg.solve(matrix, right), strict=True):
        filled[:, place[0], place[1]] = values
    return filled


@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
def test_the_imputation_solves_the_literal_equations(share):
    images = random(4, 3, 9, 7)
    missing = torch.rand(4, 9, 7, generator=torch.Generator().manual_seed(2)) < share
    missing[0, :5] = True  # a hole
    missing[1] = False
    expected = [
        _literal(image.numpy(), each.numpy()) for image, each in zip(images, missing, strict=True)
    ]
    found = linear_imputation(images, missing)
    np.testing.assert_allclose(found, np.stack(expected), rtol=0, atol=1e-10)
    single = linear_imputation(images.float(), missing)
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single, np.stack(expected), rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (7, 8), (8, 7), (16, 5)])
def test_corrections_are_symmetric_and_positive(size):
    unknown = (random(1, 1, *size, seed=3) > -0.8).double()
    unit = torch.eye(size[0] * size[1]).double().reshape(-1, 1, *size)
    matrix = Multilevel(unknown.expand(len(unit), -1, -1, -1))(unit * unknown).flatten(1)
    torch.testing.assert_close(matrix, matrix.T, rtol=0, atol=1e-12)
    inside = unknown.flatten() > 0
    assert torch.linalg.eigvalsh(matrix[inside][:, inside]).min() > 0.99
    assert not matrix[~inside].any()


def _counted(monkeypatch):
    """A list that becomes longer with every iteration."""
    calls, around = [], linear_imputation.__globals__["_around"]
    counted = lambda x: calls.append(1) or around(x)  # noqa: E731
    monkeypatch.setitem(linear_imputation.__globals__, "_around", counted)
    return calls


@pytest.mark.parametrize("share", [0.5, 0.99])
def test_large_holes_take_few_iterations(share, monkeypatch):
    calls = _counted(monkeypatch)
    images = random(1, 1, 128, 96)
    missing = torch.zeros(1, 128, 96, dtype=torch.bool)
    missing[:, : round(128 * share)] = True
    filled = linear_imputation(images, missing)
    assert len(calls) < 150  # 405 and 582 without corrections of lower resolutions
    assert torch.equal(filled[~missing[:, None]], images[~missing[:, None]])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_hole_in_a_black_background_takes_few_iterations(dtype, monkeypatch):
    calls = _counted(monkeypatch)
    image = torch.zeros(1, 1, 32, 32, dtype=dtype)
    image[..., 4:9, 4:9] = 1
    missing = torch.zeros(1, 32, 32, dtype=torch.bool)
    missing[:, 12:] = True
    filled = linear_imputation(image, missing)
    # Means of zeros are 0.
    torch.testing.assert_close(filled, image, rtol=0, atol=10 * torch.finfo(dtype).eps)
    assert len(calls) < 100


def test_a_constant_image_stays_and_one_pixel_is_the_mean_of_its_neighbors():
    image = torch.full((1, 1, 5, 5), 3.0)
    missing = torch.zeros(1, 5, 5, dtype=torch.bool)
    missing[0, 1:4, 1:] = True
    torch.testing.assert_close(linear_imputation(image, missing), image)
    image = torch.tensor([[[[1.0, 2.0, 4.0], [8.0, 99.0, 16.0], [32.0, 64.0, 128.0]]]])
    missing = torch.zeros(1, 3, 3, dtype=torch.bool)
    missing[0, 1, 1] = True
    expected = (2 + 8 + 16 + 64) / 6 + (1 + 4 + 32 + 128) / 12
    assert linear_imputation(image, missing)[0, 0, 1, 1] == pytest.approx(expected)
    missing = torch.zeros(1, 3, 3, dtype=torch.bool)
    missing[0, 0, 0] = True  # beyond the border nothing counts
    expected = ((2 + 8) / 6 + 99 / 12) / (2 / 6 + 1 / 12)
    assert linear_imputation(image, missing)[0, 0, 0, 0] == pytest.approx(expected)


def test_the_imputation_of_quantus():
    quantus = pytest.importorskip("quantus")
    image, missing = random(3, 8, 8), random(8, 8, seed=1) > 0.3
    indices = missing.flatten().nonzero().flatten().numpy()
    impute = quantus.functions.perturb_func.noisy_linear_imputation
    expected = impute(image.numpy().copy(), indices, noise=0.0)
    found = linear_imputation(image[None], missing[None])[0]
    np.testing.assert_allclose(found, expected.reshape(3, 8, 8), rtol=0, atol=1e-10)


def _grad_cams(model, inputs, maps, target, percentage, least):
    library = pytest.importorskip("pytorch_grad_cam.metrics.road")
    kind = library.RemoveLeastRelevantFirst if least else library.RemoveMostRelevantFirst
    without_noise = library.NoisyLinearImputer(noise=0)
    # Its percentile is that of what stays.
    change = library.PerturbationConfidenceMetric(kind(100 - percentage, without_noise))
    targets = [lambda output, which=which: output.softmax(-1)[which] for which in target]
    return change(inputs, maps[:, 0].numpy(), targets, model)


@pytest.mark.parametrize("ties", [False, True])
def test_grad_cams_changes(ties):
    model, inputs = classifier(dtype=torch.float32), random(3, 3, 10, 10, dtype=torch.float32)
    maps = permutation(3, 1, 10, 10) / 100
    if ties:  # ten levels: no percentage cuts one
        maps = torch.floor(maps * 10) / 10
    target, percentages = torch.tensor([2, 0, 1]), (10, 30, 80)
    found = road(model, inputs, maps, None, target, percentages, noise=0)
    for least, scores, mean in (
        (False, found.most_relevant_scores, found.most_relevant_first),
        (True, found.least_relevant_scores, found.least_relevant_first),
    ):
        expected = [
            _grad_cams(model, inputs, maps, target, percentage, least) for percentage in percentages
        ]
        changes = (scores - found.clean_score[:, None]).T
        np.testing.assert_allclose(changes, np.stack(expected), rtol=0, atol=1e-5)
        np.testing.assert_allclose(mean, np.mean(expected, 0), rtol=0, atol=1e-5)
    # As ROADCombined has it.
    combined = (found.least_relevant_first - found.most_relevant_first) / 2
    torch.testing.assert_close(found.road, combined)


def test_the_true_map_beats_a_random_one_and_that_the_inverted():
    true = torch.zeros(8, 1, 12, 12).double()
    for sample in range(8):
        true[sample, :, sample : sample + 3, 4:7] = 1
    inputs = true + 0.1 * random(8, 1, 12, 12).abs()

    def model(x):  # the eight samples, whole batches of them
        return (x * true).sum((1, 2, 3))

    maps = {"true": true, "random": random(8, 1, 12, 12, seed=2), "inverted": 1 - true}
    found = road(model, inputs, maps, max_examples_per_batch=8)
    means = [found[name].road.mean() for name in ("true", "random", "inverted")]
    assert means[0] > 1 > means[1] > -1 > means[2]


def test_by_hand():
    # The score is the pixel in the middle; its neighbors are 0, but for a 6 beside it.
    inputs = torch.zeros(1, 1, 3, 3).double()
    inputs[0, 0, 1] = torch.tensor([6.0, 9.0, 0.0])
    result = road(lambda x: x[:, 0, 1, 1], inputs, inputs, percentages=[12, 70], noise=0)
    # 12% of 9 is one pixel: the middle becomes 6 / 6. Then six: the first two are 9 and 6, and of
    # the others, equal ones, four in a random order.
    assert result.most_relevant_scores[0, 0].item() == pytest.approx(1)
    assert result.most_relevant_scores[0, 1].item() == pytest.approx(0)
    assert result.least_relevant_scores.tolist() == [[9, 9]]
    assert result.clean_score.tolist() == [9]
    assert result.most_relevant_first.tolist() == pytest.approx([-8.5])
    assert result.road.tolist() == pytest.approx([4.25])


def test_noise_follows_from_the_seed_and_is_as_large_as_asked():
    inputs, maps = torch.zeros(2, 2, 20, 20).double(), permutation(2, 1, 20, 20)
    seen = []

    def model(images):
        seen.append(images.clone())
        return images.flatten(1).std(1)

    state = torch.get_rng_state()
    first = road(model, inputs, maps, percentages=[50], noise=0.3)
    assert torch.equal(torch.get_rng_state(), state)
    replaced = seen[1][0, 0][seen[1][0, 0] != 0]
    assert len(replaced) == 200
    assert replaced.std().item() == pytest.approx(0.3, rel=0.15)
    assert not torch.equal(seen[1][0, 0], seen[1][0, 1])  # each channel has its own
    again = road(model, inputs, maps, percentages=[50], noise=0.3, max_examples_per_batch=1)
    torch.testing.assert_close(first.road, again.road, rtol=0, atol=1e-10)
    alone = road(model, inputs[1:], maps[1:], percentages=[50], noise=0.3)
    torch.testing.assert_close(first.road[1:], alone.road, rtol=0, atol=1e-10)
    other = road(model, inputs, maps, percentages=[50], noise=0.3, seed=1)
    assert (first.road - other.road).abs().max() > 1e-6


def test_methods_chunks_and_layouts_give_the_same_numbers():
    model, inputs = classifier(), random(3, 3, 8, 8)
    methods = {"one": permutation(3, 1, 8, 8), "coarse": random(3, 1, 4, 4, seed=5)}
    whole = road(model, inputs, methods, percentages=[20, 60])
    for name, maps in methods.items():
        alone = road(model, inputs, maps, percentages=[20, 60], max_examples_per_batch=2)
        torch.testing.assert_close(alone.road, whole[name].road, rtol=0, atol=1e-10)
    last = road(
        lambda x: model(x.movedim(-1, 1)),
        inputs.movedim(1, -1),
        methods["one"].movedim(1, -1),
        percentages=[20, 60],
        channel_dim=-1,
    )
    torch.testing.assert_close(last.road, whole["one"].road, rtol=0, atol=1e-10)


def test_omitted_samples_are_nan_and_the_others_unchanged():
    model, inputs, maps = classifier(), random(3, 3, 6, 6), permutation(3, 1, 6, 6)
    expected = road(model, inputs, maps, percentages=[50])
    broken_inputs, broken_maps = inputs.clone(), maps.clone()
    broken_inputs[0, 1, 2, 2], broken_maps[2, 0, 0, 0] = torch.inf, torch.nan
    # Also if the model ignores what is broken.
    for score in (model, lambda x: model(x.nan_to_num(0, 0, 0))):
        found = road(score, broken_inputs, broken_maps, percentages=[50], nan_policy="omit")
        assert found.road.isnan().tolist() == [True, False, True]
        torch.testing.assert_close(found.road[1], expected.road[1], rtol=0, atol=1e-10)


def test_a_constant_map_is_random_and_says_so():
    arguments = classifier(), random(2, 3, 6, 6), torch.ones(2, 1, 6, 6)
    found = []
    for seed in (0, 0, 1):
        torch.rand(3)  # the seed alone decides
        with pytest.warns(UserWarning, match="their order is random"):
            result = road(*arguments, percentages=[50], noise=0, seed=seed)
        found.append(result.most_relevant_first)
    assert torch.equal(found[0], found[1])
    assert (found[0] - found[2]).abs().min() > 1e-6


def test_no_pixel_is_lost_to_rounding_and_the_protocol_is_plain():
    seen = []

    def model(images):
        seen.append(images.clone())
        return images.mean((1, 2, 3))

    images, maps = torch.zeros(1, 1, 100, 100), permutation(1, 1, 100, 100)
    percentages = np.array([0.57, 0.29, 10])
    found = road(model, images, maps, percentages=percentages, noise=1, max_examples_per_batch=1)
    assert [int((each != 0).sum()) for each in seen[1:4]] == [57, 29, 1000]
    assert json.loads(json.dumps(found.protocol))["percentages"] == [0.57, 0.29, 10]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"percentages": []}, ValueError, "percentages must be above 0 and below 100"),
        ({"percentages": [100]}, ValueError, "percentages must be above 0 and below 100"),
        ({"percentages": [0, 10]}, ValueError, "percentages"),
        ({"percentages": 10}, TypeError, "percentages must be a list of numbers, also for"),
        ({"percentages": "10"}, TypeError, "percentages must be a list of numbers, also for"),
        ({"percentages": ["10"]}, TypeError, "percentages must be a number, got str"),
        ({"noise": None}, TypeError, "noise must be a number, got NoneType"),
        ({"noise": torch.inf}, ValueError, "noise must be a standard deviation"),
        ({"seed": 1.5}, TypeError, "seed must be an integer of 0 or more, got float"),
        ({"seed": -1}, ValueError, "seed must be an integer of 0 or more, got -1"),
        ({"noise": -1}, ValueError, "noise must be a standard deviation"),
        ({"noise": float("nan")}, ValueError, "noise must be a standard deviation"),
        ({"inputs": torch.ones(2, 6), "attributions": torch.ones(2, 6)}, ValueError, "be images"),
        (
            {
                "inputs": (torch.ones(2, 3, 6, 6),) * 2,
                "attributions": (torch.rand(2, 1, 6, 6),) * 2,
            },
            ValueError,
            r"got shape \(2, 3, 6, 6\), \(2, 3, 6, 6\)",
        ),
        ({"inputs": torch.ones(2, 3, 6, 6).int()}, TypeError, r"inputs\.float\(\)"),
        ({"attributions": torch.ones(2, 1, 7, 6)}, ValueError, "coarser than its input, not finer"),
        ({"attributions": torch.ones(2, 1, 6, 6) * torch.nan}, ValueError, "NaN or inf in sample"),
        ({"target": 9}, ValueError, "target 9 is out of range"),
        ({"max_examples_per_batch": 0}, ValueError, "max_examples_per_batch"),
    ],
)
def test_bad_input(changes, error, message):
    arguments = {
        "forward_func": classifier(dtype=torch.float32),
        "inputs": torch.rand(2, 3, 6, 6),
        "attributions": torch.rand(2, 1, 6, 6),
    }
    with pytest.raises(error, match=message):
        road(**arguments | changes)


def test_fractions_in_the_place_of_percentages():
    model, inputs, maps = classifier(), random(2, 3, 6, 6), random(2, 1, 6, 6)
    with pytest.warns(UserWarning, match=r"all below 1%. If they are fractions, pass 10"):
        road(model, inputs, maps, percentages=[0.1, 0.5])
    road(model, inputs, maps, percentages=[0.1, 1])  # without a warning
