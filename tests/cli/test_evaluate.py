"""The command from the outside: its files, what it prints, its exit status, and how it refuses."""

import json
import shutil

import pytest
from PIL import Image

from captum_tgrad.cli.main import main
from captum_tgrad.evaluation import METHODS
from tests.cli.helpers import refused, use_tiny_model
from tests.evaluation.networks import images

pytestmark = pytest.mark.filterwarnings("ignore:(The baseline keeps|More than a quarter|Constant)")


@pytest.fixture(autouse=True)
def _tiny_model(monkeypatch):
    use_tiny_model(monkeypatch)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "pictures").mkdir()
    for number, picture in enumerate(images(3).clamp(0, 1)):
        pixels = (255 * picture.permute(1, 2, 0)).byte().numpy()
        Image.fromarray(pixels).save(tmp_path / "pictures" / f"{number}.png")
    return tmp_path / "pictures"


def _arguments(folder, out, *further):
    return ["evaluate", str(folder), "--out", str(out), "--n-steps", "4", *further]


def _run(*arguments):
    return main(_arguments(*arguments))


def _records(out):
    return [json.loads(line) for line in (out / "records.jsonl").read_text().splitlines()]


def test_evaluate_a_folder(tmp_path, folder, capsys):
    out = tmp_path / "out"
    assert _run(folder, out, "--methods", "t_grad, random", "--limit", "2") == 0
    pairs = sorted((record["image"], record["method"]) for record in _records(out))
    names = ["random", "t_grad"]
    assert pairs == [(image, name) for image in ("0.png", "1.png") for name in names]
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert printed.out.replace("\n", " ").startswith(
        f"tiny, 2 methods on 2 images of {folder.name}: means. * marks the best; arrows show the"
        " better direction. "
    )
    assert max(map(len, lines)) <= 100
    assert [line.split()[0] for line in lines if line[:2] in ("T-", "Ra")] == ["T-Grad", "Random"]
    assert "2 images are too few to rank methods" in printed.out
    written = "report.html, table.md, summary.json, summary.csv, metrics.png, seconds.png"
    assert " ".join(printed.out.split()).endswith(f"written to {out}: {written}")
    assert "n_steps" not in printed.out  # the protocol stands in the files
    assert "n_steps: 4" in (out / "table.md").read_text()
    for name in ("summary.json", "summary.csv", "metrics.png", "seconds.png", "report.html"):
        assert (out / name).stat().st_size > 0


@pytest.mark.usefixtures("undrawn")
def test_the_examples_of_the_help_work_one_after_the_other(tmp_path, folder, capsys, monkeypatch):
    with pytest.raises(SystemExit):
        main(["evaluate", "--help"])
    examples = capsys.readouterr().out.split("examples:")[1].strip().splitlines()
    monkeypatch.chdir(tmp_path)
    folder.rename("photos")
    # Only the time is short: the first example has all methods.
    for line, further in zip(examples, (["--methods", "random"], []), strict=True):
        assert main([*line.split()[1:], *further]) == 0


def test_json_is_the_summary_and_quiet_is_silent(tmp_path, folder, capsys):
    few = ["--methods", "random", "--limit", "1"]
    assert _run(folder, tmp_path / "out", *few, "--json") == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out) == json.loads((tmp_path / "out/summary.json").read_text())
    assert printed.err == ""
    assert _run(folder, tmp_path / "quiet", *few, "--quiet") == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.usefixtures("undrawn")
def test_all_methods_and_those_of_a_file(tmp_path, folder):
    (tmp_path / "more.toml").write_text('[lrp]\nclass = "captum.attr.Deconvolution"\n')
    out = tmp_path / "out"
    further = ["--config", str(tmp_path / "more.toml"), "--limit", "1"]
    assert _run(folder, out, *further) == 0
    assert [record["method"] for record in _records(out)] == [*METHODS, "lrp"]


@pytest.mark.usefixtures("undrawn")
def test_labels_are_the_targets_if_asked(tmp_path, folder):
    (tmp_path / "labels.csv").write_text("0.png,3\n1.png,1\n2.png,class 0\n")
    further = ["--methods", "random", "--labels", str(tmp_path / "labels.csv")]
    assert _run(folder, tmp_path / "out", *further, "--target", "label") == 0
    targets = {record["image"]: record["target"] for record in _records(tmp_path / "out")}
    assert targets == {"0.png": 3, "1.png": 1, "2.png": 0}


@pytest.mark.usefixtures("undrawn")
def test_boxes_add_columns(tmp_path, folder, capsys):
    (tmp_path / "boxes.csv").write_text("file,boxes\n0.png,0 0 16 8\n1.png,2 2 9 9;1 1 4 4\n")
    further = ["--methods", "random", "--boxes", str(tmp_path / "boxes.csv"), "--limit", "2"]
    assert _run(folder, tmp_path / "out", *further) == 0
    energies = [record["energy_in_mask"] for record in _records(tmp_path / "out")]
    assert all(0 < energy < 1 for energy in energies)
    printed = " ".join(capsys.readouterr().out.split())
    assert "Mass Rank" in printed
    assert "Pointing Game" in (tmp_path / "out/table.md").read_text()
    (tmp_path / "boxes.csv").write_text("0.png,0 0 16 9\n1.png,2 2 9 9;1 1 4 4\n")
    line = _refused(capsys, folder, tmp_path / "out", *further, "--resume")
    assert "the region of 0.png has changed" in line
    assert "not found: pass a CSV file" in _refused(
        capsys, folder, tmp_path / "new", "--boxes", str(tmp_path / "absent")
    )


