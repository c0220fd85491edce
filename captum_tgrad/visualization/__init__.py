"""Figures of attributions. matplotlib is imported when one is drawn, not before."""

from captum_tgrad.visualization.cascade import cascade_figure
from captum_tgrad.visualization.curves import curves_figure
from captum_tgrad.visualization.explanation import explanation_figure
from captum_tgrad.visualization.layers import layers_figure
from captum_tgrad.visualization.methods import methods_figure
from captum_tgrad.visualization.pictures import as_pictures
from captum_tgrad.visualization.replaced import replaced_images
from captum_tgrad.visualization.similarity import similarity_figure
from captum_tgrad.visualization.term_scores import term_scores_figure

__all__ = [
    "as_pictures",
    "cascade_figure",
    "curves_figure",
    "explanation_figure",
    "layers_figure",
    "methods_figure",
    "replaced_images",
    "similarity_figure",
    "term_scores_figure",
]
