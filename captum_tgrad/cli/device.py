"""The device to compute on."""

from __future__ import annotations

import torch

_LONGEST_REASON = 150


def choose_device(name: str | None) -> torch.device:
    """The device of this name, such as ``"cuda:1"``; for None, CUDA if available, else the CPU.

    Raises:
        ValueError: The device is not available.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        # The sum checks that the device can also compute.
        torch.ones(2, device=device).sum().cpu()
    # By device, torch raises one of these: for an unknown name, a missing driver, a build without
    # the device, and the meta device.
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
        raise ValueError(f"device {name!r} is not available: try cpu ({_reason(error)})") from error
    return device


def _reason(error: Exception) -> str:
    """The first sentence of a torch error, which may be a page long."""
    said = str(error).split("\n")[0]
    if said.startswith("Could not run"):
        return "this torch was built without it"
    first = said.split(". ")[0].rstrip(".")
    return first if len(first) <= _LONGEST_REASON else f"{first[:_LONGEST_REASON]}..."
