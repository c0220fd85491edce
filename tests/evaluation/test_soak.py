"""Runs that are killed 60 times, and runs that get into each other's way.

``python -m pytest -m slow tests/evaluation/test_soak.py``
"""

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from tests.evaluation.test_resume import ROOT, SCRIPT, assert_alike, comparable

KILLS = int(os.environ.get("SOAK_KILLS", "60"))


def _soak(out, processes):
    command = [sys.executable, "-m", "tests.evaluation.killed_often", str(out)]
    done = subprocess.run(
        [*command, str(KILLS), str(processes)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    folders = sorted(out.glob("run-*"))
    assert folders
    expected = comparable(out / "first")
    assert len(expected) == 4 * 24
    for folder in folders:
        assert_alike(folder, out / "first")
        assert not list(folder.glob(".*.partial"))
        assert (folder / "report.html").is_file()


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("processes", [1, 3])
def test_records_after_many_kills_are_those_of_an_undisturbed_run(tmp_path, processes):
    _soak(tmp_path, processes)


def _ranks(launcher):
    """The processes that torchrun has started."""
    listed = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(launcher)], capture_output=True, text=True, check=False
    )
    return [int(pid) for pid in listed.stdout.split()]


@pytest.mark.slow
def test_a_rank_of_torchrun_is_killed(tmp_path):
    """As often as SOAK_TORCHRUN says: each start takes seconds."""
    chance = random.Random(0)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    launcher += ["--nproc-per-node", "3", *SCRIPT[1:]]
    subprocess.run([*SCRIPT, str(tmp_path / "alone"), "18", "0"], cwd=ROOT, check=True)
    out, killed, kills = tmp_path / "out", 0, int(os.environ.get("SOAK_TORCHRUN", "12"))
    ended = None
    while killed < kills or ended is None:
        process = subprocess.Popen(
            [*launcher, str(out), "18", "0.3"], cwd=ROOT, stderr=subprocess.DEVNULL
        )
        if killed == kills:
            assert process.wait(timeout=600) == 0
            ended = True
            break
        before = _size(out)
        deadline = time.monotonic() + 300
        # Until it writes, and some more.
        while _size(out) == before and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(chance.uniform(0, 1))
        ranks = _ranks(process.pid)
        if ranks:
            os.kill(chance.choice(ranks), chance.choice([signal.SIGKILL, signal.SIGTERM]))
        killed += 1
        process.wait(timeout=300)
    assert_alike(out, tmp_path / "alone")


def _size(out):
    return sum(path.stat().st_size for path in out.glob("records*.jsonl"))


@pytest.mark.slow
def test_two_runs_that_start_at_once(tmp_path):
    subprocess.run([*SCRIPT, str(tmp_path / "alone"), "6", "0"], cwd=ROOT, check=True)
    for number in range(5):
        out = tmp_path / f"out-{number}"
        runs = [
            subprocess.Popen([*SCRIPT, str(out), "6", "0.2"], cwd=ROOT, stderr=subprocess.PIPE)
            for _ in range(2)
        ]
        said = [run.communicate()[1].decode() for run in runs]
        assert sorted(run.returncode for run in runs)[0] == 0
        for run, text in zip(runs, said, strict=True):
            assert run.returncode == 0 or "another process is writing to" in text
        assert_alike(out, tmp_path / "alone")
