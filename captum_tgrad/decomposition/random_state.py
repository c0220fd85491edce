"""Saves the state of the random generators, so that an operation can run again as before."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from captum_tgrad._support.accelerator import forked_random_state, random_state, set_random_state

lock = threading.RLock()
"""Held while an operation runs again, because generators and forward mode are global state."""


class RandomState:
    """A saved state of the random generators of the CPU and of a device."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._cpu = torch.get_rng_state()
        self._on_device = random_state(device)

    def is_current(self) -> bool:
        """Whether no random number has been drawn since."""
        on_device = random_state(self._device)
        if not torch.equal(self._cpu, torch.get_rng_state()):
            return False
        if self._on_device is None or on_device is None:
            return self._on_device is on_device
        return torch.equal(self._on_device, on_device)

    def restore(self) -> None:
        """Sets the generators to this state."""
        torch.set_rng_state(self._cpu)
        set_random_state(self._device, self._on_device)

    @contextmanager
    def replayed(self) -> Iterator[None]:
        """A context that draws from this state and restores the generators at the end."""
        with forked_random_state(self._device):
            self.restore()
            yield
