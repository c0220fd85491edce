"""Devices: names, synchronization, and caches."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def call_on_device(name: str, device: torch.device, *arguments: Any) -> Any:
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
    return str(call_on_device("get_device_name", device) or device.type)


def synchronize(device: torch.device) -> None:
    """Waits until the device has finished its queued work."""
    call_on_device("synchronize", device)


def empty_caches() -> None:
    """Releases the device memory that torch caches."""
    if torch.accelerator.is_available():
        torch.get_device_module().empty_cache()
