"""The numbers that the metrics return, with their headings and directions."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Number:
    """A number that a metric returns for each sample.

    Attributes:
        heading: Its name in tables and figures.
        higher_is_better: Whether a higher number is better for the attribution.
        function: The metric that returns it.
        field: The field of that metric's result, ``(N,)``.
        unit: ``"%"`` for percentages, empty for numbers in units of the score.
    """

    heading: str
    higher_is_better: bool
    function: str
    field: str
    unit: str = ""

    @property
    def title(self) -> str:
        """The heading with its unit."""
        return f"{self.heading}, {self.unit}" if self.unit else self.heading


NUMBERS = {
    "insertion": Number("Insertion", True, "insertion_deletion", "insertion"),
    "deletion": Number("Deletion", False, "insertion_deletion", "deletion"),
    "difference": Number("Insertion - Deletion", True, "insertion_deletion", "difference"),
    "average_drop": Number("Average Drop", False, "average_drop", "drop", "%"),
    "increase_in_confidence": Number(
        "Increase in Confidence", True, "increase_in_confidence", "increase", "%"
    ),
}
"""By name in records, summaries and figures, in the order of a table."""

LOCALIZATION_NUMBERS = {
    name: Number(heading, True, name, name)
    for name, heading in {
        "pointing_game": "Pointing Game",
        "energy_in_mask": "Energy in Mask",
        "mass_accuracy": "Mass Accuracy",
        "rank_accuracy": "Rank Accuracy",
    }.items()
}
"""The same for the localization metrics."""

ALL_NUMBERS = {
    **NUMBERS,
    **LOCALIZATION_NUMBERS,
    "grid_pointing_game": Number(
        "Grid Pointing Game", True, "grid_pointing_game", "grid_pointing_game"
    ),
    "road": Number("ROAD", True, "road", "road"),
}
"""All of them, also those that ``evaluate`` does not record."""

HIGHER_IS_BETTER = {name: number.higher_is_better for name, number in ALL_NUMBERS.items()}
"""For each number of a metric, whether higher is better (``metrics.HIGHER_IS_BETTER``)."""
