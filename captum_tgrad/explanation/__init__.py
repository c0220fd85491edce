"""Explains a classifier's predictions for images by the T-Grad map and its terms."""

from captum_tgrad.explanation.explain import explain
from captum_tgrad.explanation.explanation import Explanation, Prediction, Rival, TermScore
from captum_tgrad.explanation.text_report import format_report

__all__ = ["Explanation", "Prediction", "Rival", "TermScore", "explain", "format_report"]
