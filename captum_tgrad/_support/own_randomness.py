"""Seeded random numbers that leave the global generators unchanged."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from captum_tgrad._support.accelerator import forked_random_state, seed_device


@contextmanager
def own_randomness(seed: int, device: torch.device) -> Iterator[None]:
    """A context with its own seed, which restores the global generators on exit.

    These are torch's, NumPy's (which Captum's GradientShap uses) and Python's.
    """
    of_python, of_numpy = random.getstate(), np.random.get_state()
    with forked_random_state(device):
        torch.default_generator.manual_seed(seed)
        seed_device(device, seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        try:
            yield
        finally:
            random.setstate(of_python)
            np.random.set_state(of_numpy)
