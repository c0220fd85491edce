"""The state of the random generators: saved, restored, or seeded for a while."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from captum_tgrad._support.accelerator import call_on_device

lock = threading.RLock()
"""Held while an operation runs again, because generators and forward mode are global state."""


class RandomState:
    """The present state of the random generators of the CPU and of a device.

    As a context, it restores them on exit.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._cpu = torch.get_rng_state()
        # None for a device that uses the CPU's generator.
        self._on_device: Tensor | None = call_on_device("get_rng_state", device)

    def __enter__(self) -> RandomState:
        return self

    def __exit__(self, *_: object) -> None:
        self.restore()

    def is_current(self) -> bool:
        """Whether no random number has been drawn since."""
        now = RandomState(self._device)
        if not torch.equal(self._cpu, now._cpu):
            return False
        if self._on_device is None or now._on_device is None:
            return self._on_device is now._on_device
        return torch.equal(self._on_device, now._on_device)

    def restore(self) -> None:
        """Sets the generators to this state."""
        torch.set_rng_state(self._cpu)
        if self._on_device is not None:
            call_on_device("set_rng_state", self._device, self._on_device)

    def seed(self, seed: int) -> None:
        """Seeds the generators whose state this is."""
        torch.default_generator.manual_seed(seed)
        if self._on_device is not None:
            # The module's ``manual_seed`` seeds the current device, or all of them.
            seeded = torch.Generator(self._device).manual_seed(seed)
            call_on_device("set_rng_state", self._device, seeded.get_state())

    @contextmanager
    def replayed(self) -> Iterator[None]:
        """A context that draws from this state and restores the generators at the end."""
        with RandomState(self._device):
            self.restore()
            yield


@contextmanager
def own_randomness(seed: int, device: torch.device) -> Iterator[None]:
    """A context with its own seed, which restores the global generators on exit.

    These are torch's, NumPy's (which Captum's GradientShap uses) and Python's.
    """
    of_python, of_numpy = random.getstate(), np.random.get_state()
    with RandomState(device) as state:
        state.seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        try:
            yield
        finally:
            random.setstate(of_python)
            np.random.set_state(of_numpy)
