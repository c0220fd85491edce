"""What torch calls by another name, or not at all, on each kind of device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

_WITHOUT_NUMBERS = ("mps",)
"""Kinds of device of which there is one only: their functions take no device."""


def _module(device: torch.device) -> Any:
    """``torch.cuda``, ``torch.xpu``, ``torch.mps``; None of the CPU and of what has no module."""
    return None if device.type == "cpu" else getattr(torch, device.type, None)


def device_of(model: nn.Module) -> torch.device:
    """Where a model is."""
    for tensor in (*model.parameters(), *model.buffers()):
        return tensor.device
    return torch.device("cpu")


def device_name(device: torch.device) -> str:
    """The name of the hardware, or the type of the device if it has none."""
    module = _module(device)
    has_name = hasattr(module, "get_device_name")
    return str(module.get_device_name(device)) if has_name else device.type


def _arguments(device: torch.device) -> tuple[torch.device, ...]:
    return () if device.type in _WITHOUT_NUMBERS else (device,)


def synchronize(device: torch.device) -> None:
    """Waits until the device has done what it was told: it works on while the clock is read."""
    module = _module(device)
    if hasattr(module, "synchronize"):
        module.synchronize(*_arguments(device))


def empty_caches() -> None:
    """Gives back what torch keeps of the memory of devices."""
    for module, available in (
        (torch.cuda, torch.cuda.is_available()),
        (torch.xpu, torch.xpu.is_available()),
        (torch.mps, torch.backends.mps.is_available()),
    ):
        if available:
            module.empty_cache()


def random_state(device: torch.device) -> Tensor | None:
    """The state of the device's generator; None of a device that draws from the CPU's."""
    module = _module(device)
    if not hasattr(module, "get_rng_state"):
        return None
    state: Tensor = module.get_rng_state(*_arguments(device))
    return state


def set_random_state(device: torch.device, state: Tensor | None) -> None:
    """Puts back what ``random_state`` returned."""
    if state is not None:
        _module(device).set_rng_state(state, *_arguments(device))


def seed_device(device: torch.device, seed: int) -> None:
    """Seeds the device's generator alone, by the state that a seed gives."""
    module = _module(device)
    if not hasattr(module, "manual_seed"):
        return
    if device.type in _WITHOUT_NUMBERS:
        module.manual_seed(seed)
    else:
        with module.device(device):
            module.manual_seed(seed)


@contextmanager
def forked_random_state(device: torch.device) -> Iterator[None]:
    """A context after which the generators of the CPU and of the device are as before."""
    with torch.random.fork_rng(devices=[]):
        state = random_state(device)
        try:
            yield
        finally:
            set_random_state(device, state)


def wide(tensor: Tensor) -> Tensor:
    """In float64, or float32 on a device that has no wider numbers."""
    return tensor.float() if tensor.device.type == "mps" else tensor.double()
