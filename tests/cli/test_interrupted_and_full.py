"""What ends a command early is said in one line, with the way to go on."""

import errno
import importlib
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from captum_tgrad._support.out_of_memory import is_out_of_memory
from captum_tgrad.cli import evaluate_command, resolve
from captum_tgrad.cli.main import main
from tests.cli.helpers import use_tiny_model
from tests.evaluation.networks import images

pytestmark = [
    pytest.mark.usefixtures("undrawn"),
    pytest.mark.filterwarnings("ignore:(The baseline keeps|More than a quarter|Constant)"),
]

COMMANDS = ["explain", "compare", "sanity-check", "evaluate"]


@pytest.fixture(autouse=True)
def _tiny_model(monkeypatch):
    use_tiny_model(monkeypatch)


@pytest.fixture
def picture(tmp_path):
    (tmp_path / "pictures").mkdir()
    for number, each in enumerate(images(3).clamp(0, 1)):
        pixels = (255 * each.permute(1, 2, 0)).byte().numpy()
        Image.fromarray(pixels).save(tmp_path / "pictures" / f"{number}.png")
    return tmp_path / "pictures" / "0.png"


def _arguments(command, picture, out):
    quick = [] if command in ("explain", "sanity-check") else ["--n-steps", "2"]
    quick += ["--methods", "t_grad,random"] if quick else []
    what = picture.parent if command == "evaluate" else picture
    return [command, str(what), "--out", str(out), *quick]


def _line(capsys, arguments, status=2):
    assert main(arguments) == status
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("captum-tgrad: ")
    return line


def _targets(command, out):
    """The files that a command writes."""
    return {
        "explain": [out / "0.png", out / "0.npy"],
        "compare": [out / name for name in ("methods.png", "table.md", "report.html")],
        "sanity-check": [out / "t_grad-cascading.png", out / "t_grad-cascading.csv"],
        "evaluate": [out / name for name in ("metrics.png", "report.html")],
    }[command]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("command", COMMANDS)
def test_a_full_disk(tmp_path, picture, capsys, command):
    for number in range(len(_targets(command, tmp_path))):
        out = tmp_path / f"out-{number}"
        out.mkdir()
        file = _targets(command, out)[number]
        # The file is written under another name, and then renamed.
        file.with_name(f".{file.name}.partial").symlink_to("/dev/full")
        line = _line(capsys, _arguments(command, picture, out))
        assert f"{file} cannot be written (No space left on device): free some space" in line
        assert ("the same command and --resume" in line) == (command == "evaluate")
        assert not file.exists()
        assert not list(out.glob(".*"))


@pytest.mark.parametrize("command", COMMANDS)
def test_a_folder_that_cannot_be_written(tmp_path, picture, capsys, monkeypatch, command):
    def refuse(*arguments, **options):
        raise PermissionError(errno.EACCES, "Permission denied")

    # Whoever runs this may be root, who may write anywhere.
    monkeypatch.setattr("captum_tgrad._support.writing.os.access", lambda *arguments: False)
    line = _line(capsys, _arguments(command, picture, tmp_path / "out"))
    assert f"{tmp_path / 'out'} cannot be written (Permission denied): use a folder with" in line
    monkeypatch.undo()
    use_tiny_model(monkeypatch)
    monkeypatch.setattr("pathlib.Path.mkdir", refuse)
    line = _line(capsys, _arguments(command, picture, tmp_path / "out"))
    assert f"{tmp_path / 'out'} cannot be written (Permission denied): use a folder with" in line


@pytest.mark.parametrize("command", COMMANDS)
def test_a_folder_inside_of_a_file(tmp_path, picture, capsys, command):
    (tmp_path / "file").write_text("")
    line = _line(capsys, _arguments(command, picture, tmp_path / "file" / "a" / "b"))
    assert f"{tmp_path / 'file'} is a file: use a folder" in line


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("empty", ["", "  "])
def test_an_empty_name(tmp_path, picture, capsys, monkeypatch, command, empty):
    monkeypatch.chdir(tmp_path)
    for arguments in (_arguments(command, picture, empty), [command, empty, "--out", "out"]):
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert stopped.value.code == 2
        assert "is empty" in capsys.readouterr().err.splitlines()[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pictures"]


@pytest.mark.parametrize("option", ["weights", "class-names", "config", "labels", "boxes"])
def test_an_empty_name_of_another_file(capsys, option):
    with pytest.raises(SystemExit):
        main(["evaluate", "--out", "out", f"--{option}", ""])
    assert f"argument --{option}: is empty" in capsys.readouterr().err.splitlines()[0]


ADVICE = {
    "explain": "pass a smaller --batch-size",
    "compare": "pass a smaller --max-examples-per-batch",
    "sanity-check": "a smaller --model",
    "evaluate": "with a single image: use another --device",
}


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[enforce fail at alloc_cpu.cpp:128] . DefaultCPUAllocator: can't allocate"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("where", ["while it loads", "while it runs", "while it draws"])
def test_out_of_memory_is_one_line(tmp_path, picture, capsys, monkeypatch, command, where, error):
    def full(*arguments, **options):
        raise error

    if where == "while it loads":
        monkeypatch.setattr(resolve, "load_classifier", full)
    elif where == "while it runs":
        monkeypatch.setattr("torch.nn.Conv2d.forward", full)
    else:
        monkeypatch.setattr("matplotlib.figure.Figure.savefig", full)
    line = _line(capsys, _arguments(command, picture, tmp_path / "out"))
    assert "error: out of memory" in line
    if where == "while it runs":
        assert ADVICE[command] in line


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("XPU out of memory"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("std::bad_alloc"),
        MemoryError(),
    ],
)
def test_errors_that_mean_out_of_memory(error):
    assert is_out_of_memory(error)


