"""No command replaces files that it did not write."""

import pytest

from captum_tgrad.cli.main import main
from captum_tgrad.evaluation import OutputError, evaluate
from captum_tgrad.evaluation.storage.files import check_owner
from captum_tgrad.visualization import Report
from tests.evaluation.networks import dense_network, images

pytestmark = pytest.mark.usefixtures("undrawn")

FAST = {"n_steps": 8, "batch_size": 2}
COMMANDS = ("explain", "compare", "evaluate")


@pytest.mark.parametrize("writer", [*COMMANDS, "sanity-check"])
def test_a_report_belongs_to_the_command_that_wrote_it(tmp_path, writer):
    Report("A title", command=writer).write(tmp_path / "report.html")
    for command in COMMANDS:
        if command == writer:
            check_owner(tmp_path, command, ["report.html"])
            continue
        with pytest.raises(ValueError, match=f"has the results of captum-tgrad {writer}"):
            check_owner(tmp_path, command, ["report.html"])


@pytest.mark.parametrize("name", ["report.html", "summary.csv", "table.md"])
def test_an_evaluation_replaces_no_file_of_the_user(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(OutputError, match=rf"{name} would be overwritten.*use another folder"):
        evaluate(dense_network(), images(1), ["random"], tmp_path, **FAST)
    assert (tmp_path / name).read_text() == "mine"
    assert [each.name for each in tmp_path.iterdir()] == [name]


def test_an_evaluation_does_not_replace_the_report_of_another_command(tmp_path, capsys):
    Report("A comparison", command="compare").write(tmp_path / "report.html")
    before = (tmp_path / "report.html").read_bytes()
    arguments = ["evaluate", "--out", str(tmp_path), "--limit", "1", "--methods", "random"]
    assert main(arguments) == 2
    assert "has the results of captum-tgrad compare" in capsys.readouterr().err
    assert (tmp_path / "report.html").read_bytes() == before


@pytest.mark.filterwarnings("ignore:The baseline keeps")
def test_a_second_evaluation_replaces_its_own_results(tmp_path):
    model = dense_network()
    evaluate(model, images(1), ["random"], tmp_path, **FAST)
    found = evaluate(model, images(2), ["random"], tmp_path, resume=True, **FAST)
    assert found.summary["images"] == 2


@pytest.mark.parametrize("names", [["coffee.png"], ["coffee.npy"], ["coffee.png", "coffee.npy"]])
def test_explain_replaces_no_image_or_array_of_the_user(tmp_path, capsys, names):
    for name in names:
        (tmp_path / name).write_bytes(b"mine")
    assert main(["explain", "--out", str(tmp_path)]) == 2
    assert f"{names[0]} would be overwritten" in capsys.readouterr().err
    assert all((tmp_path / name).read_bytes() == b"mine" for name in names)


def test_sanity_check_replaces_no_file_of_the_user(tmp_path, capsys):
    (tmp_path / "t_grad-cascading.csv").write_text("mine")
    assert main(["sanity-check", "--out", str(tmp_path)]) == 2
    assert "t_grad-cascading.csv would be overwritten" in capsys.readouterr().err


def test_an_old_report_does_not_say_who_wrote_it(tmp_path):
    (tmp_path / "report.html").write_bytes(bytes(range(256)) * 8)
    with pytest.raises(ValueError, match="did not write it"):
        check_owner(tmp_path, "explain", ["report.html"])
