"""Class activation maps of the last convolution: Captum's own, and the grad-cam package's."""

from __future__ import annotations

from collections.abc import Callable

from captum.attr import LayerGradCam
from torch import Tensor, nn

from captum_tgrad._support.optional import import_from_extra
from captum_tgrad.attribution.cam import CamAttribution
from captum_tgrad.attribution.probe import Probe
from captum_tgrad.evaluation.methods.batches import leaf, one_by_one
from captum_tgrad.evaluation.methods.method import Black, Compute


def build_grad_cam(model: nn.Module, black: Black) -> Compute:
    """Captum's LayerGradCam, with the final ReLU of Grad-CAM."""
    methods: list[LayerGradCam] = []

    def compute(inputs: Tensor, target: Tensor) -> Tensor:
        if not methods:  # The layer is known only once the model has run.
            methods.append(LayerGradCam(model, Probe(model, inputs[:1]).last_convolution()))
        attributions: Tensor = methods[0].attribute(leaf(inputs), target, relu_attributions=True)
        return attributions

    return compute


def cam_builder(class_name: str) -> Callable[[nn.Module, Black], Compute]:
    """Returns a builder for a class of the grad-cam package, which uses the same layer."""

    def build(model: nn.Module, black: Black) -> Compute:
        cam_class = getattr(import_from_extra("pytorch_grad_cam", "cam"), class_name)
        return CamAttribution(model, cam_class).attribute

    return build


def build_score_cam(model: nn.Module, black: Black) -> Compute:
    """Score-CAM, one image at a time: it holds the image once for every channel of the layer."""
    cam_class = import_from_extra("pytorch_grad_cam", "cam").ScoreCAM

    def compute(image: Tensor, target: Tensor, seed: int, examples_at_once: int) -> Tensor:
        method = CamAttribution(model, cam_class, batch_size=examples_at_once)
        attributions: Tensor = method.attribute(image, target)
        return attributions

    return one_by_one(compute)
