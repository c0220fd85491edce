"""Localization metrics: by hand, against slow references, and for random maps."""

import numpy as np
import pytest
import torch

from captum_tgrad.metrics import energy_in_mask, mass_accuracy, pointing_game, rank_accuracy
from tests.metrics import localization_reference as reference
from tests.metrics.models import permutation, random

METRICS = [pointing_game, energy_in_mask, mass_accuracy, rank_accuracy]
every_metric = pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.__name__)


def _numbers(metric, *arguments, **options):
    if metric is pointing_game:
        options = {"tolerance": 0, **options}
    return getattr(metric(*arguments, **options), metric.__name__)


# A map of 3 x 4 with its peak, 6, in row 0, column 3.
HAND = torch.tensor([[[[1.0, -3.0, 2.0, 6.0], [4.0, 5.0, -1.0, 0.0], [3.0, 0.5, 1.5, -2.0]]]])
LEFT = torch.tensor([[0.0, 0.0, 2.0, 3.0]])  # 1, -3, 4, 5, 3, 0.5


@pytest.mark.parametrize(
    ("metric", "options", "expected"),
    [
        (pointing_game, {}, 0.0),
        (pointing_game, {"tolerance": 2}, 0.0),  # exactly 2 columns away is not less than 2
        (pointing_game, {"tolerance": 2.01}, 1.0),
        (energy_in_mask, {}, 13.5 / 23),
        (mass_accuracy, {}, 16.5 / 29),
        (rank_accuracy, {}, 3 / 6),  # the highest six: 6, 5, 4, 3, 2, 1.5
        (rank_accuracy, {"k": 4}, 3 / 4),
        (rank_accuracy, {"k": 1}, 0.0),
        (rank_accuracy, {"k": 12}, 6 / 12),
    ],
)
def test_by_hand(metric, options, expected):
    assert _numbers(metric, HAND, LEFT, **options).tolist() == pytest.approx([expected])


@pytest.mark.parametrize("tolerance", [0, 1, 1.5, 2, 3, 5, 40])
def test_pointing_is_that_of_the_literal_rule(tolerance):
    maps = permutation(30, 1, 9, 7)
    masks = random(30, 9, 7, seed=1) > 1.3
    masks[:, 2, 3] = True
    expected = [
        reference.pointing_game(one.numpy(), mask.numpy(), tolerance)
        for one, mask in zip(maps[:, 0], masks, strict=True)
    ]
    found = pointing_game(maps, masks, tolerance=tolerance)
    assert found.pointing_game.tolist() == expected
    assert tolerance >= 5 or 0 < sum(expected) < 30
    # What chance says: the mean over maps with their peak at every place.
    everywhere = torch.eye(63).double().reshape(63, 1, 9, 7)
    each = pointing_game(everywhere, masks[:1].expand(63, -1, -1), tolerance=tolerance)
    assert each.pointing_game.mean() == pytest.approx(found.chance[0])


@pytest.mark.parametrize("k", [None, 1, 5, 63])
def test_ranks_are_those_of_the_literal_rule(k):
    maps, masks = permutation(20, 1, 9, 7), random(20, 9, 7, seed=2) > 0.5
    masks[0] = maps[0, 0] == 62  # one pixel, the highest
    masks[1] = maps[1, 0] == 61
    expected = [
        reference.rank_accuracy(one.numpy(), mask.numpy(), k)
        for one, mask in zip(maps[:, 0], masks, strict=True)
    ]
    found = rank_accuracy(maps, masks, k=k).rank_accuracy
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)


def test_shares_are_those_of_the_literal_sums():
    maps, masks = random(20, 3, 9, 7), random(20, 9, 7, seed=2) > 0.5
    summed = maps.sum(1).numpy()
    for metric, values in (
        (energy_in_mask, summed.clip(min=0)),
        (mass_accuracy, np.abs(summed)),
    ):
        expected = [
            reference.share(one, mask.numpy()) for one, mask in zip(values, masks, strict=True)
        ]
        np.testing.assert_allclose(_numbers(metric, maps, masks), expected, rtol=0, atol=1e-10)


