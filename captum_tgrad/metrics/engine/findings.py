"""Findings about a result, with at most one warning of each kind per call."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from torch import Tensor

from captum_tgrad._support.input_checks import listed
from captum_tgrad._support.suggest import few
from captum_tgrad._support.untouched import training_modules
from captum_tgrad._support.warn import warn_user

_TOO_MANY_TIED = 0.25
_TOO_MUCH_KEPT = 0.5

_silent = ContextVar("_silent", default=False)


class Findings:
    """Findings of one or several calls.

    Attributes:
        found: By sentence, advice for the caller of a metric, and label: each method or other
            subject, and its samples.
    """

    def __init__(self) -> None:
        self.found: dict[tuple[str, str, str], list[tuple[str, str]]] = {}

    def training(self, forward_func: Any) -> None:
        """Notes modules in training mode, whose outputs are random or depend on the batch."""
        if names := training_modules(forward_func):
            self._add(
                "forward_func is in training mode, so scores may be random or depend on the other"
                " examples of a batch; call model.eval().",
                "In training mode",
                few(names, 5),
            )

    def constant(self, constant: Tensor, name: str, meaning: str) -> None:
        """Notes constant maps; ``meaning`` is what a constant map means for the metric."""
        self._add(f"Constant maps: {meaning}.", "Constant", name, constant)

    def ties(self, share: Tensor, name: str) -> None:
        """Notes samples with many features in groups of ties that are larger than a step.

        Smaller groups, such as those at the border of an enlarged map, hardly matter.
        """
        self._add(
            "More than a quarter of the features are tied, in groups larger than a step, and"
            " replaced in raster order.",
            "Tied",
            name,
            share > _TOO_MANY_TIED,
            f" (up to {float(share.max()):.0%})",
            " Pass ties='group' for a result that does not depend on any order.",
        )

    def baseline(self, clean_score: Tensor, baseline_score: Tensor, name: str) -> None:
        """Notes baselines that keep much of the score, and leave little to insert or delete."""
        self._add(
            "The baseline keeps half of the score or more, so the curves carry little information.",
            "Affected",
            name,
            (clean_score > 0) & (baseline_score >= _TOO_MUCH_KEPT * clean_score),
            advice=" Pass other baselines, such as a stronger blur for images, or the ID of the"
            " mask token for texts.",
        )

    def messages(self, with_advice: bool = False) -> list[str]:
        """One message for each kind of finding; ``with_advice``: with the arguments to pass."""
        return [
            f"{text}{advice * with_advice} {label}: {'; '.join(map(''.join, where))}."
            for (text, advice, label), where in self.found.items()
        ]

    def warn(self) -> None:
        """Issues one UserWarning of each kind at the line that called the metric."""
        if not _silent.get():
            for message in self.messages(with_advice=True):
                warn_user(message)

    def _add(
        self,
        text: str,
        label: str,
        name: str,
        samples: Tensor | None = None,
        detail: str = "",
        advice: str = "",
    ) -> None:
        """Adds a subject, unless it is about none of the ``samples``, ``(N,)``."""
        if samples is None or bool(samples.any()):
            where = "" if samples is None else f", sample {listed(samples)}{detail}"
            self.found.setdefault((text, advice, label), []).append((name, where))


@contextmanager
def no_warnings() -> Iterator[None]:
    """A context without warnings of findings, in this thread."""
    before = _silent.set(True)
    try:
        yield
    finally:
        _silent.reset(before)
