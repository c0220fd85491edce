"""Builders of the built-in methods, and helpers for batches.

Class activation maps are those of the last convolution.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from captum import attr
from torch import Tensor, nn

from captum_tgrad._support.extras import import_from_extra
from captum_tgrad._support.random_state import own_randomness
from captum_tgrad.attribution.cam import CamAttribution
from captum_tgrad.attribution.cam_checks import Probe
from captum_tgrad.attribution.full_grad import FullGradAttribution
from captum_tgrad.attribution.t_grad import TGradAttribution
from captum_tgrad.decomposition.maps.combine import Aggregation
from captum_tgrad.evaluation.methods.method import Black, Compute

ComputeOne = Callable[[Tensor, Tensor, int, int], Tensor]
"""From one image ``(1, C, H, W)``, its target ``(1,)``, its seed and examples at once to a map."""


def one_by_one(compute_one: ComputeOne) -> Compute:
    """Explains the images of a batch one by one.

    For methods whose random numbers must not depend on the other images of the batch, or which
    need much memory for each image.
    """

    def compute(
        inputs: Tensor, target: Tensor, seeds: Sequence[int], examples_at_once: int
    ) -> Tensor:
        ones = zip(torch.split(inputs, 1), torch.split(target, 1), seeds, strict=True)
        return torch.cat([compute_one(*one, examples_at_once) for one in ones])

    return compute


def leaf(inputs: Tensor) -> Tensor:
    """A copy that requires a gradient: Captum would set it on the user's tensor, and warn."""
    return inputs.detach().clone().requires_grad_()


def black_batch(black: Black, inputs: Tensor) -> Tensor:
    """The black image, repeated for each image of the batch."""
    return torch.as_tensor(black).to(inputs).expand_as(inputs).contiguous()


INTEGRATION_STEPS = 50
NOISE_SAMPLES = 50
NOISE_SIGMA = 0.1


def t_grad(aggregation: Aggregation, model: nn.Module, black: Black) -> Compute:
    """T-Grad, the only method with a residual."""
    attribute = TGradAttribution(model).attribute
    return partial(attribute, aggregation=aggregation, return_convergence_delta=True)


def full_grad(model: nn.Module, black: Black) -> Compute:
    """FullGrad, from the same terms as T-Grad."""
    return FullGradAttribution(model).attribute


def captum_class(class_name: str, model: nn.Module, black: Black) -> Compute:
    """A class of Captum that needs nothing but the inputs and the targets."""
    method = getattr(attr, class_name)(model)
    return lambda inputs, target: method.attribute(leaf(inputs), target)


def integrated_gradients(model: nn.Module, black: Black) -> Compute:
    """Integrated Gradients with a black image as the baseline."""
    method = attr.IntegratedGradients(model)

    def compute(inputs: Tensor, target: Tensor, examples_at_once: int) -> Tensor:
        attributions: Tensor = method.attribute(
            leaf(inputs),
            baselines=black_batch(black, inputs),
            target=target,
            n_steps=INTEGRATION_STEPS,
            # Captum would raise a smaller number to the number of images, with a warning.
            internal_batch_size=max(examples_at_once, len(inputs)),
        )
        # Captum computes the steps in double precision.
        return attributions.to(inputs.dtype)

    return compute


def smooth_grad(model: nn.Module, black: Black) -> Compute:
    """The mean magnitude of the gradient around the image."""
    method = attr.NoiseTunnel(attr.Saliency(model))

    def compute(image: Tensor, target: Tensor, seed: int, examples_at_once: int) -> Tensor:
        with own_randomness(seed, image.device):
            attributions: Tensor = method.attribute(
                leaf(image),
                target=target,
                nt_samples=NOISE_SAMPLES,
                # Also for a short last batch, since the noise depends on the size of the chunks.
                nt_samples_batch_size=min(NOISE_SAMPLES, examples_at_once),
                stdevs=NOISE_SIGMA,
            )
        return attributions

    return one_by_one(compute)


def random(model: nn.Module, black: Black) -> Compute:
    """Uniform random numbers, the chance level; an image has the same ones on every device."""

    def compute(image: Tensor, target: Tensor, seed: int, examples_at_once: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.rand((1, 1, *image.shape[2:]), generator=generator, device="cpu").to(image)

    return one_by_one(compute)


def grad_cam(model: nn.Module, black: Black) -> Compute:
    """Captum's LayerGradCam, with the final ReLU of Grad-CAM."""
    methods: list[attr.LayerGradCam] = []

    def compute(inputs: Tensor, target: Tensor) -> Tensor:
        if not methods:  # The layer is known only once the model has run.
            methods.append(attr.LayerGradCam(model, Probe(model, inputs[:1]).last_convolution()))
        attributions: Tensor = methods[0].attribute(leaf(inputs), target, relu_attributions=True)
        return attributions

    return compute


def cam_class(class_name: str, model: nn.Module, black: Black) -> Compute:
    """A class of the grad-cam package, which uses the same layer."""
    found = getattr(import_from_extra("pytorch_grad_cam", "cam"), class_name)
    return CamAttribution(model, found).attribute


def score_cam(model: nn.Module, black: Black) -> Compute:
    """Score-CAM, one image at a time: it holds the image once for every channel of the layer."""
    score_cam_class = import_from_extra("pytorch_grad_cam", "cam").ScoreCAM

    def compute(image: Tensor, target: Tensor, seed: int, examples_at_once: int) -> Tensor:
        method = CamAttribution(model, score_cam_class, batch_size=examples_at_once)
        attributions: Tensor = method.attribute(image, target)
        return attributions

    return one_by_one(compute)
