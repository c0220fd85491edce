"""T-Grad of a layer: a decomposition of the part of the network that follows it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, overload

import torch
from torch import Tensor, nn

from captum_tgrad._support import input_checks
from captum_tgrad._support.captum_private import (
    GradientAttribution,
    LayerAttribution,
    TargetType,
    format_additional_forward_args,
    format_output,
)
from captum_tgrad._support.input_checks import ChannelDim
from captum_tgrad._support.model_errors import explaining_errors
from captum_tgrad._support.random_state import RandomState
from captum_tgrad.attribution.complete import CompleteAttribution, attribution_method, selected
from captum_tgrad.attribution.layer_activation import (
    activation_of,
    named,
    network_from,
    raise_unused,
)
from captum_tgrad.decomposition.decomposition import Decomposition
from captum_tgrad.decomposition.maps.combine import Aggregation, Sign, check_options
from captum_tgrad.decomposition.nested import usable_in_backward
from captum_tgrad.decomposition.raw_decomposition import RawDecomposition
from captum_tgrad.decomposition.refusals import UnusedInputError
from captum_tgrad.decomposition.reliability import (
    warn_of_another_output,
    warn_of_channels,
    warn_of_random_numbers,
)


class LayerTGradAttribution(LayerAttribution, CompleteAttribution):  # type: ignore[misc]
    """T-Grad for the activation of a layer instead of the input.

    The output is decomposed into ``<df/da, a>`` for the activation ``a`` and one term for each bias
    after it. Branches that bypass the layer, such as skip connections, are held constant. They
    count as biases of the operations that merge them. Maps have the positions of the layer's
    elements on the input, or on the layer if some elements have none, such as a class token.

    Source: Tran, Mai, Le and Le, "T-Grad: A Trustworthy Gradient Explanation for Convolutional
    Neural Networks", section 3: the decomposition that starts at layer k.

    Args:
        forward_func: As for :class:`~captum_tgrad.TGradAttribution`.
        layer: The module whose activation is explained. If ``forward_func`` calls it several times,
            the last call is explained, as in Captum's layer attributions.
        device_ids: As in Captum's layer attributions; at most one.

    Example:
        >>> import torch
        >>> from captum_tgrad import LayerTGradAttribution
        >>> model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.ReLU())
        >>> _ = model[0].weight.data.fill_(1.0), model[0].bias.data.fill_(0.5)
        >>> LayerTGradAttribution(model, model[0]).attribute(torch.ones(1, 3), target=0)
        tensor([[3.5000, 0.0000]])
    """

    @attribution_method
    def __init__(
        self,
        forward_func: Callable[..., Any],
        layer: nn.Module,
        device_ids: list[int] | None = None,
    ) -> None:
        input_checks.check_forward_func(forward_func)
        if not isinstance(layer, nn.Module):
            raise TypeError(
                "layer must be a torch.nn.Module of the model, such as model.layer4, got"
                f" {type(layer).__name__}. For several layers, construct one attribution for each."
            )
        input_checks.check_not_scripted(layer, named(layer))
        if device_ids is not None and not isinstance(device_ids, Sequence):
            raise TypeError(
                "device_ids must be a list of at most one integer, or None, got"
                f" {type(device_ids).__name__}."
            )
        if device_ids is not None and len(device_ids) > 1:
            raise ValueError(
                f"device_ids are {device_ids}, but a layer is explained on one device. Pass the"
                " module that DataParallel wraps: model.module."
            )
        LayerAttribution.__init__(self, forward_func, layer, device_ids)
        GradientAttribution.__init__(self, forward_func)

    # For type checkers: the return type depends on return_convergence_delta.
    @overload
    def attribute(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        target: TargetType = ...,
        additional_forward_args: object | None = ...,
        attribute_to_layer_input: bool = ...,
        *,
        sign: Sign = ...,
        aggregation: Aggregation = ...,
        channel_dim: ChannelDim = ...,
        return_convergence_delta: Literal[False] = ...,
    ) -> Tensor | tuple[Tensor, ...]: ...

    @overload
    def attribute(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        target: TargetType = ...,
        additional_forward_args: object | None = ...,
        attribute_to_layer_input: bool = ...,
        *,
        sign: Sign = ...,
        aggregation: Aggregation = ...,
        channel_dim: ChannelDim = ...,
        return_convergence_delta: Literal[True],
    ) -> tuple[Tensor | tuple[Tensor, ...], Tensor]: ...

    @overload
    def attribute(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        target: TargetType = ...,
        additional_forward_args: object | None = ...,
        attribute_to_layer_input: bool = ...,
        *,
        sign: Sign = ...,
        aggregation: Aggregation = ...,
        channel_dim: ChannelDim = ...,
        return_convergence_delta: bool,
    ) -> Tensor | tuple[Tensor, ...] | tuple[Tensor | tuple[Tensor, ...], Tensor]: ...

    @attribution_method
    def attribute(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        target: TargetType = None,
        additional_forward_args: object | None = None,
        attribute_to_layer_input: bool = False,
        *,
        sign: Sign = "positive",
        aggregation: Aggregation = "paper",
        channel_dim: ChannelDim = 1,
        return_convergence_delta: bool = False,
    ) -> Tensor | tuple[Tensor, ...] | tuple[Tensor | tuple[Tensor, ...], Tensor]:
        """Computes the T-Grad attributions of each sample at the layer.

        With ``attribute_to_layer_input``, the layer's input is explained instead of its output.
        ``channel_dim`` is the channel dimension of ``inputs``, not of the activation. Integer
        ``inputs``, such as token IDs, are allowed: then it is that of the activation, such as
        -1 for embedded tokens. The other arguments are those of ``TGradAttribution.attribute``.

        Returns:
            The attributions, shaped like the layer's activation; a tuple of them if the layer
            returns several tensors, without those that are ``None``.
            ``LayerAttribution.interpolate`` upsamples them. With ``return_convergence_delta``, also
            the convergence delta, shape ``(N,)``.

        Raises:
            TypeError: As for ``TGradAttribution.attribute``, or the layer's activation does not
                consist of float tensors.
            ValueError: As for ``TGradAttribution.attribute``, or the layer is never called, or its
                activation mixes the samples.

        Warns:
            UserWarning: As for ``TGradAttribution.attribute``, or in-place operations change the
                activation and other tensors that share its memory, so that another output is
                explained.
        """
        check_options(sign, aggregation)
        explained = self._explain_layer(
            inputs, target, additional_forward_args, attribute_to_layer_input, channel_dim
        )
        attributions = explained.combined(sign, aggregation)
        formatted = format_output(len(attributions) > 1, attributions)
        return (formatted, explained.delta) if return_convergence_delta else formatted

    @attribution_method
    def decompose(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        target: TargetType = None,
        additional_forward_args: object | None = None,
        attribute_to_layer_input: bool = False,
        *,
        channel_dim: ChannelDim = 1,
    ) -> Decomposition:
        """Decomposes the output into terms, with the layer's activation as the input.

        Arguments and errors are those of ``attribute``; the result is that of
        ``TGradAttribution.decompose``.
        """
        return self._explain_layer(
            inputs, target, additional_forward_args, attribute_to_layer_input, channel_dim
        ).decomposition

    def _explain_layer(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        target: TargetType,
        additional_forward_args: object | None,
        at_input: bool,
        channel_dim: ChannelDim,
    ) -> RawDecomposition:
        tensors = self._checked(inputs, target, differentiable=False)
        with torch.inference_mode(False):
            tensors, further = usable_in_backward(
                (tensors, format_additional_forward_args(additional_forward_args))
            )
            dims = input_checks.channel_dims(channel_dim, tensors)
            run = partial(activation_of, self.layer, self.forward_func, tensors, further, dims)
            # Afterwards, the network from the layer on draws the same random numbers.
            with (
                RandomState(tensors[0].device) as before,
                explaining_errors(self.forward_func, tensors, further=additional_forward_args),
            ):
                activation = run(at_input=at_input)
                is_random = not before.is_current() and activation.differs(run(at_input=at_input))
        try:
            explained = self._decompose(
                network_from(self.layer, self.forward_func, tensors, activation, at_input=at_input),
                activation.tensors,
                target,
                further,
                places=activation.places,
            )
        except UnusedInputError as error:
            raise_unused(self.layer, error.number, len(activation.tensors))
        output = selected(activation.output, target)
        warn_of_another_output(explained, output, named(self.layer), activation.precision)
        if is_random:
            warn_of_random_numbers()
        if activation.channels_as_places:
            warn_of_channels(*activation.channels_as_places, len(tensors))
        return explained
