"""Sanity checks: whether an attribution depends on the learned parameters."""

from captum_tgrad.sanity_checks.cascade import RandomizationStep, cascading_randomization
from captum_tgrad.sanity_checks.mprt import (
    EfficientMprtResult,
    SmoothMprtResult,
    efficient_mprt,
    smooth_mprt,
)

__all__ = [
    "EfficientMprtResult",
    "RandomizationStep",
    "SmoothMprtResult",
    "cascading_randomization",
    "efficient_mprt",
    "smooth_mprt",
]
