"""Grid pointing game: by hand, against a slow reference, chosen images and bad input."""

import pytest
import torch
from captum.attr import InputXGradient, NoiseTunnel, Saliency
from torch import nn

from captum_tgrad import TGradAttribution
from captum_tgrad.metrics import grid_pointing_game
from tests.metrics.models import random
from tests.model_state import state_of


def one_logit_a_channel(images):
    return images.sum((2, 3))


# Ten images of five classes, two of each, of 4 x 6 pixels.
IMAGES = torch.eye(5).repeat(2, 1).reshape(10, 5, 1, 1).expand(-1, -1, 4, 6).double()


def _in_the_cell(images, targets):
    """A map that is 1 where the class of the target is, and 0 elsewhere."""
    every = torch.arange(len(images))
    return images[every, targets].unsqueeze(1)


def test_the_cell_itself_scores_1_and_the_others_0():
    found = grid_pointing_game(
        one_logit_a_channel,
        IMAGES,
        {
            "oracle": _in_the_cell,
            "opposite": lambda *given: 1 - _in_the_cell(*given),
            "against": lambda *given: -_in_the_cell(*given),
            "input x gradient": InputXGradient(one_logit_a_channel),
        },
        grid=2,
    )
    assert found["oracle"].grid_pointing_game.tolist() == [1, 1]
    assert found["oracle"].cells.shape == (2, 4)
    assert found["opposite"].grid_pointing_game.tolist() == [0, 0]
    assert found["against"].grid_pointing_game.tolist() == [0, 0]  # nothing above 0
    assert found["input x gradient"].grid_pointing_game.tolist() == [1, 1]


def test_by_hand():
    # 2 x 2 cells of one pixel: the map is 1, 2, 3, 4 whatever the class; -5 does not count.
    images = torch.eye(4).reshape(4, 4, 1, 1)
    maps = torch.tensor([[1.0, -5.0], [3.0, 4.0]])
    found = grid_pointing_game(
        one_logit_a_channel,
        images,
        lambda images, targets: maps.expand(len(images), 1, 2, 2),
        grid=2,
        confidence=0,
        max_examples_per_batch=3,
    )
    assert found.cells.tolist() == [pytest.approx([1 / 8, 0, 3 / 8, 4 / 8])]
    assert found.grid_pointing_game.tolist() == [0.25]
    assert found.chance.tolist() == [0.25]


