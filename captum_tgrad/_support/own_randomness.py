"""Random numbers for one method, apart from everybody else's."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from captum_tgrad._support.accelerator import forked_random_state, seed_device


@contextmanager
def own_randomness(seed: int, device: torch.device) -> Iterator[None]:
    """A context whose random numbers follow from ``seed``; outside of it they go on as before.

    Those of torch, of NumPy (which Captum's GradientShap draws from) and of Python.
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
