"""Where to compute."""

from __future__ import annotations

import torch

_LETTERS = 150


def choose_device(name: str | None) -> torch.device:
    """Finds the device that is meant, and makes sure that it is there.

    Args:
        name: As PyTorch writes it, such as ``"cuda:1"``, ``"mps"`` or ``"xpu"``. None: a GPU of
            CUDA where there is one.

    Raises:
        ValueError: There is no such device here.
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
        raise ValueError(
            f"the device {name!r} cannot be used here: try cpu ({_reason(error)})"
        ) from error
    return device


def _reason(error: Exception) -> str:
    """The first sentence of an error of torch, which may go on for a page."""
    said = str(error).split("\n")[0]
    if said.startswith("Could not run"):
        return "this torch was built without it"
    first = said.split(". ")[0].rstrip(".")
    return first if len(first) <= _LETTERS else f"{first[:_LETTERS]}..."
