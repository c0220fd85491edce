"""T-Grad for Captum: which pixels made it say that, completely."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from captum_tgrad.attribution.cam import CamAttribution
    from captum_tgrad.attribution.full_grad import FullGradAttribution
    from captum_tgrad.attribution.layer_t_grad import LayerTGradAttribution
    from captum_tgrad.attribution.t_grad import TGradAttribution
    from captum_tgrad.decomposition.terms import Decomposition, Term

__version__ = "0.1.0"

__all__ = [
    "CamAttribution",
    "Decomposition",
    "FullGradAttribution",
    "LayerTGradAttribution",
    "TGradAttribution",
    "Term",
]

_HOMES = {
    "CamAttribution": "captum_tgrad.attribution.cam",
    "Decomposition": "captum_tgrad.decomposition.terms",
    "FullGradAttribution": "captum_tgrad.attribution.full_grad",
    "LayerTGradAttribution": "captum_tgrad.attribution.layer_t_grad",
    "TGradAttribution": "captum_tgrad.attribution.t_grad",
    "Term": "captum_tgrad.decomposition.terms",
}


# To a type checker, a module with a __getattr__ has every name.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        # Importing captum imports matplotlib: only whoever asks for a method waits for it.
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
