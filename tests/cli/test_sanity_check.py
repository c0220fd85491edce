"""``sanity-check`` from the outside: its files, its numbers, and how it refuses."""

import csv
import json
import sys
from typing import get_args

import pytest
import torch
from PIL import Image

from captum_tgrad.cli import sanity_check_command as command
from captum_tgrad.cli.main import main
from captum_tgrad.sanity_checks import cascading_randomization
from captum_tgrad.sanity_checks.cascade import Mode
from captum_tgrad.zoo import sample_image
from tests.cli.helpers import refused
from tests.evaluation.networks import classifier, network


def test_sanity_check_the_sample(tmp_path, capsys):
    arguments = ["sanity-check", "--out", str(tmp_path), "--layers", "_fc,_conv_head"]
    assert main([*arguments, "--method", "saliency"]) == 0
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    assert [line.split()[0] for line in lines[1:5]] == [
        "Randomized",
        "(trained)",
        "_fc",
        "_conv_head",
    ]
    assert max(map(len, lines)) <= 100
    page = (tmp_path / "saliency-cascading.html").read_text(encoding="utf-8")
    assert "Vanilla Gradient under parameter randomization" in page
    assert "Curves that stay near 1 mean" in page
    assert "this is not the full test" in page
    assert " ".join(printed.split()).endswith(
        "saliency-cascading.html, saliency-cascading.png, saliency-cascading.csv"
    )
    assert Image.open(tmp_path / "saliency-cascading.png").width > 1000
    with (tmp_path / "saliency-cascading.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["layer"] for row in rows] == ["", "_fc", "_conv_head"]
    assert float(rows[0]["spearman"]) == 1
    assert all(-1 <= float(row["ssim_absolute"]) < 1 for row in rows[1:])


@pytest.mark.usefixtures("undrawn")
def test_sanity_check_pictures_one_layer_at_a_time(tmp_path, capsys):
    for name in ("a.png", "b.png"):
        sample_image().save(tmp_path / name)
    arguments = ["sanity-check", str(tmp_path / "a.png"), str(tmp_path / "b.png")]
    arguments += ["--out", str(tmp_path / "out"), "--mode", "independent", "--layers", "_fc"]
    assert main([*arguments, "--target", "cup", "--columns", "2"]) == 0
    rows = (tmp_path / "out/t_grad-independent.csv").read_text(encoding="utf-8").splitlines()
    assert len(rows) == 1 + 2 * 2
    capsys.readouterr()
    assert main([*arguments, "--target", "cup", "--columns", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["images"] == arguments[1:3]
    assert [step["layer"] for step in found["steps"]] == [None, "_fc"]
    assert found["steps"][0]["spearman"] == pytest.approx([1, 1])


def test_refuses_what_is_not_there(tmp_path, capsys):
    out = ["--out", str(tmp_path / "out")]
    assert "did you mean t_grad" in refused(capsys, "sanity-check", *out, "--method", "tgrad")
    assert "did you mean '_fc'" in refused(capsys, "sanity-check", *out, "--layers", "_fb")
    assert "--columns must be 2 or more" in refused(capsys, "sanity-check", *out, "--columns", "1")
    assert "never calls the model" in refused(capsys, "sanity-check", *out, "--method", "random")
    assert not (tmp_path / "out").exists()


@pytest.fixture
def _tiny_model(monkeypatch):
    model = torch.nn.Sequential(torch.nn.ReLU(inplace=True), network()).eval()
    monkeypatch.setattr(command, "load_for", lambda options: classifier(model))


@pytest.mark.usefixtures("_tiny_model")
def test_a_model_that_overwrites_its_input_is_given_the_picture(tmp_path, monkeypatch):
    given = []

    def listen(model, factory, inputs, *args, **kwargs):
        given.append(inputs.clone())
        return cascading_randomization(model, factory, inputs, *args, **kwargs)

    monkeypatch.setattr(command, "cascading_randomization", listen)
    assert main(["sanity-check", "--out", str(tmp_path)]) == 0
    assert torch.equal(given[0][0], classifier().preprocess(sample_image()))
    assert bool((given[0] < 0).any())


@pytest.mark.usefixtures("_tiny_model")
@pytest.mark.usefixtures("undrawn")
def test_every_mode_randomizes_in_its_order(tmp_path, capsys):
    orders = {}
    for mode in get_args(Mode):
        assert main(["sanity-check", "--out", str(tmp_path), "--mode", mode, "--json"]) == 0
        steps = json.loads(capsys.readouterr().out)["steps"]
        orders[mode] = [step["layer"] for step in steps[1:]]
    assert orders["bottom_up"] == orders["cascading"][::-1] == orders["independent"][::-1]
    assert main(["sanity-check", "--out", str(tmp_path), "--mode", "bottom_up"]) == 0
    assert "not the full test" not in capsys.readouterr().out


@pytest.mark.usefixtures("_tiny_model")
def test_refuses_where_the_extra_is_missing(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "skimage.metrics", None)
    line = refused(capsys, "sanity-check", "--out", str(tmp_path))
    assert 'pip install ".[sanity]"' in line
