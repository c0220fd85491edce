"""The color of each method, the same in every figure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import cycle, product
from typing import Any

# Methods of one family have neighboring hues: T-Grad's are warm, gradients blue and green, class
# activation maps violet. Two lines of one family differ in their dashes, too.
_STYLES = {
    "tgrad": ("-", "#d55e00"),
    "tgradlevels": ("-", "#e6a100"),
    "fullgrad": ("--", "#8c510a"),
    "vanillagradient": ("-", "#56b4e9"),
    "saliency": ("-", "#56b4e9"),
    "inputxgradient": ("-", "#0072b2"),
    "integratedgradients": ("--", "#1f3b73"),
    "smoothgrad": ("-", "#009e73"),
    "gradcam": ("-", "#cc5fa3"),
    "gradcam++": ("--", "#7b3294"),
    "eigencam": ("-", "#c2a5cf"),
    "scorecam": (":", "#e7298a"),
    "xgradcam": (":", "#5e4fa2"),
    "random": ("-", "#8a94a6"),
}
_OTHERS = ("#000000", "#66a61e", "#b2182b", "#01665e", "#bf812d", "#4d4d4d", "#80cdc1")


def method_styles(methods: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The line style of each method, by its title or name; for bars, use its ``"color"``.

    Other methods get the remaining colors, in their order.

    Example:
        >>> method_styles(["T-Grad"])["T-Grad"] == method_styles(["mine", "t_grad"])["t_grad"]
        True
    """
    others = cycle(product(("-", "--", ":"), _OTHERS))
    styles = {}
    for method in methods:
        dashes, color = _STYLES.get(_key(method)) or next(others)
        styles[method] = {"color": color, "linestyle": dashes, "linewidth": 1.5}
    return styles


def _key(method: str) -> str:
    """The common form of a title and a name: ``"gradcam++"``."""
    return re.sub(r"[^a-z0-9+]", "", method.casefold()).replace("plusplus", "++")
