"""T-Grad for Captum: which pixels made it say that, completely."""

from captum_tgrad.attribution.t_grad import TGradAttribution
from captum_tgrad.decomposition.terms import Decomposition, Term

__version__ = "0.1.0"

__all__ = ["Decomposition", "TGradAttribution", "Term"]
