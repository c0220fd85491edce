"""The results of the metrics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from captum_tgrad._support.show import Result


@dataclass(frozen=True, eq=False, repr=False)
class InsertionDeletionResult(Result):
    """Result of ``insertion_deletion``; every tensor has one number per sample, shape ``(N,)``.

    Attributes:
        insertion: Area under the insertion curve, in units of the score; higher is better.
        deletion: Area under the deletion curve; lower is better.
        difference: ``insertion - deletion``; higher is better.
        clean_score: Score of the input itself.
        insertion_baseline_score: Score of the baseline that insertion starts from.
        deletion_baseline_score: Score of the baseline that deletion ends at; equal to the former if
            both curves have one baseline.
        tied_share: The share of features, 0 to 1, whose importance equals that of another.
        protocol: How the numbers were computed, as plain strings and numbers.
        fractions: With ``return_curves``, the fraction of features replaced, ``(N, points)``.
        insertion_curve: With ``return_curves``, the scores at these fractions, ``(N, points)``.
        deletion_curve: With ``return_curves``, the scores at these fractions, ``(N, points)``.
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


@dataclass(frozen=True, eq=False, repr=False)
class InsertionResult(Result):
    """Result of ``insertion``; the attributes are those of ``InsertionDeletionResult``."""

    insertion: Tensor
    clean_score: Tensor
    insertion_baseline_score: Tensor
    tied_share: Tensor
    protocol: dict[str, Any]
    fractions: Tensor | None = None
    insertion_curve: Tensor | None = None


@dataclass(frozen=True, eq=False, repr=False)
class DeletionResult(Result):
    """Result of ``deletion``; the attributes are those of ``InsertionDeletionResult``."""

    deletion: Tensor
    clean_score: Tensor
    deletion_baseline_score: Tensor
    tied_share: Tensor
    protocol: dict[str, Any]
    fractions: Tensor | None = None
    deletion_curve: Tensor | None = None


@dataclass(frozen=True, eq=False, repr=False)
class AverageDropResult(Result):
    """Result of ``average_drop``.

    Attributes:
        average_drop: The mean of ``drop`` where it is not NaN, in percent, shape ``()``; lower is
            better.
        drop: The percentage of the score that each sample loses, ``(N,)``; NaN for omitted samples.
        clean_score: Score of the input itself, ``(N,)``.
        masked_score: Score of the input masked with the map, ``(N,)``.
        protocol: How the numbers were computed, as plain strings and numbers.
    """

    average_drop: Tensor
    drop: Tensor
    clean_score: Tensor
    masked_score: Tensor
    protocol: dict[str, Any]


@dataclass(frozen=True, eq=False, repr=False)
class IncreaseInConfidenceResult(Result):
    """Result of ``increase_in_confidence``.

    Attributes:
        increase_in_confidence: The mean of ``increase`` where it is not NaN, in percent, shape
            ``()``; higher is better.
        increase: For each sample, 100 if masking raised its score and 0 if not, ``(N,)``; NaN for
            omitted samples.
        clean_score: Score of the input itself, ``(N,)``.
        masked_score: Score of the input masked with the map, ``(N,)``.
        protocol: How the numbers were computed, as plain strings and numbers.
    """

    increase_in_confidence: Tensor
    increase: Tensor
    clean_score: Tensor
    masked_score: Tensor
    protocol: dict[str, Any]


@dataclass(frozen=True, eq=False, repr=False)
class PointingGameResult(Result):
    """Result of ``pointing_game``; every tensor has one number per sample, shape ``(N,)``.

    Attributes:
        pointing_game: 1 for a hit and 0 for a miss; higher is better.
        chance: The expected score of a random map.
        protocol: How the numbers were computed, as plain strings and numbers.
    """

    pointing_game: Tensor
    chance: Tensor
    protocol: dict[str, Any]


@dataclass(frozen=True, eq=False, repr=False)
class EnergyInMaskResult(Result):
    """Result of ``energy_in_mask``; the other attributes are those of ``PointingGameResult``.

    Attributes:
        energy_in_mask: The share of the positive attribution, 0 to 1; higher is better.
    """

    energy_in_mask: Tensor
    chance: Tensor
    protocol: dict[str, Any]


@dataclass(frozen=True, eq=False, repr=False)
class MassAccuracyResult(Result):
    """Result of ``mass_accuracy``; the other attributes are those of ``PointingGameResult``.

    Attributes:
        mass_accuracy: The share of the absolute attribution, 0 to 1; higher is better.
    """

    mass_accuracy: Tensor
    chance: Tensor
    protocol: dict[str, Any]


@dataclass(frozen=True, eq=False, repr=False)
class RankAccuracyResult(Result):
    """Result of ``rank_accuracy``; the other attributes are those of ``PointingGameResult``.

    Attributes:
        rank_accuracy: The share of the highest-ranked pixels, 0 to 1; higher is better.
    """

    rank_accuracy: Tensor
    chance: Tensor
    protocol: dict[str, Any]


@dataclass(frozen=True, eq=False, repr=False)
class GridPointingGameResult(Result):
    """Result of ``grid_pointing_game``.

    Attributes:
        grid_pointing_game: For each grid, the mean over its cells, ``(grids,)``; higher is better.
        chance: The expected score of a random map, ``(grids,)``.
        cells: For each cell, the share of the map of its class inside the cell, ``(grids, cells)``,
            row by row.
        images: The index of the input in each cell, ``(grids, cells)``.
        targets: The class of each cell, ``(grids, cells)``.
        protocol: How the numbers were computed, as plain strings and numbers.
    """

    grid_pointing_game: Tensor
    chance: Tensor
    cells: Tensor
    images: Tensor
    targets: Tensor
    protocol: dict[str, Any]


@dataclass(frozen=True, eq=False, repr=False)
class RoadResult(Result):
    """Result of ``road``; unless stated otherwise, one number per sample, shape ``(N,)``.

    Attributes:
        road: Half of ``least_relevant_first - most_relevant_first``; higher is better.
        most_relevant_first: The change of the score, averaged over the percentages, when the most
            relevant pixels are replaced; lower is better.
        least_relevant_first: The same for the least relevant pixels; higher is better.
        clean_score: Score of the input itself.
        most_relevant_scores: The scores at each percentage, ``(N, percentages)``.
        least_relevant_scores: The scores at each percentage, ``(N, percentages)``.
        protocol: How the numbers were computed, as plain strings and numbers.
    """

    road: Tensor
    most_relevant_first: Tensor
    least_relevant_first: Tensor
    clean_score: Tensor
    most_relevant_scores: Tensor
    least_relevant_scores: Tensor
    protocol: dict[str, Any]
