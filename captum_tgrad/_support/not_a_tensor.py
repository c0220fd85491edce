"""What to say about a value that should be a tensor."""

from __future__ import annotations

from typing import Any

import numpy as np


def got(value: Any) -> str:
    """What a value is, and how to make a tensor of it.

    Example:
        >>> got(np.zeros(2)), got("a")
        ('a NumPy array: convert it with torch.from_numpy', 'str')
    """
    if isinstance(value, np.ndarray):
        return "a NumPy array: convert it with torch.from_numpy"
    if isinstance(value, (list, tuple)):
        return f"a {type(value).__name__}: convert it with torch.as_tensor or torch.stack"
    if callable(getattr(value, "attribute", None)):
        name = type(value).__name__
        return f"a {name}: pass the result of its attribute(inputs, target=...)"
    return type(value).__name__
