"""T-Grad as a Captum attribution."""

from __future__ import annotations

from typing import Literal, overload

from torch import Tensor

from captum_tgrad._support.captum_private import (
    TargetType,
    TensorOrTupleOfTensorsGeneric,
    format_output,
)
from captum_tgrad._support.input_checks import ChannelDim
from captum_tgrad.attribution.complete import CompleteAttribution, attribution_method
from captum_tgrad.decomposition.maps.combine import Aggregation, Sign, check_options


class TGradAttribution(CompleteAttribution):
    """T-Grad: attributions from the input gradient and every bias of a network.

    The output is decomposed into ``<df/dx, x>`` and one term for each operation that adds a
    constant, such as a bias. Each term has a map and a score. The attribution is the sum of the
    maps, weighted by their positive scores by default. It needs one forward and one backward pass.

    Source: Tran, Mai, Le and Le, "T-Grad: A Trustworthy Gradient Explanation for Convolutional
    Neural Networks", eq. 6 and 8. This package also decomposes all other differentiable operations.

    Args:
        forward_func: The model, or any function of it. It returns one number per sample, shape
            ``(N,)``, or one per sample and class, ``(N, classes)``. Return logits, because a
            probability also depends on the other classes. Put the model in evaluation mode first.

    Example:
        >>> import torch
        >>> from captum_tgrad import TGradAttribution
        >>> model = torch.nn.Linear(2, 1, bias=False)
        >>> _ = model.weight.data.copy_(torch.tensor([[-2.0, 9.0]]))
        >>> TGradAttribution(model).attribute(torch.tensor([[0.0, 1.0]]), target=0)
        tensor([[0., 9.]])

        Any function of the model can be explained, such as the difference of two logits:

        >>> classifier = torch.nn.Linear(2, 2)
        >>> def difference(images):
        ...     logits = classifier(images)
        ...     return logits[:, 1] - logits[:, 0]
        >>> TGradAttribution(difference).attribute(torch.ones(4, 2)).shape
        torch.Size([4, 2])
    """

    # For type checkers: the return type depends on return_convergence_delta.
    @overload
    def attribute(
        self,
        inputs: TensorOrTupleOfTensorsGeneric,
        target: TargetType = ...,
        additional_forward_args: object | None = ...,
        *,
        sign: Sign = ...,
        aggregation: Aggregation = ...,
        channel_dim: ChannelDim = ...,
        return_convergence_delta: Literal[False] = ...,
    ) -> TensorOrTupleOfTensorsGeneric: ...

    @overload
    def attribute(
        self,
        inputs: TensorOrTupleOfTensorsGeneric,
        target: TargetType = ...,
        additional_forward_args: object | None = ...,
        *,
        sign: Sign = ...,
        aggregation: Aggregation = ...,
        channel_dim: ChannelDim = ...,
        return_convergence_delta: Literal[True],
    ) -> tuple[TensorOrTupleOfTensorsGeneric, Tensor]: ...

    @overload
    def attribute(
        self,
        inputs: TensorOrTupleOfTensorsGeneric,
        target: TargetType = ...,
        additional_forward_args: object | None = ...,
        *,
        sign: Sign = ...,
        aggregation: Aggregation = ...,
        channel_dim: ChannelDim = ...,
        return_convergence_delta: bool,
    ) -> TensorOrTupleOfTensorsGeneric | tuple[TensorOrTupleOfTensorsGeneric, Tensor]: ...

    @attribution_method
    def attribute(
        self,
        inputs: TensorOrTupleOfTensorsGeneric,
        target: TargetType = None,
        additional_forward_args: object | None = None,
        *,
        sign: Sign = "positive",
        aggregation: Aggregation = "paper",
        channel_dim: ChannelDim = 1,
        return_convergence_delta: bool = False,
    ) -> TensorOrTupleOfTensorsGeneric | tuple[TensorOrTupleOfTensorsGeneric, Tensor]:
        """Computes the T-Grad attributions of each sample.

        Args:
            inputs: A tensor or a tuple of tensors, shape ``(N, features)``, ``(N, C, L)``,
                ``(N, C, H, W)`` or ``(N, C, D, H, W)``.
            target: The output to explain, in any of Captum's forms: an int, a tuple, a tensor or
                a list with one per sample; None if there is one output per sample.
            additional_forward_args: Additional arguments of ``forward_func``, held constant.
            sign: ``"positive"`` for the evidence for the target, ``"negative"`` for the evidence
                against it (both non-negative), ``"all"`` for their difference.
            aggregation: How the terms are combined. ``"paper"``: eq. 8, with each term weighted by
                its score. ``"levels"``, which is not in the paper: all resolutions have equal
                weight, and the coarsest map guides the others. On ImageNet, it has a higher
                insertion minus deletion and more of its map is on the object, but it has narrow
                peaks and a worse Average Drop. The map is not a sum of the terms' maps.
            channel_dim: The channel dimension of ``inputs``: 1 as in Captum, 2 for video
                ``(N, T, C, H, W)``, -1 for tokens ``(N, T, E)`` and channels-last images, None if
                there is none. For several inputs, a tuple with one entry each.
            return_convergence_delta: Whether to also return the convergence delta.

        Returns:
            The attributions, shaped like ``inputs``, in float32 or better. Their sum over channels
            is the map, in units of the output. The attributions of a sample sum to
            ``sum_i ReLU(score_i)`` over all terms; with ``sign="all"``, to the output minus the
            convergence delta. With several inputs, each has its share of the terms. With
            ``"levels"``, the map is scaled to the same sum and divided equally among the channels;
            for inputs without positions, such as tables, the result is that of ``"paper"``. With
            ``return_convergence_delta``, also the convergence delta, shape ``(N,)``: the output
            minus the sum of all terms.

        Raises:
            TypeError: ``inputs`` are not float tensors, ``target`` does not hold integers, or
                ``forward_func`` does not return a tensor.
            ValueError: ``inputs`` are empty, hold NaN or inf, or are not on the model's device or
                in its dtype; the output does not depend on one of them; ``target`` does not select
                one output per sample; a batch norm is in training mode; the network mixes the
                samples of the batch; or ``sign`` or ``aggregation`` is unknown.

        Warns:
            UserWarning: The terms do not add up to the output; a term consists of rounding error;
                attributions are NaN; an operation loses the positions of its input or draws random
                numbers; or the network uses the channels of an input as positions.
        """
        check_options(sign, aggregation)
        explained = self._explain(inputs, target, additional_forward_args, channel_dim)
        attributions = explained.combined(sign, aggregation)
        formatted = format_output(isinstance(inputs, tuple), attributions)
        return (formatted, explained.delta) if return_convergence_delta else formatted
