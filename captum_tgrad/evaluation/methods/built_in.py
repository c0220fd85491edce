"""The built-in methods by name: those of the paper's Table 1, further ones, and a control."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial

from captum_tgrad._support.suggest import did_you_mean
from captum_tgrad.evaluation.methods import builders
from captum_tgrad.evaluation.methods.method import Builder, Method

_TO_THE_LAYER = "1 forward pass, 1 backward pass to the layer"


def _one_pass(name: str, title: str, builder: Builder, source: str) -> Method:
    return Method(name, title, "1 forward and 1 backward pass", builder, source=source)


def _captum(name: str, title: str, class_name: str, source: str) -> Method:
    return _one_pass(name, title, partial(builders.captum_class, class_name), source)


def _cam(name: str, title: str, class_name: str, source: str, cost: str = _TO_THE_LAYER) -> Method:
    builder = partial(builders.cam_class, class_name)
    return Method(name, title, cost, builder, source=source, extra="cam")


_METHODS = (
    _one_pass("t_grad", "T-Grad", partial(builders.t_grad, "paper"), "Tran et al., eq. 8"),
    _one_pass(
        "t_grad_levels",
        "T-Grad (levels)",
        partial(builders.t_grad, "levels"),
        "captum_tgrad",
    ),
    _one_pass("full_grad", "FullGrad", builders.full_grad, "Srinivas and Fleuret 2019"),
    _captum("saliency", "Vanilla Gradient", "Saliency", "Simonyan et al. 2013"),
    _captum("input_x_gradient", "Input x Gradient", "InputXGradient", "Shrikumar et al. 2016"),
    Method(
        "integrated_gradients",
        "Integrated Gradients",
        f"{builders.INTEGRATION_STEPS} forward and backward passes",
        builders.integrated_gradients,
        {"n_steps": builders.INTEGRATION_STEPS, "baseline": "black image"},
        source="Sundararajan et al. 2017",
    ),
    Method(
        "smooth_grad",
        "SmoothGrad",
        f"{builders.NOISE_SAMPLES} forward and backward passes",
        builders.smooth_grad,
        {"samples": builders.NOISE_SAMPLES, "sigma": builders.NOISE_SIGMA},
        source="Smilkov et al. 2017",
    ),
    Method(
        "grad_cam", "Grad-CAM", _TO_THE_LAYER, builders.grad_cam, source="Selvaraju et al. 2017"
    ),
    _cam("grad_cam_plus_plus", "Grad-CAM++", "GradCAMPlusPlus", "Chattopadhay et al. 2018"),
    _cam(
        "eigen_cam",
        "Eigen-CAM",
        "EigenCAM",
        "Muhammad and Yeasin 2020",
        "1 forward pass, a singular value decomposition",
    ),
    Method(
        "score_cam",
        "Score-CAM",
        "1 forward pass for each channel of the layer",
        builders.score_cam,
        source="Wang et al. 2020",
        extra="cam",
    ),
    _cam("x_grad_cam", "XGrad-CAM", "XGradCAM", "Fu et al. 2020"),
    Method("random", "Random", "none", builders.random, source="a control"),
)

METHODS: Mapping[str, Method] = {method.name: method for method in _METHODS}
"""All built-in methods by name, in the order of tables (``evaluation.METHODS``).

The standard deviation of SmoothGrad's noise is in units of the normalized input. Integrated
Gradients starts from a black image, which is rarely 0 after normalization. Class activation maps
use the last convolution.
"""


def get_method(name: str, further: Mapping[str, Method] | None = None) -> Method:
    """Finds a method.

    Args:
        name: Its name, or its title.
        further: Additional methods by name, as from ``read_methods``.

    Raises:
        ValueError: No method has this name; the message suggests similar names.

    Example:
        >>> get_method("integrated_gradients").cost
        '50 forward and backward passes'
    """
    known = {**METHODS, **(further or {})}
    if name in known:
        return known[name]
    for method in known.values():  # tables show titles
        if method.title.casefold() == name.strip().casefold():
            return method
    wanted = name.strip().casefold().replace("-", "_").replace(" ", "_")
    advice = did_you_mean(wanted, known, f"choose from {', '.join(known)}", cutoff=0.5)
    raise ValueError(f"method {name!r} not found: {advice}")


def checked_methods(methods: Sequence[str | Method]) -> list[Method]:
    """The methods, with names looked up in ``METHODS``; raises TypeError or ValueError."""
    if isinstance(methods, str):
        raise TypeError(f"methods must be a list of names, got a string: pass [{methods!r}].")
    chosen = [get_method(each) if isinstance(each, str) else each for each in methods]
    for each in chosen:
        if not isinstance(each, Method):
            raise TypeError(
                f"methods must hold names or Methods, got {type(each).__name__}. For T-Grad, pass"
                " 't_grad'; for another attribution, a captum_tgrad.evaluation.Method."
            )
    if not chosen:
        raise ValueError("methods is empty: pass at least one name or Method.")
    names = [each.name for each in chosen]
    if len(set(names)) < len(names):
        raise ValueError(f"methods must be distinct, got {names}")
    return chosen


def titles_of(methods: Sequence[Method]) -> dict[str, str]:
    """The titles of methods by name; equal titles are followed by the names."""
    count = Counter(method.title for method in methods)
    return {
        method.name: method.title if count[method.title] == 1 else f"{method.title} ({method.name})"
        for method in methods
    }
