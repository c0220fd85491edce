"""Class activation maps of the ``grad-cam`` package as Captum attributions."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from captum_tgrad._support import input_checks
from captum_tgrad._support.captum_private import (
    Attribution,
    TargetType,
    TensorOrTupleOfTensorsGeneric,
    format_additional_forward_args,
    format_output,
    log_usage,
)
from captum_tgrad._support.model_errors import explaining_errors
from captum_tgrad._support.untouched import copy_model
from captum_tgrad.attribution.cam_checks import (
    Probe,
    cam_signature,
    check_layers_return_maps,
    check_target_layers,
    checked_images,
    is_reshaped,
)
from captum_tgrad.attribution.cam_library import (
    CamModel,
    constructed,
    select,
    selected_indices,
    without_progress_bars,
)
from captum_tgrad.attribution.layer_activation import check_not_nested
from captum_tgrad.decomposition.nested import map_tensors, usable_in_backward
from captum_tgrad.decomposition.precision import HALF, in_full_precision, without_autocast
from captum_tgrad.decomposition.tracing.compiled_models import (
    compiled_models_run_eagerly,
    uncompiled,
)


class CamAttribution(Attribution):  # type: ignore[misc]
    """Any class activation map of the ``grad-cam`` package, without its side effects.

    The library computes the maps on a copy of the model that shares its parameters. The modes,
    gradients and hooks of the model stay unchanged. No parameter gradients are computed, and no
    progress bars are shown.

    As in the library, the maps are computed in evaluation mode, scaled from 0 to 1 per sample, and
    not differentiable. RandomCAM uses NumPy's global random state. The maps use the activations
    that the target layers return, even if an in-place operation overwrites them. (On a CPU, the
    library itself uses the overwritten values.)

    Source: Gildenblat and contributors, "PyTorch library for CAM methods" (the ``grad-cam``
    package), where each class names its paper.

    Args:
        forward_func: The model. It returns one number per sample, or one per sample and class.
        cam_class: A class of the package, such as ``pytorch_grad_cam.GradCAMPlusPlus``.
        target_layers: Modules of the model whose activations the map uses. None: the last
            convolution in the forward pass whose output has more than one position. In a network
            with parallel branches, such as Inception, pass the block instead: the last convolution
            is in one branch only.
        cam_arguments: Further arguments of ``cam_class``, such as ``reshape_transform``; for
            ScoreCAM also ``batch_size``.

    Raises:
        TypeError: ``cam_class`` is not a class activation map or does not accept
            ``cam_arguments``, ``forward_func`` is not a module, or ``target_layers`` is not a list
            of modules.
        ValueError: ``target_layers`` is empty or holds a module that is not in the model.

    Example:
        >>> import torch
        >>> from captum_tgrad import CamAttribution
        >>> from pytorch_grad_cam import GradCAMPlusPlus
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 5, 3), torch.nn.ReLU())
        >>> model = model.extend([torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()])
        >>> method = CamAttribution(model, GradCAMPlusPlus, target_layers=[model[0]])
        >>> method.attribute(torch.rand(2, 3, 8, 8), target=[4, 0]).shape
        torch.Size([2, 1, 8, 8])
    """

    def __init__(
        self,
        forward_func: nn.Module,
        cam_class: Callable[..., Any],
        target_layers: Sequence[nn.Module] | None = None,
        **cam_arguments: Any,
    ) -> None:
        input_checks.check_forward_func(forward_func)
        module: Any = uncompiled(forward_func)
        if not isinstance(module, nn.Module):
            raise TypeError(
                f"forward_func must be a torch.nn.Module, got {type(forward_func).__name__}. Pass"
                " the model first: CamAttribution(forward_func, cam_class)."
            )
        self._signature = cam_signature(cam_class, cam_arguments)
        self._finds_its_own_layers = _finds_its_own_layers(
            cam_class, cam_arguments.get("base_method", cam_class)
        )
        check_target_layers(target_layers, module)
        if target_layers is not None and not target_layers and not self._finds_its_own_layers:
            raise ValueError(
                "target_layers is empty: give at least one module of the model, or None for the"
                " last convolution."
            )
        super().__init__(module)
        self.cam_class = cam_class
        self.target_layers = None if target_layers is None else list(target_layers)
        self.cam_arguments = cam_arguments

    @log_usage
    def attribute(
        self,
        inputs: TensorOrTupleOfTensorsGeneric,
        target: TargetType = None,
        additional_forward_args: object | None = None,
        **call_arguments: Any,
    ) -> TensorOrTupleOfTensorsGeneric:
        """Computes the class activation map of each sample.

        Args:
            inputs: Shape ``(N, C, H, W)``, or ``(N, C, D, H, W)`` for classes that accept volumes.
            target: The output to explain, in any of Captum's forms: an int, a tuple, a tensor or a
                list with one per sample. None: the class with the largest output. FinerCAM compares
                the target with the most similar classes.
            additional_forward_args: Additional arguments of the model, held constant. If they
                include tensors with one entry per sample, the samples are explained one by one.
            call_arguments: Further arguments for the call of the ``cam_class`` object, such as
                ``eigen_smooth=True``.

        Returns:
            The maps, shape ``(N, 1, H, W)``, from 0 to 1, on the device and with the dtype of
            ``inputs``. The library returns float32. For half precision, a copy of the model is
            converted to float32; autocast is off.

        Raises:
            TypeError: ``inputs`` is not a float tensor, ``target`` does not hold integers, the
                model does not return a tensor or cannot be copied, or the class does not accept
                ``call_arguments``.
            ValueError: ``inputs`` has another shape, is empty or holds NaN or inf, ``target`` does
                not select one output per sample, a target layer does not run or, without
                ``reshape_transform``, does not return maps, or ``target_layers`` is None and the
                model has no usable convolution.
        """
        if "targets" in call_arguments:
            raise TypeError(
                "targets is an argument of the grad-cam package: pass target, such as target=1 for"
                " [ClassifierOutputTarget(1)]."
            )
        check_not_nested(self.forward_func)
        images = checked_images(inputs, self.forward_func)
        with (
            torch.inference_mode(False),
            torch.enable_grad(),
            compiled_models_run_eagerly(),
            without_autocast(images),
            without_progress_bars,
            explaining_errors(self.forward_func, (images,), further=additional_forward_args),
        ):
            maps = self._maps(
                usable_in_backward(images).detach().clone(),
                target,
                usable_in_backward(format_additional_forward_args(additional_forward_args)) or (),
                call_arguments,
            )
        formatted: TensorOrTupleOfTensorsGeneric = format_output(
            isinstance(inputs, tuple), (maps.unsqueeze(1).to(images.device, images.dtype),)
        )
        return formatted

    def _maps(
        self, images: Tensor, target: Any, further: tuple[Any, ...], options: dict[str, Any]
    ) -> Tensor:
        check_target_layers(self.target_layers, self.forward_func)
        duplicate = copy_model(self.forward_func, share_parameters=True)
        copies = dict(zip(self.forward_func.modules(), duplicate.modules(), strict=True))
        if images.dtype in HALF:
            # The library converts activations to NumPy arrays, and decomposes some of them.
            duplicate.float()
            images, further = map_tensors((images, further), in_full_precision)
        model = CamModel(duplicate, images, further).eval()
        layers = [copies[layer] for layer in self.target_layers or ()]
        probe = Probe(model, images[:1], layers)
        if not self._finds_its_own_layers and not is_reshaped(self._signature, self.cam_arguments):
            check_layers_return_maps(layers, probe)
        indices = selected_indices(target, probe.output, len(images))
        if self.target_layers is None and not self._finds_its_own_layers:
            layers = [probe.last_convolution()]
        cam = constructed(self.cam_class, self._signature, model, layers, self.cam_arguments)
        one_by_one = any(isinstance(value, Tensor) for value in further)
        return _of_all_samples(cam, model, images, indices, one_by_one, options)


def _of_all_samples(
    cam: Any,
    model: CamModel,
    images: Tensor,
    indices: list[tuple[int, ...]] | None,
    one_by_one: bool,
    options: dict[str, Any],
) -> Tensor:
    """The library's maps, shape ``(N, *spatial)``, float32 on the CPU.

    Further tensors and the comparisons of FinerCAM belong to one sample, so that the library cannot
    take a batch.
    """
    compares = indices is not None and "target_idx" in inspect.signature(cam.forward).parameters
    size = 1 if compares or one_by_one else len(images)
    maps = []
    for start in range(0, len(images), size):
        model.sample = start
        targets = None
        if indices is not None:
            targets = [partial(select, index) for index in indices[start : start + size]]
            if compares and len(indices[start]) == 1:
                # FinerCAM compares the class with others only if it gets the index.
                targets, options = None, {**options, "target_idx": indices[start][0]}
        maps.append(torch.from_numpy(cam(images[start : start + size], targets, **options)))
    return torch.cat(maps)


def _finds_its_own_layers(cam_class: Any, base: Any) -> bool:
    """Whether it is the library's FullGrad, or built on it, which warns if it gets layers."""
    is_full_grad = any(each.__name__ == "FullGrad" for each in getattr(base, "__mro__", ()))
    # RefineCAM constructs one of its bases for each layer.
    return is_full_grad and getattr(cam_class, "__name__", "") != "RefineCAM"