def _literal(maps, grid):
    """Attribution-Evaluation's score of one grid, cell by cell."""
    height, width = maps.shape[1] // grid, maps.shape[2] // grid
    scores = []
    for at, one in enumerate(maps):
        inside = total = 0.0
        for row in range(maps.shape[1]):
            for column in range(maps.shape[2]):
                value = max(0.0, float(one[row, column]))
                total += value
                if (row // height, column // width) == (at // grid, at % grid):
                    inside += value
        scores.append(inside / total if total > 0 else 0.0)
    return scores


@pytest.mark.parametrize("grid", [1, 2, 3])
def test_is_the_literal_score_of_the_grids_that_it_names(grid):
    weights = nn.functional.normalize(random(30, 3, seed=4))
    inputs = random(60, 3, 4, 6) + 2 * random(60, 3, 1, 1, seed=1)

    def model(images):
        return torch.tanh(images).mean((2, 3)) @ weights.T

    method = TGradAttribution(model)
    found = grid_pointing_game(model, inputs, method, grid=grid, n_grids=2, confidence=0)
    assert found.cells.shape == (2, grid**2)
    assert found.chance.tolist() == [1 / grid**2] * 2
    for layout, targets, cells in zip(found.images, found.targets, found.cells, strict=True):
        assert torch.equal(model(inputs[layout]).argmax(1), targets)
        whole = torch.zeros(3, 4 * grid, 6 * grid).double()
        for at, image in enumerate(layout):
            row, column = 4 * (at // grid), 6 * (at % grid)
            whole[:, row : row + 4, column : column + 6] = inputs[image]
        maps = [method.attribute(whole[None], target=int(target)).sum(1)[0] for target in targets]
        assert cells.tolist() == pytest.approx(_literal(torch.stack(maps), grid), abs=1e-10)


def test_random_maps_score_the_chance_level():
    generator = torch.Generator().manual_seed(3)
    found = grid_pointing_game(
        one_logit_a_channel,
        IMAGES,
        lambda images, targets: torch.rand(len(images), 1, 8, 12, generator=generator),
        grid=2,
        n_grids=250,
    )
    assert abs(found.grid_pointing_game.mean() - 0.25) < 4 * found.cells.std() / 1000**0.5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_probabilities_of_half_precision_are_not_rounded(dtype):
    # exp(4.5) / (exp(4.5) + 4) = 0.957455, which is 0.957031 in bfloat16.
    arguments = (
        one_logit_a_channel,
        (4.5 * IMAGES[..., :1, :1]).to(dtype),
        lambda images, targets: images,
    )
    assert len(grid_pointing_game(*arguments, grid=2, confidence=0.95745).cells) == 2
    with pytest.raises(ValueError, match="0 of 10 inputs are classified confidently"):
        grid_pointing_game(*arguments, grid=2, confidence=0.95746)


def test_a_model_that_ends_in_a_softmax_is_as_confident():
    def model(images):
        return one_logit_a_channel(images).softmax(1)

    found = grid_pointing_game(model, IMAGES, _in_the_cell, grid=2)
    expected = grid_pointing_game(one_logit_a_channel, IMAGES, _in_the_cell, grid=2)
    assert torch.equal(found.images, expected.images)


def test_probabilities_whose_rounded_sum_is_not_1():
    images = 7.035 * torch.eye(40).reshape(40, 40, 1, 1)

    def model(images):
        return one_logit_a_channel(images).softmax(1).bfloat16()

    assert (model(images).double().sum(1) - 1).abs().max() > 1e-3
    found = grid_pointing_game(model, images, _in_the_cell, grid=2, confidence=0.9)
    assert found.cells.shape == (10, 4)


def test_coarse_maps_are_enlarged():
    found = grid_pointing_game(
        one_logit_a_channel,
        IMAGES,
        lambda images, targets: torch.ones(len(images), 1, 2, 2),
        grid=2,
    )
    assert found.cells.flatten().tolist() == pytest.approx([0.25] * 8)


def test_images_are_of_different_classes_and_in_one_grid_at_most():
    options = {"grid": 2, "confidence": 0.5}
    found = grid_pointing_game(one_logit_a_channel, IMAGES, _in_the_cell, **options)
    assert len(found.images.flatten().unique()) == 8
    for targets in found.targets:
        assert len(targets.unique()) == 4
    again = grid_pointing_game(one_logit_a_channel, IMAGES, _in_the_cell, **options)
    assert torch.equal(again.images, found.images)
    other = grid_pointing_game(one_logit_a_channel, IMAGES, _in_the_cell, seed=1, **options)
    assert not torch.equal(other.images, found.images)
    many = grid_pointing_game(one_logit_a_channel, IMAGES, _in_the_cell, n_grids=10, **options)
    counts = many.images.flatten().bincount(minlength=10)
    assert counts.tolist() == [4] * 10  # 40 cells, the least used images first


@pytest.mark.parametrize(
    "counts", [[4, 1, 1, 1, 1], [3, 3, 2, 2, 2], [5, 4, 3, 2, 1], [7, 2, 2, 2]]
)
def test_there_are_as_many_grids_as_can_be_made_of_other_images(counts):
    classes = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    images = torch.eye(len(counts))[classes].reshape(*classes.shape, -1, 1, 1)
    # The most grids g for which the classes, each at most once in a grid, fill all four cells.
    most = max(g for g in range(9) if sum(min(count, g) for count in counts) >= 4 * g)
    for seed in range(20):
        found = grid_pointing_game(
            lambda x: 50 * x.sum((2, 3)), images, _in_the_cell, grid=2, seed=seed, confidence=1
        )
        assert len(found.images) == most
        assert len(found.images.unique()) == 4 * most


def test_only_confident_images_of_the_class_that_is_given():
    weaker = IMAGES.clone()
    weaker[:5] *= 0.05  # a logit of 1.2: 45%
    found = grid_pointing_game(one_logit_a_channel, weaker, _in_the_cell, grid=2)
    assert found.images.min() >= 5
    target = torch.arange(5).repeat(2)
    target[6] = 0  # a wrong label
    found = grid_pointing_game(one_logit_a_channel, weaker, _in_the_cell, target, grid=2)
    assert set(found.images.flatten().tolist()) == {5, 7, 8, 9}
    found = grid_pointing_game(one_logit_a_channel, IMAGES, _in_the_cell, 3, grid=1)
    assert sorted(found.images.flatten().tolist()) == [3, 8]
    found = grid_pointing_game(one_logit_a_channel, IMAGES, _in_the_cell, -2, grid=1)
    assert sorted(found.images.flatten().tolist()) == [3, 8]
    assert found.targets.flatten().tolist() == [3, 3]


def test_what_a_method_draws_follows_from_the_seed_and_nothing_else_changes():
    method = NoiseTunnel(InputXGradient(one_logit_a_channel))
    state, images = torch.get_rng_state(), IMAGES.clone()
    first = grid_pointing_game(one_logit_a_channel, images, method, grid=2)
    torch.rand(3)
    again = torch.get_rng_state()
    second = grid_pointing_game(one_logit_a_channel, images, method, grid=2)
    assert torch.equal(first.cells, second.cells)
    assert torch.equal(torch.get_rng_state(), again)
    assert not torch.equal(state, again)
    assert torch.equal(images, IMAGES)


def test_a_model_and_a_method_may_write_into_their_images():
    def model(images):
        logits = one_logit_a_channel(images)
        images.zero_()
        return logits

    def method(images, targets):
        attributions = _in_the_cell(images, targets).clone()
        images.zero_()
        return attributions

    images = IMAGES.clone()
    found = grid_pointing_game(model, images, method, grid=2)
    assert found.grid_pointing_game.tolist() == [1, 1]
    assert torch.equal(images, IMAGES)


def test_huge_and_tiny_attributions_have_the_same_shares():
    for factor in (1e-44, 1e37):  # the sum of a map is beyond float32, its values are not
        found = grid_pointing_game(
            one_logit_a_channel,
            IMAGES,
            lambda images, targets: torch.ones(len(images), 1, 8, 12) * factor,  # noqa: B023
            grid=2,
        )
        assert found.cells.flatten().tolist() == pytest.approx([0.25] * 8)


def test_a_model_in_training_mode_is_warned_of_and_not_changed():
    model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(5)).double()
    before = state_of(model)
    with pytest.warns(UserWarning, match=r"in training mode.* In training mode: 2\.$"):
        grid_pointing_game(model, IMAGES, _in_the_cell, grid=2, confidence=0)
    assert state_of(model) == before


@pytest.mark.parametrize("broken", [float("inf"), -float("inf"), float("nan")])
def test_omitted_cells_are_nan(broken):
    def method(images, targets):
        maps = _in_the_cell(images, targets)
        return maps.masked_fill((targets == 2)[:, None, None, None], broken)

    message = r"the result of methods holds NaN or inf in a cell of grid 0.*NaN for these cells"
    with pytest.raises(ValueError, match=message):
        grid_pointing_game(one_logit_a_channel, IMAGES, method, grid=2)
    found = grid_pointing_game(
        one_logit_a_channel, IMAGES, method, grid=2, n_grids=8, nan_policy="omit"
    )
    assert torch.equal(found.cells.isnan(), found.targets == 2)
    assert found.grid_pointing_game.tolist() == [1] * 8


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"grid": 0}, ValueError, "grid must be a positive integer"),
        (
            {"grid": 3},
            ValueError,
            "10 of 10 inputs are classified confidently, of 5 classes; a grid needs 9",
        ),
        ({"confidence": 1.1}, ValueError, "confidence must be a probability"),
        ({"confidence": "2"}, TypeError, "confidence must be a number, got str"),
        ({"seed": "x"}, TypeError, "seed must be an integer of 0 or more, got str"),
        ({"seed": -1}, ValueError, "seed must be an integer of 0 or more, got -1"),
        ({"n_grids": 0}, ValueError, "n_grids must be a positive integer"),
        ({"grid": None}, TypeError, "grid must be a positive integer, got NoneType"),
        ({"max_examples_per_batch": None}, TypeError, "max_examples_per_batch must be a positive"),
        ({"max_examples_per_batch": 0}, ValueError, "max_examples_per_batch"),
        ({"inputs": torch.ones(2, 3)}, ValueError, "inputs must be images"),
        ({"inputs": (IMAGES, IMAGES)}, ValueError, "inputs must be one tensor"),
        ({"forward_func": lambda x: x}, ValueError, r"logits \(N, classes\), got"),
        ({"forward_func": "model"}, TypeError, "forward_func must be"),
        ({"methods": "saliency"}, TypeError, "methods must be a Captum attribution"),
        ({"methods": Saliency}, TypeError, r"methods is a class: construct it, as in Saliency"),
        ({"methods": {}}, ValueError, "empty dict"),
        ({"methods": {"a": 3}}, TypeError, r"methods\['a'\] must be a Captum attribution"),
        ({"methods": lambda x, t: 3}, TypeError, "the result of methods must be a torch.Tensor"),
        ({"methods": lambda x, t: x[:, :, :2]}, ValueError, "the result of methods of shape"),
        ({"target": [0, 1]}, ValueError, "one target per sample, got 2 for 10"),
        ({"target": (1, 2)}, ValueError, r"target \(1, 2\) has 2 indices"),
        ({"target": [(1, 2)] * 10}, ValueError, r"target \(1, 2\) has 2 indices"),
        ({"target": 99}, ValueError, "target 99 is out of range"),
        ({"target": -6}, ValueError, "target -6 is out of range"),
        ({"channel_reduce": "mean"}, ValueError, "channel_reduce must be"),
        ({"nan_policy": "propagate"}, ValueError, "nan_policy must be"),
    ],
)
def test_bad_input(changes, error, message):
    arguments = {
        "forward_func": one_logit_a_channel,
        "inputs": IMAGES,
        "methods": _in_the_cell,
        "grid": 2,
    }
    with pytest.raises(error, match=message):
        grid_pointing_game(**arguments | changes)
