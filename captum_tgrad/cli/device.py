"""Where to compute."""

from __future__ import annotations

import torch


def choose_device(name: str | None) -> torch.device:
    """Finds the device that is meant, and makes sure that it is there.

    Args:
        name: As PyTorch writes it, such as ``"cuda:1"``. None: a GPU where there is one.

    Raises:
        ValueError: There is no such device here.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device).cpu()
    # PyTorch raises one of these, by device: an unknown name, a missing driver, a build without it,
    # or the meta device, which holds no numbers.
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).split("\n")[0]
        raise ValueError(f"the device {name!r} cannot be used here: try cpu ({reason})") from error
    return device
