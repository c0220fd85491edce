"""Computes maps of a network whose parameters change between calls, also averaged over noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from captum_tgrad._support.accelerator import own_randomness
from captum_tgrad._support.captum_private import GradientAttribution, LayerAttribution
from captum_tgrad._support.input_checks import channel_dims
from captum_tgrad._support.model_errors import explaining_errors
from captum_tgrad.decomposition.precision import in_full_precision
from captum_tgrad.sanity_checks.copy_guard import checked_method, mark, only_the_copy_runs


@dataclass
class MapMaker:
    """Computes maps of a model, always with the same method, arguments and seed.

    Attributes:
        factory: From a model to an attribution method.
        model: The copy of the user's model.
        original: The modules of the user's model.
        options: Further arguments of ``attribute``.
    """

    factory: Callable[[Any], Any]
    model: nn.Module
    original: set[nn.Module]
    inputs: Tensor
    target: Any
    additional_forward_args: Any
    options: dict[str, Any]
    seed: int

    def __post_init__(self) -> None:
        mark(self.model)

    def forward(self) -> Any:
        """The output of the copy in evaluation mode, which does not update running statistics."""
        further = self.additional_forward_args
        if not isinstance(further, tuple):
            further = () if further is None else (further,)
        training = [module for module in self.model.modules() if module.training]
        self.model.eval()
        try:
            with explaining_errors(self.model, (self.inputs,)):
                return self.model(self.inputs.detach().clone(), *further)
        finally:
            for module in training:
                module.training = True

    def choose_target(self, output: Any) -> None:
        """Sets a missing target to the predicted class, if the method needs a target."""
        explains_the_copy = getattr(self._method(), "forward_func", None) is self.model
        several = isinstance(output, Tensor) and output.dim() == 2 and output.shape[1] > 1
        if self.target is None and explains_the_copy and several:
            self.target = output.argmax(1)

    def map(self, after: str | None = None) -> Tensor:
        """The attribution of the network as it is, summed over channels.

        ``after`` is the layer that was randomized last, for messages. Raises TypeError or
        ValueError unless the method returns one map of the copy for each sample.
        """
        arguments = dict(self.options)
        if self.additional_forward_args is not None:
            arguments["additional_forward_args"] = self.additional_forward_args
        with (
            torch.inference_mode(False),
            torch.enable_grad(),
            own_randomness(self.seed, self.inputs.device),
            only_the_copy_runs(self.original),
        ):
            # A copy for every call: models may overwrite it.
            inputs = self.inputs.detach().clone()
            method = self._method()
            if isinstance(method, GradientAttribution) and not isinstance(method, LayerAttribution):
                # Captum does the same, but warns about it, as if the user had passed the copy.
                inputs.requires_grad_()
            attributions = method.attribute(inputs, target=self.target, **arguments)
        return self._summed(attributions, after)

    def _method(self) -> Any:
        return checked_method(self.factory(self.model), self.original)

    def _summed(self, attributions: Any, after: str | None) -> Tensor:
        when = "" if after is None else f" after {after!r} was randomized"
        attributions = one_tensor(attributions, when)
        samples = len(self.inputs)
        if attributions.dim() < 2 or len(attributions) != samples:
            raise ValueError(
                f"attribute returned shape {tuple(attributions.shape)}{when} for {samples} samples;"
                " maps must have shape (N, channels, *spatial) or (N, features)."
            )
        summed: Tensor = attributions.detach()
        if summed.dim() == 2:
            return summed
        (dim,) = channel_dims(self.options.get("channel_dim", 1), (summed,))
        return (summed if dim is None else summed.sum(dim)).unsqueeze(1)


def one_tensor(attributions: Any, when: str = "") -> Tensor:
    """The attributions of one input; raises TypeError unless they are one tensor."""
    if isinstance(attributions, tuple) and len(attributions) == 1:
        attributions = attributions[0]
    if not isinstance(attributions, Tensor):
        raise TypeError(
            f"attribute must return a tensor, got {type(attributions).__name__}{when}. Leave"
            " options such as return_convergence_delta out of attribute_kwargs."
        )
    return attributions


class Smoothed:
    """An attribution method whose maps are averaged over noise, for ``smooth_mprt``.

    Captum's ``NoiseTunnel`` has one standard deviation for all samples, and adds noise to all
    copies of the input.
    """

    def __init__(self, method: Any, n_samples: int, noise_level: float) -> None:
        self.method, self.n_samples, self.noise_level = method, n_samples, noise_level

    @property
    def forward_func(self) -> Any:
        """The method's ``forward_func``; None if it has none."""
        return getattr(self.method, "forward_func", None)

    def attribute(self, inputs: Tensor, target: Any = None, **options: Any) -> Tensor:
        """The mean of the attributions, in float32 or better."""
        rows = inputs.detach().flatten(1)
        spread = self.noise_level * (rows.amax(1) - rows.amin(1))
        spread = spread.reshape(-1, *[1] * (inputs.dim() - 1))
        mean = torch.zeros((), device="cpu")
        for number in range(self.n_samples):
            noise = torch.randn_like(inputs) if number else torch.zeros_like(inputs)
            noisy = inputs.detach() + spread * noise
            found = one_tensor(self.method.attribute(noisy, target=target, **options))
            mean = mean + in_full_precision(found.detach()) / self.n_samples
        return mean
