"""Devices: names, synchronization, caches, and the state of random number generators."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


def _call(name: str, device: torch.device, *arguments: Any) -> Any:
    """Calls a function of ``torch.cuda``, ``torch.xpu`` or ``torch.mps``; None if there is none."""
    module = None if device.type == "cpu" else getattr(torch, device.type, None)
    if not hasattr(module, name):
        return None
    of_device = () if device.type == "mps" else (device,)  # there is only one
    return getattr(module, name)(*arguments, *of_device)


def device_of(model: nn.Module) -> torch.device:
    """The device of a model; the CPU if it has no parameters or buffers."""
    for tensor in (*model.parameters(), *model.buffers()):
        return tensor.device
    return torch.device("cpu")


def device_name(device: torch.device) -> str:
    """The name of the hardware, or the type of the device if it has none."""
    return str(_call("get_device_name", device) or device.type)


def synchronize(device: torch.device) -> None:
    """Waits until the device has finished its queued work."""
    _call("synchronize", device)


def empty_caches() -> None:
    """Releases the device memory that torch caches."""
    if torch.accelerator.is_available():
        torch.get_device_module().empty_cache()


def random_state(device: torch.device) -> Tensor | None:
    """The state of the device's generator; None for a device that uses the CPU's."""
    state: Tensor | None = _call("get_rng_state", device)
    return state


def set_random_state(device: torch.device, state: Tensor | None) -> None:
    """Restores what ``random_state`` returned."""
    if state is not None:
        _call("set_rng_state", device, state)


@contextmanager
def forked_random_state(device: torch.device) -> Iterator[None]:
    """A context that restores the generators of the CPU and the device on exit."""
    with torch.random.fork_rng(devices=[]):
        state = random_state(device)
        try:
            yield
        finally:
            set_random_state(device, state)


@contextmanager
def own_randomness(seed: int, device: torch.device) -> Iterator[None]:
    """A context with its own seed, which restores the global generators on exit.

    These are torch's, NumPy's (which Captum's GradientShap uses) and Python's.
    """
    of_python, of_numpy = random.getstate(), np.random.get_state()
    with forked_random_state(device):
        torch.default_generator.manual_seed(seed)
        if random_state(device) is not None:
            # The module's ``manual_seed`` seeds the current device, or all of them.
            set_random_state(device, torch.Generator(device).manual_seed(seed).get_state())
        random.seed(seed)
        np.random.seed(seed % 2**32)
        try:
            yield
        finally:
            random.setstate(of_python)
            np.random.set_state(of_numpy)
