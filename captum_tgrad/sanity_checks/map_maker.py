"""Computes maps of a copy of a model, and checks that the method explains this copy."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.utils._pytree import tree_leaves

from captum_tgrad._support.captum_private import (
    GradientAttribution,
    LayerAttribution,
    format_additional_forward_args,
)
from captum_tgrad._support.input_checks import channel_dims
from captum_tgrad._support.model_errors import explaining_errors
from captum_tgrad._support.random_state import own_randomness
from captum_tgrad.decomposition.tracing.compiled_models import compiled_models_run_eagerly

_MARK = "_mark_of_the_copy"
_ADVICE = (
    " It must construct the method from the model it receives and that model's modules, for example"
    " lambda copy: LayerGradCam(copy, copy.layer4)."
)


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
        # Copies that a method makes of the modules are marked, too.
        for module in self.model.modules():
            vars(module)[_MARK] = True

    def forward(self) -> Any:
        """The output of the copy in evaluation mode, which does not update running statistics."""
        further = format_additional_forward_args(self.additional_forward_args) or ()
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
        """The attribution of the copy with its present values, summed over channels.

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
            compiled_models_run_eagerly(),  # the compiler would trace the hook
            _only_the_copy_runs(self.original),
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
        """A new method; raises TypeError or ValueError unless it is an attribution of the copy."""
        method = self.factory(self.model)
        if not callable(getattr(method, "attribute", None)):
            raise TypeError(
                "attribution_factory must return a Captum attribution, an object with a method"
                f" 'attribute', got {type(method).__name__}."
            )
        if not self.original.isdisjoint(_modules(method)):
            raise ValueError(
                "attribution_factory returned a method that holds modules of your model itself,"
                " which is never randomized." + _ADVICE
            )
        return method

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


def _modules(method: Any, depth: int = 3) -> Iterator[nn.Module]:
    """The modules that a method holds, also those of a method inside it, as in NoiseTunnel."""
    for value in tree_leaves(getattr(method, "__dict__", {})):
        if isinstance(value, nn.Module):
            yield value
        elif hasattr(value, "attribute") and depth > 1:
            yield from _modules(value, depth - 1)


@contextmanager
def _only_the_copy_runs(original: set[nn.Module]) -> Iterator[None]:
    """A context that raises ValueError if the user's model runs in it, or the copy does not."""
    thread = threading.get_ident()
    ran = False

    def entered(module: nn.Module, inputs: Any) -> None:
        nonlocal ran
        if threading.get_ident() == thread and module in original:
            raise ValueError(
                "attribution_factory returned a method that calls your model itself, which is"
                " never randomized." + _ADVICE
            )
        ran = ran or _MARK in vars(module)

    with register_module_forward_pre_hook(entered):
        yield
    if not ran:
        raise ValueError(
            "attribution_factory returned a method that never calls the model it was constructed"
            " with, so that its map cannot change." + _ADVICE
        )
