"""Checks of the arguments and the layers of class activation maps, before a long computation."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from captum_tgrad._support import input_checks
from captum_tgrad._support.arguments import got


def cam_signature(
    cam_class: Callable[..., Any], cam_arguments: dict[str, Any]
) -> inspect.Signature:
    """The signature of a class of ``grad-cam``; raises TypeError unless it can be constructed."""
    name = getattr(cam_class, "__name__", repr(cam_class))
    is_object = hasattr(cam_class, "activations_and_grads")
    if not callable(cam_class) or isinstance(cam_class, nn.Module) or is_object:
        found = f"an object: pass {type(cam_class).__name__}" if is_object else repr(cam_class)
        raise TypeError(
            "cam_class must be a class of the grad-cam package such as GradCAMPlusPlus, got"
            f" {found}."
        )
    signature = inspect.signature(cam_class)
    if not {"model", "target_layers"} <= signature.parameters.keys():
        raise TypeError(
            f"cam_class {name} does not accept model and target_layers, so it is not a class"
            " activation map of the grad-cam package. Captum's methods, such as"
            " captum.attr.GuidedBackprop, need no CamAttribution."
        )
    try:
        signature.bind(None, [], **constructor_arguments(signature, cam_arguments))
    except TypeError as error:
        raise TypeError(
            f"{name} cannot be constructed with {sorted(cam_arguments)}: {error}. It accepts"
            f" {sorted(signature.parameters.keys() - {'model', 'target_layers'})}."
        ) from error
    return signature


def constructor_arguments(
    signature: inspect.Signature, cam_arguments: dict[str, Any]
) -> dict[str, Any]:
    """The ``cam_arguments`` that the constructor accepts: all except ScoreCAM's ``batch_size``."""
    # ScoreCAM reads an attribute of this name, which its constructor does not take.
    return {
        name: value
        for name, value in cam_arguments.items()
        if name != "batch_size" or name in signature.parameters
    }


def checked_images(inputs: Any, model: nn.Module) -> Tensor:
    """The images in ``inputs``; raises TypeError or ValueError for what cannot be explained."""
    if not isinstance(inputs, (Tensor, tuple)):
        raise TypeError(f"inputs must be a torch.Tensor, got {got(inputs)}.")
    tensors = input_checks.checked_inputs(inputs, model)
    if len(tensors) != 1:
        raise ValueError(
            f"inputs has {len(tensors)} tensors, but a class activation map explains one. Pass the"
            " others as additional_forward_args, which are held constant."
        )
    (images,) = tensors
    if images.dim() < 4:
        raise ValueError(
            f"inputs has shape {tuple(images.shape)}, but a class activation map needs images,"
            " shape (N, C, H, W). For one image, pass inputs.unsqueeze(0)."
        )
    return images


def check_target_layers(target_layers: Any, model: nn.Module) -> None:
    """Raises TypeError or ValueError unless given None or a list of modules of the model."""
    if target_layers is None:
        return
    if isinstance(target_layers, nn.Module) or not isinstance(target_layers, Sequence):
        raise TypeError(
            "target_layers must be a list of modules of the model, such as [model.layer4], got"
            f" {type(target_layers).__name__}."
        )
    modules = set(model.modules())
    for number, layer in enumerate(target_layers):
        if not isinstance(layer, nn.Module):
            raise TypeError(
                f"target_layers[{number}] must be a module of the model, such as model.layer4, got"
                f" {type(layer).__name__}."
            )
        input_checks.check_not_scripted(layer, f"target_layers[{number}]")
        if layer not in modules:
            raise ValueError(
                f"target_layers[{number}] ({type(layer).__name__}) is not a module of the model."
                " Take it from the model itself, not from a copy."
            )


class Probe:
    """One run of a model on an image, to see what its layers return.

    Args:
        model: The model.
        image: Shape ``(1, C, H, W)``.
        layers: The layers to watch; all convolutions are watched, too.

    Attributes:
        output: What the model returned.
        shapes: The shape of the last output of each layer that ran; None if it is not a tensor.
    """

    def __init__(self, model: nn.Module, image: Tensor, layers: Sequence[nn.Module] = ()) -> None:
        self.shapes: dict[nn.Module, torch.Size | None] = {}
        self._last_convolution: nn.Module | None = None
        self._convolutions = {each for each in model.modules() if isinstance(each, _ConvNd)}
        watched = self._convolutions.union(layers)
        with ExitStack() as hooks, torch.no_grad():
            for layer in watched:
                hooks.enter_context(layer.register_forward_hook(self._ran))
            # A copy, because an in-place operation may overwrite the image.
            self.output = model(image.clone())

    def last_convolution(self) -> nn.Module:
        """The last convolution that ran with more than one output position.

        The order in which the layers run counts, not the order of their definition. A convolution
        after global pooling (a classifier made of 1x1 convolutions, the gate of a
        squeeze-excitation block) is skipped, because its map would be constant. Raises ValueError
        if there is none.
        """
        if self._last_convolution is None:
            spatial = "no convolution in the forward pass has a spatial output"
            reason = spatial if self._convolutions else "it has none"
            raise ValueError(
                "target_layers is missing, and the model has no convolution to use instead:"
                f" {reason}. Pass target_layers=[a module with a spatial output], or for evaluate"
                ' and compare, write layer = "MODULE" in a file of methods (--config); a'
                " transformer also needs reshape_transform=."
            )
        return self._last_convolution

    def _ran(self, module: nn.Module, inputs: Any, output: Any) -> None:
        shape = self.shapes[module] = output.shape if isinstance(output, Tensor) else None
        if module in self._convolutions and shape and shape[2:].numel() > 1:
            self._last_convolution = module


def is_reshaped(signature: inspect.Signature, cam_arguments: Mapping[str, Any]) -> bool:
    """Whether the class may reshape what its layers return."""
    known = signature.parameters.get("reshape_transform")
    return known is None or cam_arguments.get("reshape_transform", known.default) is not None


def check_layers_return_maps(layers: Sequence[nn.Module], probe: Probe) -> None:
    """Raises ValueError for a layer that did not run, or returned something else than maps.

    Some classes of the library take the tokens and the features of ``(N, T, E)`` for rows and
    columns, others fail without saying which layer it is.
    """
    for number, layer in enumerate(layers):
        name = f"target_layers[{number}] ({type(layer).__name__})"
        if layer not in probe.shapes:
            raise ValueError(f"{name} does not run in the forward pass. Pass a layer that does.")
        shape = probe.shapes[layer]
        if shape is None or len(shape) not in (4, 5):
            found = "no tensor" if shape is None else f"shape {tuple(shape)}"
            raise ValueError(
                f"{name} returns {found}, but a class activation map needs (N, C, H, W). Pass"
                " another layer, or reshape_transform=, a function from this output to that shape."
            )
