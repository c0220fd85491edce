"""Faithfulness metrics: functions of a model, its inputs and the attributions of any method."""

from captum_tgrad.metrics.average_drop import average_drop, increase_in_confidence
from captum_tgrad.metrics.baselines import blur, mean_color, zeros
from captum_tgrad.metrics.insertion_deletion import deletion, insertion, insertion_deletion
from captum_tgrad.metrics.registry import HIGHER_IS_BETTER
from captum_tgrad.metrics.results import (
    AverageDropResult,
    DeletionResult,
    IncreaseInConfidenceResult,
    InsertionDeletionResult,
    InsertionResult,
)

__all__ = [
    "HIGHER_IS_BETTER",
    "AverageDropResult",
    "DeletionResult",
    "IncreaseInConfidenceResult",
    "InsertionDeletionResult",
    "InsertionResult",
    "average_drop",
    "blur",
    "deletion",
    "increase_in_confidence",
    "insertion",
    "insertion_deletion",
    "mean_color",
    "zeros",
]
