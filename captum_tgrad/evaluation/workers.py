"""The processes of an evaluation: one, or those of ``torch.distributed``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch.distributed as distributed

Item = TypeVar("Item")
Result = TypeVar("Result")


class Workers:
    """This process and the others of its group; alone unless ``torch.distributed`` is initialized.

    Attributes:
        rank: The rank of this process.
        count: The number of processes.
    """

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

    def first_of(self, text: str | None) -> str | None:
        """Waits for all processes; returns the first of their texts, None if none has one."""
        if self.count == 1:
            return text
        found: list[str | None] = [None] * self.count
        distributed.all_gather_object(found, text)
        return next((each for each in found if each is not None), None)

    def wait(self) -> None:
        """Waits for all processes."""
        if self.count > 1:
            distributed.barrier()

    def file_name(self, stem: str) -> str:
        """The name of the file that this process alone writes to."""
        return f"{stem}.jsonl" if self.count == 1 else f"{stem}-{self.rank}.jsonl"
