"""Joins the processes of torchrun."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as distributed

# Processes wait for the slowest, whose share may take hours longer: the default of 10 or 30
# minutes would end the run.
_PATIENCE = timedelta(days=30)


def started_by_torchrun() -> bool:
    """Whether torchrun has started this process."""
    return {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR"} <= os.environ.keys()


def own_device(device: torch.device) -> torch.device:
    """The device of this process; under torchrun, its own GPU for ``cuda`` without an index."""
    if device.type != "cuda" or device.index is not None or not started_by_torchrun():
        return device
    return torch.device("cuda", int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())


@contextmanager
def joined_processes(device: torch.device) -> Iterator[None]:
    """A context with a process group for the processes of torchrun.

    It uses NCCL if each process has its own GPU, and gloo otherwise. Without torchrun, or if a
    process group exists, it does nothing.
    """
    if not started_by_torchrun() or distributed.is_initialized():
        yield
        return
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    each_has_one = device.type == "cuda" and local <= torch.cuda.device_count()
    if each_has_one:
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if each_has_one else "gloo", timeout=_PATIENCE)
    try:
        yield
    finally:
        distributed.destroy_process_group()
