"""Figures of attributions. matplotlib is imported when one is drawn, not before."""

from captum_tgrad.visualization.evaluation_figures import metrics_figure, seconds_figure
from captum_tgrad.visualization.explanation import explanation_figure

__all__ = ["explanation_figure", "metrics_figure", "seconds_figure"]
