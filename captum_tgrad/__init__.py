"""T-Grad for Captum: attributions that add up exactly to the output of a model."""

from captum_tgrad._support.lazy import lazy

# As in typing, which neither this nor ``lazy`` imports: with ``python -m captum_tgrad`` both run
# before ``__main__`` can take the working folder, where anything may lie, from the path.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from captum_tgrad.attribution.cam import CamAttribution as CamAttribution
    from captum_tgrad.attribution.full_grad import FullGradAttribution as FullGradAttribution
    from captum_tgrad.attribution.layer_t_grad import LayerTGradAttribution as LayerTGradAttribution
    from captum_tgrad.attribution.t_grad import TGradAttribution as TGradAttribution
    from captum_tgrad.decomposition.decomposition import Decomposition as Decomposition
    from captum_tgrad.decomposition.term import Term as Term

__version__ = "0.1.0"

# To a type checker, a module with a __getattr__ has every name.
if not TYPE_CHECKING:
    # Importing captum imports matplotlib: import it on first use only.
    __getattr__, __dir__, __all__ = lazy(
        __name__,
        {
            "CamAttribution": "attribution",
            "Decomposition": "decomposition.decomposition",
            "FullGradAttribution": "attribution",
            "LayerTGradAttribution": "attribution",
            "TGradAttribution": "attribution",
            "Term": "decomposition.term",
        },
        [
            "attribution",
            "evaluation",
            "explanation",
            "metrics",
            "sanity_checks",
            "visualization",
            "zoo",
        ],
    )
