"""The attribution methods, as Captum classes."""

from captum_tgrad.attribution.cam import CamAttribution
from captum_tgrad.attribution.full_grad import FullGradAttribution
from captum_tgrad.attribution.layer_t_grad import LayerTGradAttribution
from captum_tgrad.attribution.t_grad import TGradAttribution

__all__ = ["CamAttribution", "FullGradAttribution", "LayerTGradAttribution", "TGradAttribution"]
