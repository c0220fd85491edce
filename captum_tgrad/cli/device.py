"""The device to compute on."""

from __future__ import annotations

import torch

_LETTERS = 150


def choose_device(name: str | None) -> torch.device:
    """Finds a device and checks that it is available.

    Args:
        name: A PyTorch device, such as ``"cuda:1"``, ``"mps"`` or ``"xpu"``. None: CUDA if
            available.

    Raises:
        ValueError: The device is not available.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        # A sum, since a device may hold numbers and compute nothing.
        torch.ones(2, device=device).sum().cpu()
    # PyTorch raises one of these, by device: an unknown name, a missing driver, a build without it,
    # or the meta device, which holds no numbers.
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
        raise ValueError(f"device {name!r} is not available: try cpu ({_reason(error)})") from error
    return device


def _reason(error: Exception) -> str:
    """The first sentence of a torch error, which may be a page long."""
    said = str(error).split("\n")[0]
    if said.startswith("Could not run"):
        return "this torch was built without it"
    first = said.split(". ")[0].rstrip(".")
    return first if len(first) <= _LETTERS else f"{first[:_LETTERS]}..."
