"""Figures of attributions, and reports of figures and tables."""

from captum_tgrad.visualization.cascade_figures import cascade_figure
from captum_tgrad.visualization.curve_figures import curves_figure
from captum_tgrad.visualization.evaluation_figures import metrics_figure, seconds_figure
from captum_tgrad.visualization.explanation_figures import explanation_figure
from captum_tgrad.visualization.html_report import Report
from captum_tgrad.visualization.image_arrays import as_images
from captum_tgrad.visualization.layer_figures import layers_figure
from captum_tgrad.visualization.method_figures import methods_figure
from captum_tgrad.visualization.perturbed_images import replaced_images
from captum_tgrad.visualization.similarity_figures import similarity_figure
from captum_tgrad.visualization.term_scores import term_scores_figure
from captum_tgrad.visualization.walkthrough.document import walkthrough_page
from captum_tgrad.visualization.walkthrough.numbers import View

__all__ = [
    "Report",
    "View",
    "as_images",
    "cascade_figure",
    "curves_figure",
    "explanation_figure",
    "layers_figure",
    "methods_figure",
    "metrics_figure",
    "replaced_images",
    "seconds_figure",
    "similarity_figure",
    "term_scores_figure",
    "walkthrough_page",
]
