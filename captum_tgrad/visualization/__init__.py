"""Figures of attributions. matplotlib is imported when one is drawn, not before."""

from captum_tgrad.visualization.explanation import explanation_figure
from captum_tgrad.visualization.pictures import as_pictures

__all__ = ["as_pictures", "explanation_figure"]
