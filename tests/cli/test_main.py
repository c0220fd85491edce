"""Parsing, and what starting the command costs."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import captum_tgrad
from captum_tgrad.cli.main import main
from captum_tgrad.zoo.packaged_networks import PACKAGES


def _python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "arguments",
    [
        ["explian"],
        ["explain", "--out", "x", "--batch-size", "0"],
        ["explain", "--out", "x", "--batch-size", "many"],
        ["explain", "--out", "x", "--mod", "efficientnet_lite0"],
        ["explain", "--out", "x", "--layers", "0"],
        ["compare", "--n-steps", "0"],
        ["sanity-check", "--mode", "shuffled"],
        ["evaluate"],
        ["evaluate", "--out", "x", "--n-steps", "0"],
        ["evaluate", "--out", "x", "--target", "best"],
        ["evaluate", "--out", "x", "--limit", "0"],
        ["evaluate", "--out", "x", "--seed", "-1"],
        ["evaluate", "--out", "x", "--seed", "0.5"],
    ],
)
def test_what_cannot_be_parsed_exits_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    error, way_out = capsys.readouterr().err.splitlines()
    command = arguments[:1] if arguments != ["explian"] else []
    assert "error: " in error
    assert way_out == f"see {' '.join(['captum-tgrad', *command])} --help"


@pytest.mark.parametrize(
    ("line", "advice"),
    [
        ("explain a.png --methods saliency", "saliency: it is an option of compare and evaluate"),
        ("explain a.png --n-steps=14", "--n-steps=14: it is an option of compare and evaluate"),
        ("explain a.png --layer 3", "--layer 3: did you mean --layers?"),
        ("sanity-check --methods saliency", "--methods: did you mean --method?"),
        ("compare a.png --methods t_grad, random", "separated by commas without spaces"),
        ("methods --json all", "unrecognized arguments: all"),
        ("explain a.png --bogus", "unrecognized arguments: --bogus"),
    ],
)
def test_an_unknown_argument_is_refused_with_advice(line, advice, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(line.split())
    error, way_out = capsys.readouterr().err.splitlines()
    command = line.split()[0]
    assert stopped.value.code == 2
    assert way_out == f"see captum-tgrad {command} --help"
    assert error.startswith(f"captum-tgrad {command}: error: unrecognized arguments: ")
    assert error.endswith(advice)


def test_the_name_alone_prints_the_help(capsys):
    with pytest.raises(SystemExit) as stopped:
        main([])
    assert stopped.value.code == 0
    assert "sanity-check" in capsys.readouterr().out


def test_version_is_that_of_the_package(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out == f"captum-tgrad {captum_tgrad.__version__}\n"


MODEL = {"device", "model", "weights", "resize", "class-names", "help"}
EVALUATE = {"resume", "methods", "config", "labels", "limit", "n-steps", "score", "ties", "seed"}
EVALUATE |= {
    "allow-imports",
    "out",
    "target",
    "batch-size",
    "max-examples-per-batch",
    "budget",
    "quick",
    "boxes",
    "score-dtype",
}


COMPARE = {
    "out",
    "methods",
    "config",
    "allow-imports",
    "target",
    "n-steps",
    "max-examples-per-batch",
}
SANITY_CHECK = {"out", "method", "target", "layers", "mode", "columns", "seed"}


@pytest.mark.parametrize(
    ("command", "own"),
    [
        ("explain", {"out", "target", "layers", "batch-size", "aggregation", "page", "rival"}),
        ("evaluate", EVALUATE),
        ("compare", COMPARE),
        ("sanity-check", SANITY_CHECK),
    ],
)
def test_help_lists_every_option(command, own, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    text = capsys.readouterr().out
    options = set(re.findall(r"^  (?:-h, )?(--[a-z-]+)", text, flags=re.MULTILINE))
    assert options == {f"--{name}" for name in own | MODEL | {"json", "quiet"}}


@pytest.mark.parametrize("command", ["explain", "evaluate", "compare", "sanity-check"])
def test_help_names_every_network_that_needs_no_download(command, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    named = re.findall(r"efficientnet_lite\d|squeezenet1_1", capsys.readouterr().out)
    assert set(named) == set(PACKAGES)


def test_whoever_reads_the_output_may_stop():
    script = (
        "import sys\n"
        "from captum_tgrad.cli import explain_command, main\n"
        "explain_command.run_explain = lambda options: print('line\\n' * 100_000)\n"
        "sys.exit(main.main(['explain', '--out', 'x']))\n"
    )
    command = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert command.stdout.readline() == "line\n"
    command.stdout.close()
    assert command.stderr.read() == ""
    assert command.wait() == 141


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize(("command", "error"), [("| true", ""), ("> /dev/full", "No space left")])
def test_output_that_cannot_be_written(command, error):
    """Also if it fits into the buffer, which Python writes at exit."""
    script = f"{sys.executable} -m captum_tgrad methods {command}; exit ${{PIPESTATUS[0]}}"
    environment = {name: each for name, each in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == (2 if error else 141), done.stderr
    assert error in done.stderr
    assert len(done.stderr.splitlines()) == bool(error)


def test_a_warning_names_the_program_and_not_its_code():
    warn = "import warnings; from captum_tgrad.cli import main as command;"
    warn += "command._run = lambda options: warnings.warn('ties\\nand more') or 0;"
    found = _python("-c", f"{warn} command.main(['methods']); warnings.warn('afterwards')")
    first, *rest = found.stderr.splitlines()
    assert first == "captum-tgrad: warning: ties and more"
    assert rest[0].endswith("UserWarning: afterwards")


def test_a_warning_is_shown_once_also_if_filters_change_in_between():
    repeat = (
        "import warnings; from captum_tgrad.cli import main as command\n"
        "def run(options):\n"
        "    for text in ['hooks\\n are set', 'other', 'hooks\\n are set']:\n"
        "        warnings.warn(text)\n"
        "        with warnings.catch_warnings(): warnings.simplefilter('ignore')\n"
        "    return 0\n"
        "command._run = run; command.main(['methods'])"
    )
    lines = _python("-c", repeat).stderr.splitlines()
    assert lines == [f"captum-tgrad: warning: {text}" for text in ("hooks are set", "other")]


def test_module_runs_as_the_command(tmp_path):
    done = _python("-m", "captum_tgrad", "explain", "absent.png", "--out", str(tmp_path))
    assert done.returncode == 2
    assert done.stderr == "captum-tgrad: error: absent.png not found: pass the path of an image\n"


def test_module_imports_nothing_from_the_working_folder(tmp_path):
    """Not even what is called like a module of Python or a library that the command imports."""
    modules = "captum_tgrad.cli.explain_command, captum_tgrad.evaluation"
    code = f"import sys, {modules}; print(*{{*sys.modules}})"
    listed = _python("-c", code).stdout.split()
    # Python itself imports these before it runs anything of the package.
    code = "import runpy, sys; runpy.run_module('this'); print(*{*sys.modules})"
    own = set(_python("-c", code).stdout.split())
    names = {name.split(".")[0] for name in listed} - own - {"captum_tgrad", "__main__"}
    assert {"captum", "torch", "typing", "argparse"} <= names
    for name in names:
        (tmp_path / f"{name}.py").write_text("open('imported-from-here', 'w').write(__name__)\n")
    environment = {**os.environ, "PYTHONPATH": str(Path(captum_tgrad.__file__).parents[1])}
    for arguments in (["explain", "--out", "out"], ["evaluate", "--help"]):
        done = subprocess.run(
            [sys.executable, "-m", "captum_tgrad", *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            env=environment,
        )
        assert done.returncode == 0, done.stderr
        assert not (tmp_path / "imported-from-here").exists(), arguments


@pytest.mark.parametrize("module", ["captum_tgrad", "captum_tgrad.cli.main"])
def test_import_loads_no_drawing_and_no_pictures(module):
    done = _python("-c", f"import sys, {module}; print(*sys.modules)")
    assert done.returncode == 0, done.stderr
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert "captum_tgrad" in loaded
    assert not {"torchvision", "matplotlib", "PIL", "scipy", "skimage", "captum"} & loaded


def test_every_public_name_can_be_imported():
    for name in captum_tgrad.__all__:
        assert getattr(captum_tgrad, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = captum_tgrad.Nothing
