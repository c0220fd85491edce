"""Figures of attributions. matplotlib is imported when one is drawn, not before."""

from captum_tgrad.visualization.explanation import explanation_figure
from captum_tgrad.visualization.layers import layers_figure
from captum_tgrad.visualization.pictures import as_pictures
from captum_tgrad.visualization.term_scores import term_scores_figure

__all__ = ["as_pictures", "explanation_figure", "layers_figure", "term_scores_figure"]
