"""The attribution methods, as Captum classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from captum_tgrad._support.lazy import lazy

if TYPE_CHECKING:
    from captum_tgrad.attribution.cam import CamAttribution as CamAttribution
    from captum_tgrad.attribution.full_grad import FullGradAttribution as FullGradAttribution
    from captum_tgrad.attribution.layer_t_grad import LayerTGradAttribution as LayerTGradAttribution
    from captum_tgrad.attribution.t_grad import TGradAttribution as TGradAttribution

# To a type checker, a module with a __getattr__ has every name.
if not TYPE_CHECKING:
    __getattr__, __dir__, __all__ = lazy(
        __name__,
        {
            "CamAttribution": "cam",
            "FullGradAttribution": "full_grad",
            "LayerTGradAttribution": "layer_t_grad",
            "TGradAttribution": "t_grad",
        },
    )
