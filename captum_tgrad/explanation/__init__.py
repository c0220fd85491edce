"""Explanations of a classifier's answers for images: the T-Grad map with its terms."""

from captum_tgrad.explanation.explain import explain
from captum_tgrad.explanation.explanation import Explanation, Prediction, Rival, TermScore
from captum_tgrad.explanation.text_report import format_report

__all__ = ["Explanation", "Prediction", "Rival", "TermScore", "explain", "format_report"]
