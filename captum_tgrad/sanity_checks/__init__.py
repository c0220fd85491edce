"""Whether an attribution depends on what the network has learned."""

from captum_tgrad.sanity_checks.cascade import RandomizationStep, cascading_randomization

__all__ = ["RandomizationStep", "cascading_randomization"]
