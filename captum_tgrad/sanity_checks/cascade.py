"""The model parameter randomization test of Adebayo et al."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from captum_tgrad._support import input_checks
from captum_tgrad._support.arguments import check_choice, check_count, got
from captum_tgrad._support.captum_private import TargetType
from captum_tgrad._support.random_state import own_randomness
from captum_tgrad._support.untouched import copy_model
from captum_tgrad.decomposition.nested import usable_in_backward
from captum_tgrad.decomposition.tracing.compiled_models import (
    compiled_models_run_eagerly,
    uncompiled,
)
from captum_tgrad.sanity_checks.layers import Layer, layers_from_the_output
from captum_tgrad.sanity_checks.map_maker import MapMaker
from captum_tgrad.sanity_checks.randomize import randomize
from captum_tgrad.sanity_checks.similarity import similarity

Mode = Literal["cascading", "bottom_up", "independent"]


@dataclass(frozen=True, eq=False)
class RandomizationStep:
    """The map of one step of the randomization, and its similarity to the original map.

    Attributes:
        layer: The layer that was randomized last; None for the trained network.
        index: The number of the step; 0 for the trained network.
        steps: The number of steps, including that of the trained network.
        map: The attribution, summed over channels: shape ``(N, 1, *spatial)``, or
            ``(N, features)`` where it has no channels.
        spearman: Rank correlation with the map of the trained network, shape ``(N,)``, float64 on
            the CPU; NaN if one of the two maps is constant.
        spearman_absolute: The same for the maps' absolute values.
        ssim: Structural similarity to the map of the trained network, shape ``(N,)``.
        ssim_absolute: The same for the maps' absolute values.
    """

    layer: str | None
    index: int
    steps: int
    map: Tensor = field(repr=False)
    spearman: Tensor
    spearman_absolute: Tensor
    ssim: Tensor
    ssim_absolute: Tensor


def cascading_randomization(
    model: nn.Module,
    attribution_factory: Callable[[Any], Any],
    inputs: Tensor,
    target: TargetType = None,
    *,
    additional_forward_args: object | None = None,
    attribute_kwargs: Mapping[str, Any] | None = None,
    layers: Sequence[str] | None = None,
    mode: Mode = "cascading",
    seed: int = 0,
) -> Iterator[RandomizationStep]:
    """Randomizes a network layer by layer, and compares its maps with the original map.

    A method whose map does not change explains the image, not the network. The layers of a copy of
    the model are randomized one by one while the result is iterated over. Only the map of the
    trained network is kept.

    Parameters and running statistics of batch norms get values from a truncated normal
    distribution, as in Adebayo et al., but with the mean and the standard deviation of the trained
    tensor rather than those of its initialization. Tensors that the forward pass does not use keep
    their values. Maps are compared by Spearman's rank correlation and by SSIM, each with and
    without the sign of the maps.

    Source: Adebayo, Gilmer, Muelly, Goodfellow, Hardt and Kim, "Sanity Checks for Saliency Maps",
    sections 3.1 and 4.

    Args:
        model: The model; never changed. It is called as
            ``model(inputs, *additional_forward_args)`` to see which layers it uses.
        attribution_factory: From a model to the Captum attribution that explains it: a class such
            as ``TGradAttribution``, or ``lambda copy: LayerGradCam(copy, copy.layer4)``. It is
            called in every step.
        inputs: The samples to explain, a float tensor with the batch dimension first.
        target: As for the method. If it is None and the method explains a model with several
            classes: the class that the trained network predicts, in every step.
        additional_forward_args: As for the method; passed only if not None.
        attribute_kwargs: Further arguments of the method's ``attribute``. Its ``channel_dim`` is
            also the dimension that is summed; nothing is summed if it is None.
        layers: Names of modules. Each is randomized in one step together with its submodules, in
            the reverse order of their use; all other modules keep their values. An empty name is
            the rest of the model, such as a class token. None: one step for every module that has
            parameters or running statistics of its own. A module that runs several times is
            randomized once, at the position of its last call.
        mode: ``"cascading"``: earlier layers stay random, from the output to the input.
            ``"bottom_up"``: the same from the input to the output, so that no trained layer is
            between the input and a random one. ``"independent"``: one layer at a time, the others
            keep their trained values.
        seed: The seed of the new values and of the method's random numbers, which are the same in
            every step. The global generators are not changed.

    Returns:
        An iterator over the steps, the trained network first.

    Raises:
        TypeError: ``model`` is not a module or cannot be copied, ``inputs`` is not a float tensor,
            ``seed`` is not an integer, ``layers`` is not a list of strings, or
            ``attribution_factory`` is not callable or does not return an attribution.
        ValueError: ``inputs`` is empty or not finite, the model has no layer to randomize or no
            module of a given name, ``mode`` is unknown, ``seed`` is negative, the method explains
            another model than the one it was constructed with, or it does not return one map for
            each sample.
        ModuleNotFoundError: The extra ``sanity`` of this package is missing.

    Example:
        >>> import torch
        >>> from captum_tgrad import TGradAttribution
        >>> from captum_tgrad.sanity_checks import cascading_randomization
        >>> _ = torch.manual_seed(0)
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten())
        >>> model = model.append(torch.nn.Linear(144, 5))
        >>> images = torch.rand(2, 3, 8, 8)
        >>> steps = cascading_randomization(model, TGradAttribution, images, target=1)
        >>> [(step.layer, step.spearman.shape) for step in steps]
        [(None, torch.Size([2])), ('2', torch.Size([2])), ('0', torch.Size([2]))]
    """
    check_choice(mode, Mode, "mode")
    original = _checked_model(model)
    # Also the ``attribute`` of an object, which has the object as ``__self__``.
    given = getattr(attribution_factory, "__self__", attribution_factory)
    if not isinstance(given, type) and (
        not callable(given) or callable(getattr(given, "attribute", None))
    ):
        name = type(given).__name__
        raise TypeError(
            f"attribution_factory must be a class or a function that constructs a method from a"
            f" model, got a {name} object: pass {name}, or lambda copy: {name}(copy, ...)."
        )
    images, seed = _checked_inputs(inputs, original), check_count(seed, "seed", least=0)
    for name in ("inputs", "target", "additional_forward_args"):
        if name in (attribute_kwargs or {}):
            raise TypeError(f"attribute_kwargs contains {name!r}: pass it as {name} instead.")
    further = usable_in_backward(additional_forward_args)
    # The model, and the factory too, may draw random numbers.
    with torch.inference_mode(False), own_randomness(seed, images.device):
        duplicate = copy_model(original)
        map_maker = MapMaker(
            attribution_factory,
            duplicate,
            set(original.modules()),
            images,
            usable_in_backward(target),
            further,
            dict(attribute_kwargs or {}),
            seed,
        )
        with compiled_models_run_eagerly():
            found, output = layers_from_the_output(duplicate, map_maker.forward, layers)
        map_maker.choose_target(output)
        # The first map is made here, so that errors are raised now and not in the iteration.
        first = map_maker.map()
    if mode == "bottom_up":
        found.reverse()
    return _steps(map_maker, first, found, mode, torch.Generator().manual_seed(seed))


def _steps(
    map_maker: MapMaker,
    first: Tensor,
    layers: list[Layer],
    mode: Mode,
    generator: torch.Generator,
) -> Iterator[RandomizationStep]:
    steps = len(layers) + 1
    yield RandomizationStep(None, 0, steps, first, *similarity(first, first))
    for index, layer in enumerate(layers, 1):
        tensors = [tensor.detach() for tensor, _ in layer.tensors]
        learned = [tensor.clone() for tensor in tensors] if mode == "independent" else None
        randomize(layer, generator)
        changed = map_maker.map(after=layer.name)
        if changed.shape != first.shape:
            raise ValueError(
                f"attribute returned a map of shape {tuple(changed.shape)} after {layer.name!r} was"
                f" randomized, but of shape {tuple(first.shape)} before. Maps of different shapes"
                " cannot be compared."
            )
        yield RandomizationStep(layer.name, index, steps, changed, *similarity(first, changed))
        if learned is not None:
            for tensor, values in zip(tensors, learned, strict=True):
                tensor.copy_(values)


def _checked_model(model: Any) -> nn.Module:
    input_checks.check_forward_func(model, "model")
    module: Any = uncompiled(model)
    if not isinstance(module, nn.Module):
        raise TypeError(
            "model must be a torch.nn.Module with parameters to randomize, got"
            f" {type(module).__name__}."
        )
    return module


def _checked_inputs(inputs: Any, model: nn.Module) -> Tensor:
    if not isinstance(inputs, Tensor):
        raise TypeError(
            f"inputs must be a torch.Tensor, got {got(inputs)}. Pass other tensors as"
            " additional_forward_args, which are held constant."
        )
    return input_checks.checked_inputs(inputs, model)[0]
