"""Faithfulness and localization metrics for the attributions of any method."""

from captum_tgrad.metrics.average_drop import average_drop, increase_in_confidence
from captum_tgrad.metrics.baselines import blur, mean_color, zeros
from captum_tgrad.metrics.grid_pointing_game import grid_pointing_game
from captum_tgrad.metrics.insertion_deletion import deletion, insertion, insertion_deletion
from captum_tgrad.metrics.mass_in_mask import energy_in_mask, mass_accuracy, rank_accuracy
from captum_tgrad.metrics.pointing_game import pointing_game
from captum_tgrad.metrics.registry import HIGHER_IS_BETTER
from captum_tgrad.metrics.results import (
    AverageDropResult,
    DeletionResult,
    EnergyInMaskResult,
    GridPointingGameResult,
    IncreaseInConfidenceResult,
    InsertionDeletionResult,
    InsertionResult,
    MassAccuracyResult,
    PointingGameResult,
    RankAccuracyResult,
    RoadResult,
)
from captum_tgrad.metrics.road import road

__all__ = [
    "HIGHER_IS_BETTER",
    "AverageDropResult",
    "DeletionResult",
    "EnergyInMaskResult",
    "GridPointingGameResult",
    "IncreaseInConfidenceResult",
    "InsertionDeletionResult",
    "InsertionResult",
    "MassAccuracyResult",
    "PointingGameResult",
    "RankAccuracyResult",
    "RoadResult",
    "average_drop",
    "blur",
    "deletion",
    "energy_in_mask",
    "grid_pointing_game",
    "increase_in_confidence",
    "insertion",
    "insertion_deletion",
    "mass_accuracy",
    "mean_color",
    "pointing_game",
    "rank_accuracy",
    "road",
    "zeros",
]