@every_metric
def test_a_box_has_the_pixels_whose_middle_is_in_it(metric):
    maps = random(5, 1, 6, 5)
    boxes = [
        torch.tensor([[0.6, 1.4, 3.5, 4.5], [2.0, 3.0, 5.0, 6.0]]),  # these overlap
        torch.tensor([[-1.0, -1.0, 2.5, 7.0]]),  # beyond the border by rounding
        [[4, 0, 5, 1], [0, 0, 6, 0.5]],
        [[0.5, 1.5, 2.5, 3.5]],  # from middle to middle: only the first ones are in it
        [[0, 0.2, 1.5, 1], [0.2, 0, 1, 1.5], [0, 0, 1, 1]],  # not relative to the image
    ]
    masks = [reference.mask_of_boxes(torch.as_tensor(each).tolist(), 6, 5) for each in boxes]
    assert [int(mask.sum()) for mask in masks] == [14, 12, 1, 4, 1]
    expected = _numbers(metric, maps, torch.from_numpy(np.stack(masks)))
    assert torch.equal(_numbers(metric, maps, boxes), expected)


@every_metric
@pytest.mark.parametrize("layout", ["bool", "with a channel", "uint8", "float"])
def test_masks_in_any_layout(metric, layout):
    maps, masks = random(4, 1, 6, 5), random(4, 6, 5, seed=3) > 0
    expected = _numbers(metric, maps, masks)
    layouts = {
        "bool": masks,
        "with a channel": masks[:, None],
        "uint8": masks.byte(),
        "float": masks.double(),
    }
    assert torch.equal(_numbers(metric, maps, layouts[layout]), expected)


@every_metric
def test_the_mask_itself_scores_1_and_its_opposite_0(metric):
    masks = random(5, 8, 8, seed=4) > 0
    oracle = masks[:, None].double()
    assert _numbers(metric, oracle, masks).tolist() == [1] * 5
    expected = [0.0] * 5
    if metric is rank_accuracy:  # half of the image or more: some of the highest must be in it
        expected = [max(0, 2 * n - 64) / n for n in masks.flatten(1).sum(1).tolist()]
    assert _numbers(metric, 1 - oracle, masks).tolist() == pytest.approx(expected)


@every_metric
def test_random_maps_score_the_chance_level(metric):
    masks = torch.zeros(2000, 8, 8, dtype=torch.bool)
    masks[:, :4, :3] = True
    found = metric(random(2000, 1, 8, 8).abs(), masks, **_exact(metric))
    assert found.chance.tolist() == [12 / 64] * 2000
    numbers = getattr(found, metric.__name__)
    # Within four standard errors.
    assert abs(numbers.mean() - 12 / 64) < 4 * numbers.std() / 2000**0.5


@every_metric
def test_a_constant_map_scores_the_chance_level_and_is_warned_of(metric):
    masks = random(2, 6, 6, seed=5) > 0.4
    with pytest.warns(UserWarning, match="Constant: attributions, sample 0, 1"):
        found = metric(torch.ones(2, 1, 6, 6), masks, **_exact(metric))
    torch.testing.assert_close(getattr(found, metric.__name__), found.chance)


