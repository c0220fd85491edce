"""Figures of attributions, and reports of figures and tables.

matplotlib and Captum are imported when a name is first used, not before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from captum_tgrad._support.lazy import lazy

if TYPE_CHECKING:
    from captum_tgrad.visualization.cascade_figures import cascade_figure as cascade_figure
    from captum_tgrad.visualization.curve_figures import curves_figure as curves_figure
    from captum_tgrad.visualization.evaluation_figures import metrics_figure as metrics_figure
    from captum_tgrad.visualization.evaluation_figures import seconds_figure as seconds_figure
    from captum_tgrad.visualization.explanation_figures import (
        explanation_figure as explanation_figure,
    )
    from captum_tgrad.visualization.html_report import Report as Report
    from captum_tgrad.visualization.image_arrays import as_images as as_images
    from captum_tgrad.visualization.layer_figures import layers_figure as layers_figure
    from captum_tgrad.visualization.method_figures import methods_figure as methods_figure
    from captum_tgrad.visualization.perturbed_images import replaced_images as replaced_images
    from captum_tgrad.visualization.similarity_figures import similarity_figure as similarity_figure
    from captum_tgrad.visualization.term_scores import term_scores_figure as term_scores_figure
    from captum_tgrad.visualization.walkthrough.document import walkthrough_page as walkthrough_page
    from captum_tgrad.visualization.walkthrough.numbers import View as View

# To a type checker, a module with a __getattr__ has every name.
if not TYPE_CHECKING:
    # The metrics, whose results are drawn here, import captum, and that imports matplotlib.
    __getattr__, __dir__, __all__ = lazy(
        __name__,
        {
            "Report": "html_report",
            "View": "walkthrough.numbers",
            "as_images": "image_arrays",
            "cascade_figure": "cascade_figures",
            "curves_figure": "curve_figures",
            "explanation_figure": "explanation_figures",
            "layers_figure": "layer_figures",
            "methods_figure": "method_figures",
            "metrics_figure": "evaluation_figures",
            "replaced_images": "perturbed_images",
            "seconds_figure": "evaluation_figures",
            "similarity_figure": "similarity_figures",
            "term_scores_figure": "term_scores",
            "walkthrough_page": "walkthrough.document",
        },
    )
