"""What the tests of several commands do."""

from captum_tgrad.cli import resolve
from captum_tgrad.cli.main import main
from tests.evaluation.networks import classifier


def refused(capsys, *arguments: str) -> str:
    """Runs a command that has to fail; returns the one line that it says."""
    assert main(list(arguments)) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert line.startswith("captum-tgrad: error: ")
    return line


def use_tiny_model(monkeypatch) -> None:
    """Commands load a tiny network instead of the named one."""
    monkeypatch.setattr(resolve, "load_classifier", lambda *arguments, **options: classifier())
