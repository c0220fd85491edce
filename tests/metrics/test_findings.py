"""Warnings, once per call and at the line of the call."""

import warnings

import pytest
import torch
from torch import nn

from captum_tgrad._support.untouched import training_modules
from captum_tgrad.metrics import average_drop, deletion, insertion, insertion_deletion
from tests.metrics.models import linear, permutation, random

INPUTS = torch.ones(3, 1, 6, 6).double()
MAPS = permutation(3, 1, 6, 6)
MODEL = linear(torch.ones(36))
CURVES = [insertion_deletion, insertion, deletion]


def _warned(metric, *args, **options):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        metric(*args, **options)
    assert all(each.filename == __file__ for each in caught)
    assert all(each.category is UserWarning for each in caught)
    return [str(each.message) for each in caught]


@pytest.mark.parametrize("metric", [*CURVES, average_drop])
def test_no_warning(metric):
    assert _warned(metric, MODEL, INPUTS, MAPS, 0) == []


@pytest.mark.parametrize("metric", CURVES)
def test_more_than_a_quarter_tied(metric):
    maps = MAPS.clone()
    maps[1] = maps[1].clamp_min(9)  # ten of 36 are 9
    maps[2] = maps[2].clamp_min(8)  # nine of 36: a quarter
    (message,) = _warned(metric, MODEL, INPUTS, {"a": MAPS, "b": maps}, 0, n_steps=12)
    assert "ties='group'" in message
    assert message.endswith("Tied: attributions['b'], sample 1 (up to 28%).")
    assert _warned(metric, MODEL, INPUTS, maps, 0, n_steps=12, ties="group") == []
    # In as few steps, the tied pixels go in one: their order does not show.
    assert _warned(metric, MODEL, INPUTS, maps, 0, n_steps=3) == []


def test_an_enlarged_map_is_no_reason_to_warn():
    # Linear enlargement repeats the border: at 7 -> 224, 27 % of the pixels share their value.
    maps, inputs = random(1, 1, 7, 7), torch.ones(1, 1, 224, 224).double()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = insertion(lambda x: x.mean((1, 2, 3)), inputs, maps, 0)
    assert result.tied_share.item() == pytest.approx(1 - (192 / 224) ** 2)


@pytest.mark.parametrize("metric", CURVES)
def test_a_constant_map(metric):
    maps = MAPS.clone()
    maps[0], maps[2] = 0, 5
    (message,) = _warned(metric, MODEL, INPUTS, maps, 0)
    assert message.endswith("raster order. Constant: attributions, sample 0, 2.")
    (message,) = _warned(metric, MODEL, INPUTS, maps, 0, ties="group")
    assert message.endswith("straight lines. Constant: attributions, sample 0, 2.")


@pytest.mark.parametrize("ties", ["stable", "group"])
def test_one_feature_is_no_constant_map(ties):
    model = linear([3.0])
    assert _warned(insertion, model, torch.ones(1, 1), torch.ones(1, 1), ties=ties) == []


@pytest.mark.parametrize("metric", CURVES)
def test_a_baseline_that_keeps_half(metric):
    baseline = torch.tensor([0.49, 0.5, 0.7]).double().reshape(3, 1, 1, 1).expand(3, 1, 6, 6)
    (message,) = _warned(metric, lambda x: MODEL(x) / 100, INPUTS, MAPS, baseline)
    name = "deletion" if metric is deletion else "insertion"
    assert message.endswith(f"Affected: {name}, sample 1, 2.")
    assert _warned(metric, MODEL, 0 * INPUTS, MAPS, 0) == []  # there is nothing to keep


def test_each_baseline_that_keeps_half():
    (message,) = _warned(
        insertion_deletion, MODEL, INPUTS, MAPS, {"insertion": 0.6, "deletion": 0.7}
    )
    assert message.count("sample 0, 1, 2") == 2


@pytest.mark.parametrize("metric", [*CURVES, average_drop])
def test_training_mode(metric):
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.0), nn.Linear(36, 1)).double()
    nn.init.ones_(model[2].weight)
    (message,) = _warned(metric, model, INPUTS, MAPS, 0)
    assert message.startswith("forward_func is in training mode")
    assert message.endswith("In training mode: 1.")
    model[1].eval()  # the other layers do the same in both
    assert _warned(metric, model, INPUTS, MAPS, 0) == []


def test_a_module_of_the_users_own_may_mind_its_mode():
    class Own(nn.Module):
        def forward(self, x):
            return x.flatten(1).sum(1)

    (message,) = _warned(insertion, Own(), INPUTS, MAPS, 0)
    assert message.endswith("In training mode: Own.")


def test_progress(capsys):
    insertion_deletion(MODEL, INPUTS, MAPS, 0, n_steps=4, show_progress=True)
    shown = capsys.readouterr().err
    assert "insertion and deletion: 100%" in shown
    assert "24/24" in shown  # 3 samples: clean, baseline, twice three points
    tied = MAPS.clamp_max(20)
    insertion_deletion(MODEL, INPUTS, tied, 0, n_steps=9, ties="group", show_progress=True)
    assert "54/54" in capsys.readouterr().err  # though a group takes no scores
    average_drop(MODEL, INPUTS, MAPS, show_progress=True)
    assert "average_drop: 100%" in capsys.readouterr().err
    insertion_deletion(MODEL, INPUTS, MAPS, 0, n_steps=4)
    assert capsys.readouterr().err == ""


@pytest.mark.filterwarnings("ignore")  # of torch, for forms of models that it will replace
@pytest.mark.parametrize(
    "convert",
    [
        lambda model: torch.export.export(model, (INPUTS.float(),)).module(),
        torch.ao.quantization.quantize_dynamic,
        lambda model: torch.jit.freeze(torch.jit.script(model)),
    ],
    ids=["exported", "quantized", "frozen"],
)
def test_converted_models_in_evaluation_mode_are_not_called_training(convert):
    model = nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(36, 1)).eval()
    assert training_modules(convert(model)) == []
