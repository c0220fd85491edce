"""FullGrad as a Captum attribution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, overload

import torch
from torch import Tensor

from captum_tgrad._support.captum_private import (
    TargetType,
    TensorOrTupleOfTensorsGeneric,
    format_output,
)
from captum_tgrad._support.input_checks import ChannelDim
from captum_tgrad.attribution.complete import CompleteAttribution, attribution_method
from captum_tgrad.decomposition.maps.enlarging import enlarged
from captum_tgrad.decomposition.maps.grid import Grid
from captum_tgrad.decomposition.maps.reduction import Reduction
from captum_tgrad.decomposition.maps.weighted_maps import per_sample
from captum_tgrad.decomposition.precision import without_autocast
from captum_tgrad.decomposition.term import Magnitudes, Term


class FullGradAttribution(CompleteAttribution):
    """FullGrad: the sum of the terms' magnitudes, each rescaled to [0, 1] and upsampled.

    The terms are those of :class:`~captum_tgrad.TGradAttribution`. The bias of a batch norm
    includes its running mean. Terms without a position on the input, such as the bias of a
    classifier, are left out: they would raise all pixels equally.

    For a chain of convolutions, batch norms and ReLUs with one channel each,
    ``pytorch_grad_cam.FullGrad`` returns the same map, scaled to [0, 1]. For other networks, it
    differs: it rescales each channel separately, uses only the biases of ``nn.Conv2d`` and
    ``nn.BatchNorm2d``, and assumes that the layers run in the order of their definition.

    Source: Srinivas and Fleuret, "Full-Gradient Representation for Neural Network Visualization",
    NeurIPS 2019; eq. 1 of the T-Grad paper.

    Args:
        forward_func: As for :class:`~captum_tgrad.TGradAttribution`.
    """

    # For type checkers: the return type depends on return_convergence_delta.
    @overload
    def attribute(
        self,
        inputs: TensorOrTupleOfTensorsGeneric,
        target: TargetType = ...,
        additional_forward_args: object | None = ...,
        *,
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
        channel_dim: ChannelDim = 1,
        return_convergence_delta: bool = False,
    ) -> TensorOrTupleOfTensorsGeneric | tuple[TensorOrTupleOfTensorsGeneric, Tensor]:
        """Computes the FullGrad attributions of each sample.

        Arguments and errors are those of ``TGradAttribution.attribute``.

        Returns:
            The attributions, shaped like ``inputs``, non-negative, unitless. Their sum over
            channels is the map. The input's term keeps its channels. The other terms are divided
            equally among the channels. If a term depends on several inputs, each input has its
            share. With ``return_convergence_delta``, also the convergence delta, shape ``(N,)``.
        """
        explained = self._explain(
            inputs, target, additional_forward_args, channel_dim, with_magnitudes=True
        )
        decomposition = explained.decomposition
        with torch.no_grad(), without_autocast(explained.contributions[0]):
            attributions = tuple(
                _full_grad(contribution, number, decomposition.biases, by)
                for number, (contribution, by) in enumerate(
                    zip(explained.contributions, explained.reductions, strict=True)
                )
            )
        formatted = format_output(isinstance(inputs, tuple), attributions)
        return (formatted, decomposition.delta) if return_convergence_delta else formatted


def _full_grad(contribution: Tensor, number: int, biases: Sequence[Term], by: Reduction) -> Tensor:
    absolute = contribution.abs()
    smallest, largest = absolute.reshape(by.samples, -1).aminmax(dim=1)
    attribution = (absolute - by.per_sample(smallest, absolute)) * by.per_sample(
        _inverse(largest - smallest), absolute
    )
    if by.grid is None:
        return attribution
    # Enlarging is linear, so the rescaled maps of one grid are added up before they are enlarged.
    sums: dict[object, tuple[Tensor, Grid]] = {}
    for term in biases:
        found = term.maps.get(number)
        magnitudes = term.magnitudes.get(number)
        if found is None or found.grid is None or magnitudes is None:
            continue
        rescaled = _rescaled(found.positive + found.negative, magnitudes)
        key = (found.grid.key, rescaled.dtype)
        before = sums[key][0] if key in sums else 0
        sums[key] = (before + rescaled, found.grid)
    for evidence, grid in sums.values():
        attribution += by.out_of_cells(enlarged(evidence, grid, by.grid), attribution)
    return attribution


def _rescaled(absolute: Tensor, magnitudes: Magnitudes) -> Tensor:
    """``sum_c (|c| - min |c|) / (max |c| - min |c|)``, from the sum of ``|c|`` and its range."""
    scale = _inverse(magnitudes.largest - magnitudes.smallest)
    raised = absolute - magnitudes.elements * per_sample(magnitudes.smallest, absolute)
    return raised.clamp_min(0) * per_sample(scale, absolute)  # rounding may leave -eps


def _inverse(span: Tensor) -> Tensor:
    """1 over the range of a term; 0 where all its elements are equal."""
    return torch.where(span > 0, 1 / span, 0)
