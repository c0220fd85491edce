"""T-Grad for Captum: attributions that add up exactly to the output of a model."""

from importlib import import_module

# As in typing, which this must not import: with ``python -m captum_tgrad`` it runs before
# ``__main__`` can take the working folder, where anything may lie, from the path.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from captum_tgrad.attribution.cam import CamAttribution as CamAttribution
    from captum_tgrad.attribution.full_grad import FullGradAttribution as FullGradAttribution
    from captum_tgrad.attribution.layer_t_grad import LayerTGradAttribution as LayerTGradAttribution
    from captum_tgrad.attribution.t_grad import TGradAttribution as TGradAttribution
    from captum_tgrad.decomposition.decomposition import Decomposition as Decomposition
    from captum_tgrad.decomposition.term import Term as Term

__version__ = "0.1.0"

_HOMES = {
    "CamAttribution": "attribution",
    "Decomposition": "decomposition.decomposition",
    "FullGradAttribution": "attribution",
    "LayerTGradAttribution": "attribution",
    "TGradAttribution": "attribution",
    "Term": "decomposition.term",
}
_PACKAGES = (
    "attribution",
    "evaluation",
    "explanation",
    "metrics",
    "sanity_checks",
    "visualization",
    "zoo",
)
__all__ = list(_HOMES)

# To a type checker, a module with a __getattr__ has every name.
if not TYPE_CHECKING:

    def __getattr__(name):
        # On first use only: importing captum imports matplotlib.
        if name in _HOMES:
            return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        if name in _PACKAGES:
            return import_module(f"{__name__}.{name}")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__():
        return sorted([*_HOMES, *_PACKAGES])
