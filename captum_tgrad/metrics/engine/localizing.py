"""Declares a localization metric, and prepares the maps and regions that it compares."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, cast, overload

import torch
from torch import Tensor

from captum_tgrad._support.arguments import check_choice, got
from captum_tgrad.metrics.engine.checks import NanPolicy, check_finite, check_omitted, methods_of
from captum_tgrad.metrics.engine.findings import Findings
from captum_tgrad.metrics.engine.importance import (
    ChannelReduce,
    InterpolateMode,
    importance_maps,
    is_constant,
)
from captum_tgrad.metrics.engine.layout import channels_first
from captum_tgrad.metrics.engine.metric import declared, protocol_of
from captum_tgrad.metrics.engine.regions import Regions, as_masks, hint_for_boxes, size_of_masks

Options = ParamSpec("Options")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Measure:
    """What a localization metric measures.

    Attributes:
        numbers: From maps and masks, ``(N, H, W)``, to one number per sample, ``(N,)``.
        of_constant: What a constant map means for the number, for a warning.
        widened: From masks to those that count as hits.
        protocol: Further entries of the protocol.
    """

    numbers: Callable[[Tensor, Tensor], Tensor]
    of_constant: str
    widened: Callable[[Tensor], Tensor] = lambda masks: masks
    protocol: dict[str, Any] = field(default_factory=dict)


class Localization(Protocol[Options, Result]):
    """A metric: one result for the attributions of one method, a dict of them for several."""

    @overload
    def __call__(
        self, attributions: Tensor, *args: Options.args, **kwargs: Options.kwargs
    ) -> Result: ...

    @overload
    def __call__(
        self, attributions: Mapping[str, Tensor], *args: Options.args, **kwargs: Options.kwargs
    ) -> dict[str, Result]: ...


Declaration = Callable[Concatenate[Tensor | Mapping[str, Tensor], Options], Measure]


def localization_metric(
    result: Callable[[Tensor, Tensor, dict[str, Any]], Result],
) -> Callable[[Declaration[Options]], Localization[Options, Result]]:
    """Turns a function that checks its own arguments and returns a measure into a metric."""

    def decorate(declaration: Declaration[Options]) -> Localization[Options, Result]:
        name, measure_of = declaration.__name__, cast("Callable[..., Measure]", declaration)

        def compute(**arguments: Any) -> list[Result]:
            found = _localized(name, measure_of(**arguments), **arguments)
            return [result(*each) for each in found]

        return cast("Localization[Options, Result]", declared(declaration, compute, result))

    return decorate


def _localized(
    metric: str,
    measure: Measure,
    attributions: Tensor | Mapping[str, Tensor],
    regions: Regions,
    *,
    size: tuple[int, int] | None,
    channel_dim: int | None,
    channel_reduce: ChannelReduce,
    interpolate_mode: InterpolateMode,
    nan_policy: NanPolicy,
    **_: Any,
) -> list[tuple[Tensor, Tensor, dict[str, Any]]]:
    """For each method the numbers, ``(N,)``, their chance level, ``(N,)``, and the protocol.

    ``measure`` has used the metric's own arguments, ``_``.
    """
    check_choice(nan_policy, NanPolicy, "nan_policy")
    if channel_dim not in (None, 1, 2, 3, -1, -2, -3):
        raise ValueError(
            "channel_dim must be a dimension of (N, C, H, W) other than the first, or None for"
            f" maps (N, H, W), got {channel_dim!r}."
        )
    if channel_dim is not None:
        channel_dim = int(channel_dim)  # a protocol holds plain numbers
    methods = methods_of(attributions)
    _check_maps(methods, channel_dim)
    first = next(iter(methods.values()))
    hint = "; if all attributions are coarser than the images, pass size=(height, width)"
    hint *= size is None
    size = _size_of_images(methods, regions, size, channel_dim)
    masks = as_masks(regions, len(first), size, first.device, hint)
    empty = ~masks.flatten(1).any(1)
    check_omitted(
        empty,
        nan_policy,
        "the region of sample",
        " is empty: its mask is 0, it has no box, or no pixel center is in a box",
    )
    masks = measure.widened(masks)
    entries = {
        "regions": "boxes" if size_of_masks(regions) is None else "masks",
        "size": list(size),
        **measure.protocol,
        **({} if channel_dim == 1 else {"channel_dim": channel_dim}),
        "channel_reduce": channel_reduce,
        "interpolate_mode": interpolate_mode,
        "nan_policy": nan_policy,
    }
    findings, results = Findings(), []
    for name, each in methods.items():
        # A stand-in for the images: only its shape and device are read.
        channels = channels_first(each, channel_dim).shape[1]
        images = masks[:, None].expand(-1, channels, -1, -1)
        (maps,) = importance_maps(
            each, (images,), channel_reduce, interpolate_mode, name, (channel_dim,)
        )
        assert maps is not None
        broken = check_finite(maps, name, nan_policy)
        findings.constant(is_constant((maps,)) & ~broken & ~empty, name, measure.of_constant)
        numbers = measure.numbers(maps, masks).masked_fill(broken | empty, torch.nan)
        chance = masks.flatten(1).to(numbers).mean(1).masked_fill(empty, torch.nan)
        results.append((numbers, chance, protocol_of(metric, entries)))
    findings.warn()
    return results


def _check_maps(methods: Mapping[str, Any], channel_dim: int | None) -> None:
    """Raises TypeError or ValueError unless the attributions of all methods are maps of images."""
    for name, each in methods.items():
        if not isinstance(each, Tensor):
            raise TypeError(f"{name} must be a torch.Tensor, got {got(each)}.")
        wanted = 3 if channel_dim is None else 4
        if each.dim() != wanted or each.numel() == 0:
            hint = " Pass channel_dim=None for maps (N, H, W)." * (wanted == each.dim() + 1)
            raise ValueError(
                f"{name} has shape {tuple(each.shape)}; with channel_dim={channel_dim}, maps"
                f" of images have {wanted} dimensions, none of size 0.{hint}"
            )


def _size_of_images(
    methods: Mapping[str, Tensor], regions: Regions, size: Any, channel_dim: int | None
) -> tuple[int, int]:
    """Height and width: ``size`` if given, or those of the masks or of the largest attributions."""
    of_masks = size_of_masks(regions)
    largest = max(tuple(channels_first(each, channel_dim).shape[2:]) for each in methods.values())
    if of_masks is not None and (of_masks[0] < largest[0] or of_masks[1] < largest[1]):
        raise ValueError(
            f"regions has masks of height and width {of_masks}, but the attributions have"
            f" {largest}. Resize the masks to the images, for example with"
            f" F.interpolate(masks[:, None].float(), size).{hint_for_boxes(regions)}"
        )
    size = (of_masks or largest) if size is None else size
    if (
        not isinstance(size, (tuple, list))
        or len(size) != 2
        or any(isinstance(n, bool) or not isinstance(n, Integral) or n < 1 for n in size)
    ):
        raise ValueError(f"size must be height and width in pixels, got {size!r}.")
    return int(size[0]), int(size[1])