@every_metric
@pytest.mark.parametrize(("coarse", "fine"), [(13, 227), (9, 299), (10, 300), (7, 240)])
def test_a_constant_map_is_constant_when_it_is_enlarged(metric, coarse, fine):
    masks = torch.zeros(1, fine, fine)
    masks[:, : fine // 3] = 1
    with pytest.warns(UserWarning, match="Constant: attributions, sample 0"):
        found = metric(torch.full((1, 1, coarse, coarse), 0.1), masks, **_exact(metric))
    assert getattr(found, metric.__name__).item() == pytest.approx(fine // 3 / fine)


def test_ties_count_by_their_share():
    maps = torch.tensor([[[[5.0, 5.0, 5.0], [2.0, 2.0, 1.0]]]]).double()
    masks = torch.tensor([[[True, False, False], [True, True, True]]])
    assert pointing_game(maps, masks, tolerance=0).pointing_game.item() == 1 / 3
    # The highest four: one of the first three, and one of two that are both in the region.
    assert rank_accuracy(maps, masks).rank_accuracy.item() == pytest.approx(2 / 4)
    # The highest two, of three of which one is in the region.
    assert rank_accuracy(maps, masks, k=2).rank_accuracy.item() == pytest.approx(1 / 3)


def test_maps_without_mass():
    maps = torch.stack([torch.zeros(1, 4, 4), -torch.rand(1, 4, 4)])
    masks = torch.ones(2, 4, 4)
    with pytest.warns(UserWarning, match="spread evenly"):
        assert energy_in_mask(maps, masks).energy_in_mask.tolist() == [0, 0]
    with pytest.warns(UserWarning, match="spread evenly"):
        assert mass_accuracy(maps, masks).mass_accuracy.tolist() == [0, 1]


def test_huge_and_tiny_values_have_finite_sums():
    maps = torch.tensor([[[[3e38, 3e38], [0.0, 3e38]]], [[[1e-44, 1e-44], [0.0, 1e-44]]]])
    masks = torch.tensor([[[1, 0], [0, 0]]] * 2)
    assert _numbers(energy_in_mask, maps, masks).tolist() == pytest.approx([1 / 3] * 2)


@every_metric
def test_coarse_maps_are_enlarged_to_the_images(metric):
    coarse, masks = random(3, 1, 2, 3), random(3, 8, 6, seed=6) > 0
    enlarged = torch.nn.functional.interpolate(coarse, (8, 6), mode="bilinear")
    expected = _numbers(metric, enlarged, masks)
    assert torch.equal(_numbers(metric, coarse, masks), expected)
    boxes = [torch.tensor([[1.0, 2.0, 5.0, 7.0]])] * 3
    expected = _numbers(metric, enlarged, boxes)
    assert torch.equal(_numbers(metric, coarse, boxes, size=(8, 6)), expected)
    both = metric({"coarse": coarse, "whole": enlarged}, boxes, **_exact(metric))
    assert torch.equal(getattr(both["coarse"], metric.__name__), expected)
    assert both["whole"].protocol["size"] == [8, 6]


@every_metric
def test_channels_can_be_elsewhere_and_reduced_otherwise(metric):
    maps, masks = random(3, 2, 5, 4), random(3, 5, 4, seed=7) > 0
    for reduce, summed in (
        ("sum", maps.sum(1, keepdim=True)),
        ("abs", maps.abs().sum(1, keepdim=True)),
        ("max", maps.amax(1, keepdim=True)),
    ):
        expected = _numbers(metric, summed, masks)
        assert torch.equal(_numbers(metric, maps, masks, channel_reduce=reduce), expected)
        for dim in (1, 2, 3, -1, -2, -3):
            moved = maps.movedim(1, dim)
            found = _numbers(metric, moved, masks, channel_reduce=reduce, channel_dim=dim)
            assert torch.equal(found, expected)
        assert torch.equal(_numbers(metric, summed[:, 0], masks, channel_dim=None), expected)


@every_metric
def test_omitted_samples_are_nan_and_the_others_unchanged(metric):
    maps, boxes = random(4, 1, 6, 6), [torch.tensor([[1.0, 1.0, 4.0, 5.0]])] * 4
    expected = _numbers(metric, maps, boxes)
    broken = maps.clone()
    broken[1, 0, 2, 2] = torch.nan
    boxes[2] = torch.empty(0, 4)
    boxes[3] = torch.tensor([[1.6, 1.6, 2.4, 2.4]])  # no pixel has its middle there
    with pytest.raises(ValueError, match=r"region of sample 2, 3 is empty.*nan_policy='omit'"):
        _numbers(metric, maps, boxes)
    with pytest.raises(ValueError, match=r"attributions holds NaN or inf in sample 1"):
        _numbers(metric, broken, boxes[:1] * 4)
    result = metric(broken, boxes, nan_policy="omit", **_exact(metric))
    found = getattr(result, metric.__name__)
    assert found.isnan().tolist() == [False, True, True, True]
    assert found[0] == expected[0]
    # Only a region has a chance level.
    assert result.chance.isnan().tolist() == [False, False, True, True]


@every_metric
@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"attributions": torch.ones(2, 6, 6)}, ValueError, r"have 4 dimensions.*channel_dim=None"),
        ({"attributions": torch.ones(2, 1, 6, 0)}, ValueError, "none of size 0"),
        ({"attributions": {}}, ValueError, "empty dict"),
        ({"attributions": {"a": np.ones(3)}}, TypeError, r"attributions\['a'\] must be a torch"),
        (
            {"attributions": torch.ones(2, 1, 7, 6)},
            ValueError,
            r"masks of height and width \(6, 6\)",
        ),
        (
            {"attributions": torch.ones(2, 1, 6, 7)},
            ValueError,
            r"masks of height and width \(6, 6\)",
        ),
        ({"regions": torch.ones(6, 6)}, ValueError, r"regions.unsqueeze\(0\)"),
        ({"regions": np.ones((2, 6, 6))}, TypeError, "torch.from_numpy"),
        ({"attributions": torch.ones(2, 3, 3, 3)}, ValueError, r"sum\(1, keepdim=True\)"),
        ({"regions": torch.ones(3, 6, 6)}, ValueError, r"regions has shape \(3, 6, 6\)"),
        ({"regions": torch.full((2, 6, 6), 255)}, ValueError, "regions holds 255"),
        ({"regions": torch.ones(2, 6, 6) * torch.nan}, ValueError, "regions holds nan"),
        ({"regions": torch.ones(3, 4)}, ValueError, r"each sample, got 3 for 2\.$"),
        ({"regions": [[0, 0, 2, 2]] * 4}, ValueError, r"each sample, got 4 for 2\.$"),
        ({"regions": [0, 0, 2]}, ValueError, r"each sample, got 3 for 2\.$"),
        ({"regions": [0, 0, 2, 2]}, ValueError, r"a single box as \[\[x0, y0, x1, y1\]\]\.$"),
        ({"regions": torch.ones(4)}, ValueError, r"a single box as \[\[x0, y0, x1, y1\]\]\.$"),
        ({"regions": [torch.ones(1, 4, 4)] * 2}, ValueError, r"regions\[0\] has shape \(1, 4, 4\)"),
        ({"regions": torch.ones(2, 5)}, ValueError, r"regions\[0\] has shape"),
        ({"regions": "box"}, TypeError, "regions must be a tensor"),
        ({"regions": 3}, TypeError, "regions must be a tensor"),
        ({"regions": [["a"], []]}, TypeError, r"regions\[0\] must hold numbers"),
        (
            {"regions": [[[3, 1, 2.25, 5]], []]},
            ValueError,
            r"regions\[0\] has a box \(3\.0, 1\.0, 2\.2, 5\.0\), which ends before it starts",
        ),
        ({"regions": [[[1, 3, 2, 2]], []]}, ValueError, r"regions\[0\] .*ends before it starts"),
        ({"regions": [[[2, 1, 2, 5]], [[0, 2, 2, 2]]]}, ValueError, "of sample 0, 1 is empty"),
        ({"regions": [[[0, 0.2, 1, 1]], []]}, ValueError, "multiply relative coordinates"),
        ({"regions": [[[0, -1.1, 2, 2]], []]}, ValueError, "not in an image of height 6 and width"),
        ({"regions": [[[-1.1, 0, 2, 2]], []]}, ValueError, "not in an image of height 6 and width"),
        ({"regions": [[[0, 0, 2, 7.1]], []]}, ValueError, "not in an image of height 6 and width"),
        (
            {"regions": [[], [[0, 0, 9, 2]]]},
            ValueError,
            r"regions\[1\] .*pixels; .* pass size=",
        ),
        (
            {"regions": [[], [[0, 0, 9, 2]]], "size": (4, 4)},
            ValueError,
            r"regions\[1\] .*boxes are in its pixels\.$",
        ),
        ({"regions": [[], [[0, 0, torch.inf, 2]]]}, ValueError, "not finite"),
        (
            {"regions": torch.tensor([[[0, 0, 3, 3], [1, 1, 4, 4]]] * 2)},
            ValueError,
            r"Pass boxes \(N, boxes, 4\) as a list, list\(regions\)\.$",
        ),
        (
            {"regions": torch.full((2, 6, 4), 3), "attributions": torch.rand(2, 1, 3, 2)},
            ValueError,
            r"regions holds 3.* as a list, list\(regions\)\.$",
        ),
        *(
            ({"regions": masks}, ValueError, r"F\.interpolate\(.*, size\)\.$")  # no boxes
            for masks in (torch.ones(2, 3, 4).bool(), torch.ones(2, 3, 6), torch.ones(2, 1, 4, 6))
        ),
        ({"regions": [torch.ones(4)] * 4}, ValueError, r"each sample, got 4 for 2\.$"),
        ({"size": (6,), "regions": torch.ones(2, 4)}, ValueError, "size must be height and width"),
        ({"size": 6}, ValueError, "size must be height and width in pixels, got 6"),
        ({"size": 0}, ValueError, "size must be height and width in pixels, got 0"),
        ({"size": (6, 0)}, ValueError, r"size must be height and width in pixels, got \(6, 0\)"),
        ({"size": (6, 6.0)}, ValueError, r"size must be height and width in pixels, got \(6, 6.0"),
        ({"size": (6, True)}, ValueError, r"size must be height and width in pixels, got \(6, T"),
        ({"size": (8, 8)}, ValueError, r"regions has shape \(2, 6, 6\).*\(2, 8, 8\)"),
        ({"channel_dim": 0}, ValueError, "channel_dim must be"),
        ({"channel_dim": 4}, ValueError, "channel_dim must be"),
        ({"channel_dim": -4}, ValueError, "channel_dim must be"),
        ({"channel_reduce": "mean"}, ValueError, "channel_reduce must be"),
        ({"interpolate_mode": "linear"}, ValueError, "interpolate_mode must be"),
        ({"nan_policy": "propagate"}, ValueError, "nan_policy must be"),
    ],
)
def test_bad_input(metric, changes, error, message):
    arguments = {"attributions": torch.rand(2, 1, 6, 6), "regions": torch.ones(2, 6, 6)}
    with pytest.raises(error, match=message):
        metric(**arguments | changes)