@pytest.mark.usefixtures("undrawn")
def test_other_labels_are_not_mixed_in(tmp_path, folder, capsys):
    further = ["--methods", "random", "--labels", str(tmp_path / "labels.csv")]
    further += ["--target", "label", "--limit", "2"]
    (tmp_path / "labels.csv").write_text("0.png,3\n1.png,1\n")
    assert _run(folder, tmp_path / "out", *further) == 0
    (tmp_path / "labels.csv").write_text("0.png,3\n1.png,2\n")
    capsys.readouterr()
    line = _refused(capsys, folder, tmp_path / "out", *further, "--resume")
    assert "the label of 1.png has changed from 1 to 2" in line


def test_the_built_in_pictures_need_no_name(tmp_path):
    arguments = ["--out", str(tmp_path), "--methods", "random", "--limit", "1", "--n-steps", "2"]
    assert main(["evaluate", *arguments]) == 0
    assert _records(tmp_path)[0]["image"] == "imagenet_00_243.jpg"


@pytest.mark.usefixtures("undrawn")
def test_the_exit_status_says_that_something_was_skipped(tmp_path, folder, capsys):
    (folder / "1.png").write_bytes((folder / "1.png").read_bytes()[:90])
    assert _run(folder, tmp_path / "out", "--methods", "random") == 1
    assert "skipped: 1.png: " in capsys.readouterr().err
    assert len(_records(tmp_path / "out")) == 2
    # The image is mended.
    Image.new("RGB", (9, 9)).save(folder / "1.png")
    assert _run(folder, tmp_path / "out", "--methods", "random", "--resume") == 0
    assert {record["image"] for record in _records(tmp_path / "out")} == {"0.png", "1.png", "2.png"}


def test_one_reason_of_many_images_is_one_line(tmp_path, folder, capsys):
    file = tmp_path / "shap.toml"
    file.write_text('[shap]\nclass = "captum.attr.GradientShap"\n')
    options = ["--methods", "random,shap", "--config", str(file)]
    assert _run(folder, tmp_path / "out", *options) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("skipped: 0.png, shap and 2 more: TypeError: GradientShap")


def _refused(capsys, *arguments):
    return refused(capsys, *_arguments(*arguments))


@pytest.mark.usefixtures("undrawn")
def test_results_are_not_mixed(tmp_path, folder, capsys):
    out = tmp_path / "out"
    _run(folder, out, "--methods", "random")
    capsys.readouterr()
    before = (out / "records.jsonl").read_bytes()
    assert "there are records in" in _refused(capsys, folder, out, "--methods", "random")
    other = tmp_path / "other" / "pictures"
    shutil.copytree(folder, other)
    (other / "0.png").write_bytes((folder / "1.png").read_bytes())
    line = _refused(capsys, other, out, "--methods", "random", "--resume")
    assert "0.png has changed since its records were written" in line
    line = _refused(capsys, folder, out, "--methods", "random", "--resume", "--ties", "group")
    assert "ties was 'stable', is 'group'" in line
    assert (out / "records.jsonl").read_bytes() == before


@pytest.mark.usefixtures("undrawn")
def test_a_folder_that_was_renamed_and_has_another_first_image_goes_on(tmp_path, folder):
    assert _run(folder, tmp_path / "out", "--methods", "random") == 0
    other = tmp_path / "renamed"
    folder.rename(other)
    shutil.copy(other / "2.png", other / "00.png")
    assert _run(other, tmp_path / "out", "--methods", "random", "--resume") == 0
    found = {record["image"] for record in _records(tmp_path / "out")}
    assert found == {"00.png", "0.png", "1.png", "2.png"}


@pytest.mark.usefixtures("undrawn")
def test_results_are_not_written_to_a_folder_with_images(tmp_path, folder, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for out in (folder, folder.name):  # also by a relative path
        line = _refused(capsys, folder, out, "--methods", "random")
        assert f"--out {out} has images to evaluate" in line
    classes = tmp_path / "classes"
    folder.rename(tmp_path / "class 0")
    classes.mkdir()
    (tmp_path / "class 0").rename(classes / "class 0")
    assert "--out" in _refused(capsys, classes, classes / "class 0", "--methods", "random")
    # Folders in and above those with images do no harm.
    for out in (classes / "results", classes):
        for further in ([], ["--resume"]):
            assert _run(classes, out, "--methods", "random", *further) == 0


def test_refuses_what_is_not_there(tmp_path, folder, capsys):
    out = tmp_path / "out"
    assert "did you mean t_grad" in _refused(capsys, folder, out, "--methods", "tgrad")
    assert "--methods is empty" in _refused(capsys, folder, out, "--methods", ",")
    assert "pass a folder of images" in _refused(capsys, tmp_path / "absent", out)
    assert "not found: pass a TOML file" in _refused(capsys, folder, out, "--config", "absent")
    assert "no image has a label" in _refused(capsys, folder, out, "--target", "label")
    assert "built-in ones have labels" in _refused(capsys, "built-in", out, "--labels", "x")
    assert "is not available" in _refused(capsys, folder, out, "--device", "toaster")
    assert not out.exists()
    out.write_text("")
    assert "is a file" in _refused(capsys, folder, out)


def test_a_full_disk_says_how_to_go_on(tmp_path, folder, capsys, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("captum_tgrad.evaluation.storage.json_lines.os.write", full)
    line = _refused(capsys, folder, tmp_path / "out", "--methods", "random")
    assert "records.jsonl cannot be written (No space left on device): free some space" in line
    monkeypatch.undo()
    use_tiny_model(monkeypatch)
    # With records, there is something to go on with.
    _run(folder, tmp_path / "out", "--methods", "random")
    monkeypatch.setattr("captum_tgrad.evaluation.storage.json_lines.os.write", full)
    capsys.readouterr()
    line = _refused(capsys, folder, tmp_path / "out", "--methods", "random,saliency", "--resume")
    assert "continue with the same command and --resume" in line
