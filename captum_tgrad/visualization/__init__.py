"""Figures of attributions. matplotlib is imported when one is drawn, not before."""

from captum_tgrad.visualization.explanation import explanation_figure

__all__ = ["explanation_figure"]
