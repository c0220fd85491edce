"""The base class of the methods that decompose an output into all of its terms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from inspect import signature
from typing import Any, ParamSpec, TypeVar

from torch import Tensor

from captum_tgrad._support import input_checks
from captum_tgrad._support.captum_private import (
    GradientAttribution,
    TargetType,
    format_additional_forward_args,
    log_usage,
    select_targets,
)
from captum_tgrad._support.input_checks import ChannelDim
from captum_tgrad._support.model_errors import explaining_errors
from captum_tgrad._support.output_checks import (
    check_target,
    selectable,
    targets_per_sample,
    with_gradient,
)
from captum_tgrad._support.suggest import did_you_mean
from captum_tgrad.attribution.layer_activation import check_not_nested
from captum_tgrad.decomposition.decompose import decompose
from captum_tgrad.decomposition.decomposition import Decomposition
from captum_tgrad.decomposition.nested import usable_in_backward
from captum_tgrad.decomposition.places.places import Places, input_places, samples_of
from captum_tgrad.decomposition.raw_decomposition import RawDecomposition
from captum_tgrad.decomposition.replay.replay import Replay

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def attribution_method(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Captum's ``log_usage`` for a method or ``__init__``; says what to do about other arguments.

    These are mostly arguments of Captum's path methods, such as baselines.
    """
    known = signature(function).parameters

    @wraps(function)
    def checked(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        called = f"{type(args[0]).__name__}.{function.__name__}".removesuffix(".__init__")
        if len(args) > 2 and "target" in kwargs:
            raise TypeError(
                f"{called}() got target twice: the second argument is target. If you passed"
                " baselines there, leave them out."
            )
        other = next((name for name in kwargs if name not in known), None)
        if other is not None:
            leave_out = (
                "leave it out. It runs one forward and one backward pass, without baselines or"
                " steps, and multiplies the gradient by the inputs."
            )
            raise TypeError(
                f"{called}() has no argument {other!r}: {did_you_mean(other, known, leave_out)}"
            )
        return function(*args, **kwargs)

    return log_usage(checked)


def selected(output: Tensor, target: TargetType) -> Tensor:
    """The numbers that a valid ``target`` selects, shape ``(N,)``."""
    found: Tensor = select_targets(output, selectable(target))
    return found.reshape(-1)


class CompleteAttribution(GradientAttribution):  # type: ignore[misc]
    """A Captum attribution that combines all terms of the output.

    Args:
        forward_func: The model, or any function of it, that returns one number per sample, shape
            ``(N,)``, or one per sample and class, ``(N, classes)``.
    """

    @attribution_method
    def __init__(self, forward_func: Callable[..., Any]) -> None:
        input_checks.check_forward_func(forward_func)
        super().__init__(forward_func)
        self._replay = Replay()

    @attribution_method
    def decompose(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        target: TargetType = None,
        additional_forward_args: object | None = None,
        *,
        channel_dim: ChannelDim = 1,
    ) -> Decomposition:
        """Decomposes the output into terms, each with a name, a signed score and maps.

        Arguments and errors are those of ``attribute``.

        Returns:
            The terms, the output and the convergence delta. The scores and the delta of each
            sample add up to the output.

        Example:
            >>> import torch
            >>> from captum_tgrad import TGradAttribution
            >>> model = torch.nn.Linear(2, 1)
            >>> whole = TGradAttribution(model).decompose(torch.tensor([[1.0, 2.0]]), target=0)
            >>> [term.name for term in whole.terms]
            ['input', 'linear']
            >>> bool(torch.isclose(whole.biases[0].score, model.bias))
            True
        """
        return self._explain(inputs, target, additional_forward_args, channel_dim).decomposition

    def has_convergence_delta(self) -> bool:
        """True: every call computes the convergence delta."""
        return True

    @log_usage
    def compute_convergence_delta(
        self,
        attributions: Tensor | tuple[Tensor, ...],
        start_point: object,
        end_point: Tensor | tuple[Tensor, ...],
        target: TargetType = None,
        additional_forward_args: object | None = None,
    ) -> Tensor:
        """The output at the inputs ``end_point`` minus the sum of all terms, shape ``(N,)``.

        The same as ``attribute(..., return_convergence_delta=True)``. It cannot be computed from
        ``attributions``, because a map contains only the positive terms, and there is no baseline
        ``start_point``: both arguments are ignored.
        """
        return self.decompose(end_point, target, additional_forward_args).delta

    @property
    def multiplies_by_inputs(self) -> bool:
        """True, because the input's term is the gradient times the input."""
        return True

    def _explain(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        target: TargetType,
        additional_forward_args: object | None,
        channel_dim: ChannelDim,
        with_magnitudes: bool = False,
    ) -> RawDecomposition:
        tensors = self._checked(inputs, target)
        channel_dims = input_checks.channel_dims(channel_dim, tensors)
        with explaining_errors(self.forward_func, tensors, further=additional_forward_args):
            return self._decompose(
                self.forward_func,
                tensors,
                target,
                format_additional_forward_args(additional_forward_args),
                places=[
                    input_places(tensor.shape, number, dim)
                    for number, (tensor, dim) in enumerate(zip(tensors, channel_dims, strict=True))
                ],
                with_magnitudes=with_magnitudes,
                replay=self._replay,
            )

    def _checked(
        self, inputs: Any, target: TargetType, differentiable: bool = True
    ) -> tuple[Tensor, ...]:
        """The inputs as a tuple; raises TypeError or ValueError for what cannot be explained."""
        check_not_nested(self.forward_func)
        tensors = input_checks.checked_inputs(inputs, self.forward_func, differentiable)
        if target is not None:
            # Checked first, since the model may fail after attribute(inputs, baselines, target).
            targets_per_sample(target, len(tensors[0]))
        return tensors

    def _decompose(
        self,
        forward_func: Callable[..., Any],
        tensors: tuple[Tensor, ...],
        target: TargetType,
        further: tuple[Any, ...] | None,
        *,
        places: Sequence[Places],
        with_magnitudes: bool = False,
        replay: Replay | None = None,
    ) -> RawDecomposition:
        """Decomposes the output that ``target`` selects, with Captum's ``gradient_func``."""
        further, target = usable_in_backward(further), usable_in_backward(target)
        samples = samples_of(places[0])

        def select(output: Any) -> Tensor:
            output = with_gradient(output, samples)
            check_target(target, output)
            return selected(output, target)

        return decompose(
            forward_func,
            tensors,
            lambda forward, leaves: self.gradient_func(forward, leaves, None, further),
            select,
            places=places,
            with_magnitudes=with_magnitudes,
            replay=replay,
        )
