"""Several processes write what one does, each image once."""

import itertools
import json
import subprocess
import sys

import pytest
import torch

from captum_tgrad.evaluation.distributed import own_device, started_by_torchrun
from captum_tgrad.evaluation.workers import Workers
from tests.evaluation.test_resume import ROOT, assert_alike, comparable

SCRIPT = "tests.evaluation.evaluate_script"


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