@pytest.mark.parametrize("error", [ValueError, RuntimeError])
@pytest.mark.parametrize(
    ("command", "broken"),
    [
        ("explain", "captum_tgrad.cli.explain_command.explain"),
        ("compare", "captum_tgrad.cli.compare_command.compare"),
        ("sanity-check", "captum_tgrad.sanity_checks.cascade.randomize"),
        ("evaluate", "captum_tgrad.cli.evaluate_command.evaluate"),
    ],
)
def test_faults_of_the_program_keep_their_traceback(
    tmp_path, picture, monkeypatch, command, broken, error
):
    def fail(*arguments, **options):
        raise error("a fault")

    monkeypatch.setattr(broken, fail)
    with pytest.raises(error, match="a fault"):
        main(_arguments(command, picture, tmp_path / "out"))


def test_ctrl_c_says_how_to_go_on(tmp_path, picture, capsys, monkeypatch):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    arguments = _arguments("evaluate", picture, tmp_path / "out")
    monkeypatch.setattr(evaluate_command, "evaluate", interrupt)
    assert _line(capsys, arguments, 130) == "captum-tgrad: interrupted"
    monkeypatch.undo()
    use_tiny_model(monkeypatch)
    module = importlib.import_module("captum_tgrad.evaluation.evaluate")
    monkeypatch.setattr(module, "write_tables", interrupt)
    line = _line(capsys, arguments, 130)
    assert line.endswith(
        f"interrupted: the records so far are in {tmp_path / 'out'}; continue with the same"
        " command and --resume"
    )
    monkeypatch.undo()
    use_tiny_model(monkeypatch)
    assert main([*arguments, "--resume"]) == 0
    monkeypatch.setattr("captum_tgrad.cli.explain_command.explain", interrupt)
    arguments = _arguments("explain", picture, tmp_path / "explained")
    assert _line(capsys, arguments, 130) == "captum-tgrad: interrupted"


@pytest.mark.skipif(os.name != "posix", reason="other systems do not send the signal")
def test_a_batch_system_that_ends_the_command_is_told_how_to_go_on(tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "captum_tgrad", "evaluate", "--out", str(out)]
    with subprocess.Popen(
        [*command, "--methods", "random,saliency", "--quick"], stderr=subprocess.PIPE, text=True
    ) as process:
        records = out / "records.jsonl"
        while process.poll() is None and not (records.exists() and records.stat().st_size):
            time.sleep(0.1)
        process.terminate()
        error = process.stderr.read()
    assert process.returncode == 128 + signal.SIGTERM
    assert error.endswith(
        f"captum-tgrad: interrupted: the records so far are in {out}; continue with the same"
        " command and --resume\n"
    )


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(("owner", "name"), [(Figure, "savefig"), (os, "replace")])
@pytest.mark.parametrize("call", range(4))
def test_an_interrupted_run_can_be_repeated(
    tmp_path, picture, capsys, monkeypatch, command, owner, name, call
):
    """Wherever it was interrupted, the command recognizes the files that it has written."""
    left, inner = [call], getattr(owner, name)

    def interrupt(*arguments, **options):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return inner(*arguments, **options)

    arguments = _arguments(command, picture, tmp_path / "out")
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, interrupt)
        assert main(arguments) in (0, 130)  # 0: it draws or writes fewer
    further = ["--resume"] if command == "evaluate" else []
    assert main([*arguments, *further]) == 0, capsys.readouterr().err


def test_memory_for_weights_is_no_damage(tmp_path):
    """A limit that the weights do not fit into: not the file is at fault."""
    torch.save({"x": torch.zeros(2**28)}, tmp_path / "weights.pt")
    code = (
        "import resource, sys, torch\n"
        "from captum_tgrad.cli.main import main\n"
        "import captum_tgrad.cli.explain_command\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 2**29, used + 2**29))\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    command = [sys.executable, "-c", code, "explain", "--weights", str(tmp_path / "weights.pt")]
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "out")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    assert "error: out of memory" in done.stderr.splitlines()[-1]
