"""What the metrics return, and which way each number points."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

from captum_tgrad._support.show import shown

HIGHER_IS_BETTER = {
    "insertion": True,
    "deletion": False,
    "difference": True,
    "average_drop": False,
    "increase_in_confidence": True,
}
"""Whether more of it speaks for the attribution, for each number that a metric returns."""


@shown
class InsertionDeletion(NamedTuple):
    """What ``insertion_deletion`` found; every tensor has one number per sample, shape ``(N,)``.

    Attributes:
        insertion: Area under the insertion curve, in units of the score; higher is better.
        deletion: Area under the deletion curve; lower is better.
        difference: ``insertion - deletion``; higher is better.
        clean_score: Score of the input itself.
        insertion_baseline_score: Score of the baseline that insertion starts from.
        deletion_baseline_score: Score of the baseline that deletion ends at, the same numbers
            where there is one baseline.
        tied_share: The share of features, 0 to 1, whose importance another feature shares.
        protocol: How the numbers were made, of plain strings and numbers: to write beside a table.
        fractions: With ``return_curves``, the fraction of features replaced, ``(N, points)``.
        insertion_curve: With ``return_curves``, the scores at these fractions, ``(N, points)``.
        deletion_curve: Likewise.
    """

    insertion: Tensor
    deletion: Tensor
    difference: Tensor
    clean_score: Tensor
    insertion_baseline_score: Tensor
    deletion_baseline_score: Tensor
    tied_share: Tensor
    protocol: dict[str, Any]
    fractions: Tensor | None = None
    insertion_curve: Tensor | None = None
    deletion_curve: Tensor | None = None


@shown
class Area(NamedTuple):
    """What ``insertion`` or ``deletion`` found; every tensor has one number per sample, ``(N,)``.

    Attributes:
        area: Area under the curve, in units of the score.
        clean_score: Score of the input itself.
        baseline_score: Score of the baseline.
        tied_share: As in ``InsertionDeletion``.
        protocol: As in ``InsertionDeletion``.
        fractions: With ``return_curves``, the fraction of features replaced, ``(N, points)``.
        curve: With ``return_curves``, the scores at these fractions, ``(N, points)``.
    """

    area: Tensor
    clean_score: Tensor
    baseline_score: Tensor
    tied_share: Tensor
    protocol: dict[str, Any]
    fractions: Tensor | None = None
    curve: Tensor | None = None


@shown
class AverageDrop(NamedTuple):
    """What ``average_drop`` found.

    Attributes:
        average_drop: The mean of ``drop`` where it is not NaN, in percent, shape ``()``; lower is
            better.
        drop: For each sample, the percentage of its score that is lost, ``(N,)``; NaN for one that
            is left out.
        clean_score: Score of the input itself, ``(N,)``.
        masked_score: Score of the input masked with the map, ``(N,)``.
        protocol: How the numbers were made, of plain strings and numbers.
    """

    average_drop: Tensor
    drop: Tensor
    clean_score: Tensor
    masked_score: Tensor
    protocol: dict[str, Any]


@shown
class IncreaseInConfidence(NamedTuple):
    """What ``increase_in_confidence`` found.

    Attributes:
        increase_in_confidence: The mean of ``increase`` where it is not NaN, in percent, shape
            ``()``; higher is better.
        increase: For each sample, 100 if masking raised its score and 0 if not, ``(N,)``; NaN for
            one that is left out.
        clean_score: As in ``AverageDrop``.
        masked_score: As in ``AverageDrop``.
        protocol: As in ``AverageDrop``.
    """

    increase_in_confidence: Tensor
    increase: Tensor
    clean_score: Tensor
    masked_score: Tensor
    protocol: dict[str, Any]