@pytest.mark.parametrize("tolerance", [-1, float("nan"), float("inf")])
def test_a_tolerance_is_a_distance(tolerance):
    with pytest.raises(ValueError, match="tolerance must be 0 pixels or more"):
        pointing_game(HAND, LEFT, tolerance=tolerance)
    with pytest.raises(TypeError, match="tolerance must be a number"):
        pointing_game(HAND, LEFT, tolerance="15")


def test_k_is_a_number_of_places():
    with pytest.raises(ValueError, match="k is 13, but the maps have 12 pixels"):
        rank_accuracy(HAND, LEFT, k=13)
    with pytest.raises(ValueError, match="k must be a positive integer"):
        rank_accuracy(HAND, LEFT, k=0)


@every_metric
def test_nothing_is_changed(metric):
    maps = random(2, 3, 6, 6).requires_grad_()
    masks = random(2, 6, 6, seed=8) > 0
    before, state = (maps.detach().clone(), masks.clone()), torch.get_rng_state()
    assert not _numbers(metric, maps, masks).requires_grad
    assert torch.equal(maps, before[0])
    assert torch.equal(masks, before[1])
    assert torch.equal(torch.get_rng_state(), state)


def _exact(metric):
    return {"tolerance": 0} if metric is pointing_game else {}
