"""``sanity-check`` from the outside: its files, its numbers, and how it refuses."""

import csv

from PIL import Image

from captum_tgrad.cli.main import main
from captum_tgrad.zoo import sample_image


def test_sanity_check_the_sample(tmp_path, capsys):
    arguments = ["sanity-check", "--out", str(tmp_path), "--layers", "_fc,_conv_head"]
    assert main([*arguments, "--method", "saliency"]) == 0
    printed = capsys.readouterr().out
    assert [line.split()[0] for line in printed.splitlines()[1:4]] == [
        "(trained)",
        "_fc",
        "_conv_head",
    ]
    assert Image.open(tmp_path / "saliency-cascading.png").width > 1000
    with (tmp_path / "saliency-cascading.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["layer"] for row in rows] == ["", "_fc", "_conv_head"]
    assert float(rows[0]["spearman"]) == 1
    assert all(-1 <= float(row["ssim_absolute"]) < 1 for row in rows[1:])


def test_sanity_check_pictures_one_layer_at_a_time(tmp_path, capsys):
    for name in ("a.png", "b.png"):
        sample_image().save(tmp_path / name)
    arguments = ["sanity-check", str(tmp_path / "a.png"), str(tmp_path / "b.png")]
    arguments += ["--out", str(tmp_path / "out"), "--mode", "independent", "--layers", "_fc"]
    assert main([*arguments, "--target", "cup", "--columns", "2"]) == 0
    rows = (tmp_path / "out/t_grad-independent.csv").read_text(encoding="utf-8").splitlines()
    assert len(rows) == 1 + 2 * 2


def _refused(capsys, *arguments: str) -> str:
    assert main(["sanity-check", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("captum-tgrad: error: ")
    return line


def test_refuses_what_is_not_there(tmp_path, capsys):
    out = ["--out", str(tmp_path / "out")]
    assert "did you mean t_grad" in _refused(capsys, *out, "--method", "tgrad")
    assert "Did you mean '_fc'" in _refused(capsys, *out, "--layers", "_fb")
    assert "--columns must be 2 or more" in _refused(capsys, *out, "--columns", "1")
    assert "never calls the model" in _refused(capsys, *out, "--method", "random")
    assert not (tmp_path / "out").exists()
