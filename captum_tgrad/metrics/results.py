"""What the metrics return."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from captum_tgrad._support.show import shown


@shown
@dataclass(frozen=True, eq=False)
class InsertionDeletionResult:
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
@dataclass(frozen=True, eq=False)
class InsertionResult:
    """What ``insertion`` found; every tensor has one number per sample, shape ``(N,)``.

    Attributes:
        insertion: Area under the insertion curve, in units of the score; higher is better.
        clean_score: Score of the input itself.
        insertion_baseline_score: Score of the baseline that insertion starts from.
        tied_share: The share of features, 0 to 1, whose importance another feature shares.
        protocol: How the numbers were made, of plain strings and numbers: to write beside a table.
        fractions: With ``return_curves``, the fraction of features replaced, ``(N, points)``.
        insertion_curve: With ``return_curves``, the scores at these fractions, ``(N, points)``.
    """

    insertion: Tensor
    clean_score: Tensor
    insertion_baseline_score: Tensor
    tied_share: Tensor
    protocol: dict[str, Any]
    fractions: Tensor | None = None
    insertion_curve: Tensor | None = None


@shown
@dataclass(frozen=True, eq=False)
class DeletionResult:
    """What ``deletion`` found; every tensor has one number per sample, shape ``(N,)``.

    Attributes:
        deletion: Area under the deletion curve, in units of the score; lower is better.
        clean_score: Score of the input itself.
        deletion_baseline_score: Score of the baseline that deletion ends at.
        tied_share: The share of features, 0 to 1, whose importance another feature shares.
        protocol: How the numbers were made, of plain strings and numbers: to write beside a table.
        fractions: With ``return_curves``, the fraction of features replaced, ``(N, points)``.
        deletion_curve: With ``return_curves``, the scores at these fractions, ``(N, points)``.
    """

    deletion: Tensor
    clean_score: Tensor
    deletion_baseline_score: Tensor
    tied_share: Tensor
    protocol: dict[str, Any]
    fractions: Tensor | None = None
    deletion_curve: Tensor | None = None


@shown
@dataclass(frozen=True, eq=False)
class AverageDropResult:
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
@dataclass(frozen=True, eq=False)
class IncreaseInConfidenceResult:
    """What ``increase_in_confidence`` found.

    Attributes:
        increase_in_confidence: The mean of ``increase`` where it is not NaN, in percent, shape
            ``()``; higher is better.
        increase: For each sample, 100 if masking raised its score and 0 if not, ``(N,)``; NaN for
            one that is left out.
        clean_score: Score of the input itself, ``(N,)``.
        masked_score: Score of the input masked with the map, ``(N,)``.
        protocol: How the numbers were made, of plain strings and numbers.
    """

    increase_in_confidence: Tensor
    increase: Tensor
    clean_score: Tensor
    masked_score: Tensor
    protocol: dict[str, Any]
