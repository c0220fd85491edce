"""Times of calls, and memory, as all benchmarks measure them."""

from __future__ import annotations

import argparse
import platform
import resource
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
import torchvision

Call = Callable[[], object]

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def add_clock(parser: argparse.ArgumentParser) -> None:
    """Adds the option of the clock, by its name in ``CLOCKS``."""
    parser.add_argument(
        "--clock", choices=CLOCKS, default="wall", help="cpu: for a machine that others use too"
    )


def machine() -> tuple[torch.device, str]:
    """The device to measure on, and a description of the machine for the output."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name() if device.type == "cuda" else platform.machine()
    return device, f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def random_model(name: str) -> torch.nn.Module:
    """A model of torchvision in evaluation mode, with random weights."""
    torch.manual_seed(0)
    return torchvision.models.get_model(name, weights=None).eval()


def seconds(call: Call, device: torch.device, clock: str = "wall") -> float:
    """How long a call takes."""
    start = CLOCKS[clock]()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return CLOCKS[clock]() - start


def compare(
    one: Call, other: Call, pairs: int, device: torch.device, clock: str = "wall", warm_up: int = 0
) -> tuple[float, float, float]:
    """The median ratio of ``one`` to ``other``, pair by pair, and both medians in seconds.

    Before, each is called ``warm_up`` times.
    """
    for call in (one, other) * warm_up:
        call()
    times = []
    for pair in range(pairs):
        if pair % 2:
            times.append([seconds(call, device, clock) for call in (one, other)])
        else:
            times.append([seconds(call, device, clock) for call in (other, one)][::-1])
    ratio = statistics.median(first / second for first, second in times)
    return ratio, *(statistics.median(each) for each in zip(*times, strict=True))


def resident() -> float:
    """Resident memory now, in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def peak(call: Call) -> float:
    """The most that was resident during the first call in a process, above what was before."""
    loaded = resident()
    call()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10 - loaded


def in_own_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function of a module returns in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(function, *arguments).result()
