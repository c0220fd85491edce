"""Several processes write what one does, each image once."""

import itertools
import json
import os
import subprocess
import sys

import pytest
import torch

from captum_tgrad.evaluation.distributed import Workers, own_device, started_by_torchrun
from tests.evaluation.test_resume import ROOT, assert_alike, comparable

SCRIPT = "tests.evaluation.evaluate_script"


REJECTED = """
import torch
import torch.distributed as distributed
from captum_tgrad.evaluation import evaluate

distributed.init_process_group("gloo")
model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 4)).eval()
# The model rejects the first; the other cannot be read. Each process has one.
images = [torch.rand(1, 8, 8), torch.full((3, 8, 8), torch.nan)]
try:
    evaluate(model, images, ["random"], n_steps=2)
except RuntimeError as error:
    print("mat1" in str(error))
distributed.barrier()
"""


def _run(processes, out, count):
    launcher = [sys.executable]
    if processes:
        launcher += ["-m", "torch.distributed.run", "--standalone"]
        launcher += ["--nproc-per-node", str(processes)]
    subprocess.run(
        [*launcher, "-m", SCRIPT, str(out), str(count), "0"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=300,
    )


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("items", [0, 1, 4, 7])
def test_shares_are_even_and_hold_each_item_once(count, items):
    workers, shares = Workers(), []
    workers.count = count
    for rank in range(count):
        workers.rank = rank
        shares.append(workers.share(range(items)))
    assert sorted(itertools.chain(*shares)) == list(range(items))
    sizes = [len(share) for share in shares]
    assert max(sizes) - min(sizes) <= 1


def test_one_process_needs_no_others():
    assert not started_by_torchrun()
    assert own_device(torch.device("cuda")) == torch.device("cuda")
    workers = Workers()
    assert workers.first
    assert workers.once(lambda: 3) == 3
    assert workers.file_name("records") == "records.jsonl"


def _cells(folder):
    """The summary without seconds, which no two runs share."""
    summary = json.loads((folder / "summary.json").read_text())
    methods = summary.pop("methods")
    for each in methods.values():
        each.pop("seconds")
        (each["minus_t_grad"] or {}).pop("seconds", None)
    return summary, methods


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "count"), [(2, 5), (3, 2)])
def test_several_processes_are_as_one(tmp_path, processes, count):
    alone, together = tmp_path / "alone", tmp_path / "together"
    _run(0, alone, count)
    _run(processes, together, count)
    files = sorted(path.name for path in together.glob("records*.jsonl"))
    assert files == [f"records-{rank}.jsonl" for rank in range(processes)]
    assert_alike(together, alone)
    (one, methods), (several, theirs) = _cells(alone), _cells(together)
    assert one == several
    for name, each in methods.items():
        for metric in ("insertion", "deletion", "difference", "average_drop"):
            assert theirs[name][metric] == pytest.approx(each[metric], rel=1e-4, abs=1e-5)
    # More images, and another number of processes: only what is missing is added.
    before = comparable(together)
    _run(0, together, count + 2)
    after = comparable(together)
    assert len(after) == 4 * (count + 2)
    assert {pair: after[pair] for pair in before} == before


@pytest.mark.slow
def test_if_all_images_are_skipped_every_process_gets_the_error_of_the_model(tmp_path):
    (tmp_path / "script.py").write_text(REJECTED)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [*launcher, "--nproc-per-node", "2", str(tmp_path / "script.py")],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.split() == ["True", "True"]
