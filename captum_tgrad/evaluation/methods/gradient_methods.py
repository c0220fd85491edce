"""Methods that follow the gradient of the output with respect to the image."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from captum import attr
from torch import Tensor, nn

from captum_tgrad._support.own_randomness import own_randomness
from captum_tgrad.attribution.full_grad import FullGradAttribution
from captum_tgrad.attribution.t_grad import TGradAttribution
from captum_tgrad.decomposition.combine import Aggregation
from captum_tgrad.evaluation.methods.batches import black_batch, leaf, one_by_one
from captum_tgrad.evaluation.methods.method import Black, Compute

INTEGRATION_STEPS = 50
NOISE_SAMPLES = 50
NOISE_SIGMA = 0.1


def t_grad_builder(aggregation: Aggregation) -> Callable[[nn.Module, Black], Compute]:
    """Returns a builder for T-Grad, the only method with a residual."""

    def build(model: nn.Module, black: Black) -> Compute:
        return partial(
            TGradAttribution(model).attribute,
            aggregation=aggregation,
            return_convergence_delta=True,
        )

    return build


def build_full_grad(model: nn.Module, black: Black) -> Compute:
    """FullGrad, from the same terms as T-Grad."""
    return FullGradAttribution(model).attribute


def captum_builder(class_name: str) -> Callable[[nn.Module, Black], Compute]:
    """Returns a builder for a class of Captum that needs nothing but the inputs and the targets."""

    def build(model: nn.Module, black: Black) -> Compute:
        method = getattr(attr, class_name)(model)
        return lambda inputs, target: method.attribute(leaf(inputs), target)

    return build


def build_integrated_gradients(model: nn.Module, black: Black) -> Compute:
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


def build_smooth_grad(model: nn.Module, black: Black) -> Compute:
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


def build_random(model: nn.Module, black: Black) -> Compute:
    """Uniform random numbers, the chance level; an image has the same ones on every device."""

    def compute(image: Tensor, target: Tensor, seed: int, examples_at_once: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.rand((1, 1, *image.shape[2:]), generator=generator, device="cpu").to(image)

    return one_by_one(compute)
