"""``compare`` from the outside: its files, what it prints, and how it refuses."""

import json
import re

import pytest
from PIL import Image

from captum_tgrad.cli.main import main
from captum_tgrad.zoo import load_classifier, sample_image
from tests.cli.helpers import refused

FEW = ["--methods", "t_grad,grad_cam,random", "--n-steps", "4"]


def test_compare_the_sample(tmp_path, capsys):
    assert main(["compare", "--out", str(tmp_path / "new" / "out"), *FEW]) == 0
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert re.match(r"efficientnet_lite0, espresso \(967\), probability 9\d\.\d%\. \*", lines[0])
    assert max(map(len, lines)) <= 100
    assert "One image is too few to rank methods" in printed.out
    assert "n_steps" not in printed.out
    assert " ".join(printed.out.split()).endswith("methods.png, curves.png, table.md, report.html")
    table = (tmp_path / "new/out/table.md").read_text(encoding="utf-8")
    assert [line.split(" | ")[0] for line in table.splitlines() if line.startswith("| ")] == [
        "| Method",
        "| T-Grad",
        "| Grad-CAM",
        "| Random",
    ]
    for name in ("methods.png", "curves.png"):
        assert Image.open(tmp_path / "new/out" / name).width > 700
    assert "<title>3 methods on one image</title>" in (tmp_path / "new/out/report.html").read_text(
        encoding="utf-8"
    )


@pytest.mark.usefixtures("undrawn")
def test_compare_a_picture_for_a_class_with_a_method_from_a_file(tmp_path, capsys):
    sample_image().save(tmp_path / "cup.jpg")
    (tmp_path / "more.toml").write_text(
        '[missing]\nclass = "captum.attr.LayerGradCam"\nlayer = "nowhere"\n'
    )
    arguments = ["compare", str(tmp_path / "cup.jpg"), "--out", str(tmp_path), "--n-steps", "2"]
    arguments += ["--config", str(tmp_path / "more.toml"), "--target", "coffee mug"]
    assert main([*arguments, "--methods", "random,missing"]) == 1
    printed = capsys.readouterr()
    assert "skipped: missing: " in printed.err
    assert "coffee mug (504)" in printed.out
    assert printed.out.endswith("report.html\n")
    assert main([*arguments, "--methods", "random"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert printed.endswith("table.md (replaced), report.html (replaced)")
    assert main([*arguments, "--methods", "random,missing"]) == 1
    assert "| missing | ValueError: " in (tmp_path / "table.md").read_text(encoding="utf-8")


def test_refuses_what_is_not_there(tmp_path, capsys):
    out = ["--out", str(tmp_path / "out")]
    assert "did you mean t_grad" in refused(capsys, "compare", *out, "--methods", "tgrad")
    picture = tmp_path / "curves.png"
    sample_image().save(picture)
    line = refused(capsys, "compare", str(picture), "--out", str(tmp_path), *FEW)
    assert "curves.png would overwrite an image" in line
    assert "--methods is empty" in refused(capsys, "compare", *out, "--methods", ",")
    assert "not found: pass the path" in refused(
        capsys, "compare", str(tmp_path / "absent.png"), *out
    )
    assert "did you mean espresso" in refused(capsys, "compare", *out, *FEW, "--target", "expresso")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["compare", "evaluate"])
def test_a_method_by_name_and_title_is_one_method(tmp_path, capsys, command):
    arguments = [command, "--out", str(tmp_path), "--n-steps", "2", "--json"]
    arguments += ["--limit", "1"] if command == "evaluate" else []
    assert main([*arguments, "--methods", "random, Random,random"]) == 0
    assert list(json.loads(capsys.readouterr().out)["methods"]) == ["random"]


def test_methods_that_cannot_run_are_no_fault_of_the_program(tmp_path, capsys):
    (tmp_path / "more.toml").write_text(
        '[missing]\nclass = "captum.attr.LayerGradCam"\nlayer = "nowhere"\n'
    )
    arguments = ["--out", str(tmp_path / "out"), "--config", str(tmp_path / "more.toml")]
    line = refused(capsys, "compare", *arguments, "--methods", "missing")
    assert "none of the methods can run: missing: ValueError: layer" in line


@pytest.mark.slow
def test_compare_every_method(tmp_path):
    assert main(["compare", "--out", str(tmp_path), "--n-steps", "8"]) == 0
    table = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert table.count("\n| ") == 13
    assert load_classifier().name in table
