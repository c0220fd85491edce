"""The processes of an evaluation: one, or those of ``torch.distributed`` or torchrun."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as distributed

Item = TypeVar("Item")
Result = TypeVar("Result")

# Processes wait for the slowest, whose share may take hours longer than torch's default timeout of
# 10 or 30 minutes.
_TIMEOUT = timedelta(days=30)


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
    distributed.init_process_group("nccl" if each_has_one else "gloo", timeout=_TIMEOUT)
    try:
        yield
    finally:
        distributed.destroy_process_group()


class Workers:
    """The processes of an evaluation: those of the default process group, or this one alone."""

    def __init__(self) -> None:
        self.rank, self.count = 0, 1
        if distributed.is_available() and distributed.is_initialized():
            self.rank, self.count = distributed.get_rank(), distributed.get_world_size()

    @property
    def first(self) -> bool:
        """Whether this is the first process, which does work that is done once."""
        return self.rank == 0

    def share(self, items: Sequence[Item]) -> list[Item]:
        """This process' share: each item is in one share, and shares differ by one at most."""
        return list(items[self.rank :: self.count])

    def once(self, run: Callable[[], Result]) -> Result:
        """Runs a function in the first process while others wait; all get its result or error."""
        if self.count == 1:
            return run()
        found: list[Any] = [None]
        if self.first:
            try:
                found = [(run(), None)]
            except Exception as error:
                found = [(None, error)]
        distributed.broadcast_object_list(found, src=0)
        result, raised = found[0]
        if raised is not None:
            raise raised
        return result  # type: ignore[no-any-return]

    def wait(self) -> None:
        """Waits for all processes."""
        if self.count > 1:
            distributed.barrier()

    def file_name(self, stem: str) -> str:
        """The name of the file that this process alone writes to."""
        return f"{stem}.jsonl" if self.count == 1 else f"{stem}-{self.rank}.jsonl"
