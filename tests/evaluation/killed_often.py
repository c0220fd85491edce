"""Evaluates in processes that it kills at random moments; prints how it went. For ``test_soak``.

Arguments: the folder for the results, how many kills, and how many processes share the work. torch
is imported once, and each process is a fork of this one: so a kill costs no start.
"""

import os
import random
import signal
import socket
import sys
import time
import warnings
from pathlib import Path

import torch

from captum_tgrad.evaluation import evaluate
from captum_tgrad.evaluation.distributed import joined_processes
from tests.evaluation.networks import images, network

SIGNALS = (signal.SIGKILL, signal.SIGINT, signal.SIGTERM)
NAMES = ["t_grad", "grad_cam", "smooth_grad", "random"]
COUNT = 24


def _work(out: str, environment: dict[str, str]) -> None:
    """What a forked process does; it never returns."""
    os.environ.update(environment)
    os.close(2)
    os.open(os.devnull, os.O_WRONLY)
    status = 1
    try:
        with joined_processes(torch.device("cpu")):
            evaluate(network(), images(COUNT), NAMES, out, resume=True, n_steps=8, batch_size=2)
        status = 0
    finally:
        os._exit(status)


def _start(out: str, processes: int) -> list[int]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    started = []
    for rank in range(processes):
        environment = {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(processes),
            "LOCAL_WORLD_SIZE": str(processes),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
        }
        process = os.fork()
        if not process:
            _work(out, environment if processes > 1 else {})
        started.append(process)
    return started


def _live(out: str, processes: int, chance: random.Random, longest: float) -> bool:
    """One life, with a kill of one process; returns whether it ended before the kill."""
    started = _start(out, processes)
    deadline = time.monotonic() + chance.uniform(0, longest)
    running = set(started)
    while running and time.monotonic() < deadline:
        time.sleep(0.002)
        for process in sorted(running):
            ended, status = os.waitpid(process, os.WNOHANG)
            if ended:
                running.discard(process)
                if status:
                    raise RuntimeError(f"process {process} ended with status {status}")
    if not running:
        return True
    os.kill(chance.choice(sorted(running)), chance.choice(SIGNALS))
    # As torchrun does: the others wait for the one that is gone.
    time.sleep(0.05)
    for process in running if processes > 1 else ():
        os.kill(process, signal.SIGTERM)
    for process in running:
        os.waitpid(process, 0)
    return False


def main(out: Path, kills: int, processes: int) -> None:
    """Evaluates, in as many folders as it takes, until there were so many kills."""
    chance = random.Random(processes)
    start = time.monotonic()
    assert _live(str(out / "first"), processes, chance, 10_000.0)
    # So short that a life seldom sees the end, and so long that it gets somewhere.
    longest = (time.monotonic() - start) / 2
    killed = folders = 0
    while killed < kills:
        folder, killed_here = out / f"run-{folders}", 0
        while not _live(str(folder), processes, chance, longest):
            killed_here += 1
            if killed_here % 12 == 0:  # Lives that are too short for one image never end.
                longest *= 1.5
        killed, folders = killed + killed_here, folders + 1
    print(f"{killed} kills in {folders} runs")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
