"""Runs a class of the ``grad-cam`` package on a copy of a model, which it may change."""

from __future__ import annotations

import copy
import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from captum_tgrad._support.output_checks import check_target, targets_per_sample, with_batch
from captum_tgrad._support.shared_context import SharedContext
from captum_tgrad.attribution.cam_checks import constructor_arguments
from captum_tgrad.decomposition.nested import map_tensors

_PACKAGE = "pytorch_grad_cam."


class CamModel(nn.Module):
    """A copy of a model as ``grad-cam`` calls it: with the images alone.

    Args:
        model: The copy.
        images: All images, shape ``(N, C, *spatial)``.
        further: Additional arguments of the model.

    Attributes:
        sample: The number of the image whose entries are taken from tensors with one for each.
    """

    def __init__(self, model: nn.Module, images: Tensor, further: tuple[Any, ...]) -> None:
        super().__init__()
        # The library reads the device of the first parameter, and a model may have none.
        self.on_device = nn.Parameter(images.new_empty(0), requires_grad=False)
        self.model = model
        self._further, self._samples, self.sample = further, len(images), 0

    def forward(self, images: Tensor) -> Any:
        """The model's output; the entry of the present sample is repeated for a batch."""
        further = [
            value[self.sample].expand(len(images), *value.shape[1:])
            if isinstance(value, Tensor) and value.dim() and len(value) == self._samples
            else value
            for value in self._further
        ]
        return with_batch(self.model(images, *further), len(images))


def constructed(
    cam_class: Callable[..., Any],
    signature: inspect.Signature,
    model: CamModel,
    target_layers: Sequence[nn.Module],
    cam_arguments: dict[str, Any],
) -> Any:
    """Constructs an object of a class of ``grad-cam``, on a copy of a model."""
    for layer in target_layers:
        layer.register_forward_hook(_begin_graph)
    bound = signature.bind(
        model, list(target_layers), **constructor_arguments(signature, cam_arguments)
    )
    bound.apply_defaults()
    for name, value in bound.arguments.items():
        # AblationCAM keeps activations in a layer that it gets as an argument. The default value is
        # one object for all calls.
        if isinstance(value, nn.Module) and value is not model:
            bound.arguments[name] = copy.deepcopy(value)
    cam = cam_class(*bound.args, **bound.kwargs)
    if any(_is_differentiated_twice(layer) for layer in target_layers):
        # Where the gradient is linear in the activations, it has a graph only if the parameters
        # require a gradient. The library computes that of the images alone.
        for parameter in model.parameters():
            parameter.requires_grad_(parameter.is_floating_point())
    for layer in target_layers:
        _pass_clones_on(layer)
    if "batch_size" in cam_arguments and "batch_size" not in bound.arguments:
        cam.batch_size = cam_arguments["batch_size"]
    return cam


def _is_differentiated_twice(layer: nn.Module) -> bool:
    """Whether the library keeps the graph of a layer's output, as ShapleyCAM does."""
    keepers = (getattr(hook, "__self__", None) for hook in layer._forward_hooks.values())
    return any(getattr(keeper, "detach", True) is False for keeper in keepers)


def _begin_graph(module: nn.Module, inputs: Any, output: Any) -> Tensor | None:
    """Starts the graph at the first target layer: no parameter of the copy requires a gradient.

    Otherwise the library's backward pass would run through the whole network and compute gradients
    of the parameters, which it does not use.
    """
    if not isinstance(output, Tensor) or output.requires_grad or not torch.is_grad_enabled():
        return None
    return output.detach().requires_grad_() if output.is_floating_point() else None


def _pass_clones_on(layer: nn.Module) -> None:
    """Makes a layer pass a clone of its output on to the network, after all other hooks.

    Otherwise an in-place activation after the layer would overwrite the output that a hook of the
    library kept, which may be the leaf at which the graph starts.
    """
    handle = layer.register_forward_hook(_cloned)

    def stay_last(module: nn.Module, inputs: Any) -> None:
        # AblationCAM adds its hook later.
        module._forward_hooks.move_to_end(handle.id)  # type: ignore[attr-defined]

    layer.register_forward_pre_hook(stay_last)


def _cloned(module: nn.Module, inputs: Any, output: Any) -> Any:
    return map_tensors(output, Tensor.clone) if isinstance(output, (Tensor, tuple, list)) else None


def selected_indices(target: Any, output: Tensor, samples: int) -> list[tuple[int, ...]] | None:
    """The indices to select from the output of each sample; None for the library's choice.

    ``output`` is that of one sample, ``(1, ...)``. Raises as ``check_target``.
    """
    if target is None and output.dim() == 2:
        return None
    check_target(target, output.expand(samples, *output.shape[1:]))
    if target is None:
        return [(0,) * (output.dim() - 1)] * samples
    return targets_per_sample(target, samples)


def select(index: tuple[int, ...], output: Tensor) -> Tensor:
    """A target of the library: the number at ``index`` of the output of a sample."""
    # SESS passes the output of a whole batch, all other classes that of one sample.
    for number in reversed(index):
        output = output[..., number]
    return output


@contextmanager
def _replaced_bars() -> Iterator[None]:
    """Replaces ``tqdm`` in the modules of the package, which has no option to hide its bars."""
    replaced = [
        (module, module.tqdm)
        for name, module in list(sys.modules.items())
        if name.startswith(_PACKAGE) and isinstance(getattr(module, "tqdm", None), ModuleType)
    ]
    without_bar = SimpleNamespace(tqdm=lambda iterable, *_, **options: iterable)
    for module, _ in replaced:
        module.tqdm = without_bar  # type: ignore[attr-defined]
    try:
        yield
    finally:
        for module, tqdm in replaced:
            module.tqdm = tqdm  # type: ignore[attr-defined]


without_progress_bars = SharedContext(_replaced_bars)
"""A context in which the ``grad-cam`` package draws no progress bars; others are still drawn."""
