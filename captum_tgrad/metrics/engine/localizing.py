"""What the metrics of localization share: arguments, maps, regions, what is left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, cast, overload

import torch
from torch import Tensor

from captum_tgrad import __version__
from captum_tgrad._support.captum_private import log_usage
from captum_tgrad.metrics.engine.checks import NanPolicy, check_nan_policy, listed, methods_of
from captum_tgrad.metrics.engine.features import channels_back, channels_first
from captum_tgrad.metrics.engine.findings import Findings, is_constant
from captum_tgrad.metrics.engine.importance import (
    ChannelReduce,
    InterpolateMode,
    importance_maps,
    not_finite,
)
from captum_tgrad.metrics.engine.regions import Regions, as_masks, size_of_masks

Options = ParamSpec("Options")
Result = TypeVar("Result")

Measure = Callable[[Tensor, Tensor], Tensor]
"""From maps and masks, ``(N, H, W)``, to one number per sample, ``(N,)``."""


class Localization(Protocol[Options, Result]):
    """A function whose result depends on whether ``attributions`` are of one method or of several.

    It takes whatever further arguments the function takes that ``localization`` is put on.
    """

    @overload
    def __call__(
        self,
        attributions: Tensor,
        regions: Regions,
        *args: Options.args,
        **kwargs: Options.kwargs,
    ) -> Result: ...

    @overload
    def __call__(
        self,
        attributions: Mapping[str, Tensor],
        regions: Regions,
        *args: Options.args,
        **kwargs: Options.kwargs,
    ) -> dict[str, Result]: ...


def localization(
    function: Callable[
        Concatenate[Tensor | Mapping[str, Tensor], Regions, Options], Result | dict[str, Result]
    ],
) -> Localization[Options, Result]:
    """Captum's ``log_usage``, and what a type checker should know of the function."""
    return cast("Localization[Options, Result]", log_usage(function))


@dataclass(frozen=True, kw_only=True, eq=False)
class LocalizationArguments:
    """The arguments that all of them have; see ``pointing_game`` for what they mean."""

    attributions: Tensor | Mapping[str, Tensor]
    regions: Regions
    size: tuple[int, int] | None
    channel_dim: int | None
    channel_reduce: ChannelReduce
    interpolate_mode: InterpolateMode
    nan_policy: NanPolicy

    def __post_init__(self) -> None:
        check_nan_policy(self.nan_policy)
        if self.channel_dim not in (None, 1, 2, 3, -1, -2, -3):
            raise ValueError(
                "channel_dim must be a dimension of (N, C, H, W) other than the first, or None for"
                f" maps (N, H, W), got {self.channel_dim!r}."
            )


def localized(
    metric: str,
    arguments: LocalizationArguments,
    measure: Measure,
    result: Callable[[Tensor, Tensor, dict[str, Any]], Result],
    *,
    of_constant: str,
    widened: Callable[[Tensor], Tensor] = lambda masks: masks,
    **own: Any,
) -> Result | dict[str, Result]:
    """Measures how much of each map is in its region.

    Args:
        metric: What to call this in the protocol.
        arguments: Those of the metric.
        measure: The number itself.
        result: From the numbers, what chance gives and the protocol to what the metric returns.
        of_constant: What the number of a constant map is, for a warning.
        widened: From masks to those that count.
        own: Further entries of the protocol.

    Returns:
        One result for each name where ``attributions`` is a dict.
    """
    methods = methods_of(arguments.attributions)
    samples, size, device = _images(arguments, methods)
    masks = as_masks(arguments.regions, samples, size, device)
    empty = ~masks.flatten(1).any(1)
    if arguments.nan_policy == "raise" and bool(empty.any()):
        raise ValueError(
            f"the region of sample {listed(empty)} is empty: no box, or none with the center of a"
            " pixel in it. Pass nan_policy='omit' to get NaN for these samples."
        )
    masks = widened(masks)
    findings, found = Findings(), []
    for name, attributions in methods.items():
        maps = _maps(attributions, name, (samples, *size), device, arguments)
        broken = not_finite((maps,))
        if arguments.nan_policy == "raise" and bool(broken.any()):
            raise ValueError(
                f"{name} holds NaN or inf in sample {listed(broken)}. Pass nan_policy='omit' to"
                " get NaN for these samples."
            )
        findings.constant(is_constant((maps,)) & ~broken & ~empty, name, of_constant)
        whole = maps.masked_fill(broken[:, None, None], 0)
        numbers = measure(whole, masks).masked_fill(broken | empty, torch.nan)
        chance = masks.flatten(1).to(numbers).mean(1).masked_fill(empty, torch.nan)
        protocol = _protocol(metric, arguments, size, **own)
        found.append(result(numbers, chance, protocol))
    findings.warn()
    if not isinstance(arguments.attributions, Mapping):
        return found[0]
    return dict(zip(arguments.attributions, found, strict=True))


def _images(
    arguments: LocalizationArguments, methods: Mapping[str, Any]
) -> tuple[int, tuple[int, int], torch.device]:
    """How many images there are, their height and width, and where to compute."""
    sizes = []
    for name, each in methods.items():
        if not isinstance(each, Tensor):
            raise TypeError(f"{name} must be a torch.Tensor, got {type(each).__name__}.")
        wanted = 3 if arguments.channel_dim is None else 4
        if each.dim() != wanted or each.numel() == 0:
            raise ValueError(
                f"{name} has shape {tuple(each.shape)}; the maps of images have {wanted}"
                f" dimensions with channel_dim={arguments.channel_dim}, none of them 0."
            )
        sizes.append(tuple(channels_first(each, arguments.channel_dim).shape[2:]))
    first = next(iter(methods.values()))
    size = arguments.size or size_of_masks(arguments.regions) or (max(sizes)[0], max(sizes)[1])
    if (
        not isinstance(size, (tuple, list))
        or len(size) != 2
        or any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in size)
    ):
        raise ValueError(f"size must be height and width in pixels, got {size!r}.")
    return first.shape[0], (size[0], size[1]), first.device


def _maps(
    attributions: Tensor,
    name: str,
    shape: tuple[int, int, int],
    device: torch.device,
    arguments: LocalizationArguments,
) -> Tensor:
    """The importance of every place, ``(N, H, W)``."""
    dim = arguments.channel_dim
    channels = channels_first(attributions, dim).shape[1]
    # What the maps are of: nothing but its shape and its device is read.
    images = torch.empty(1, device=device).expand(shape[0], channels, *shape[1:])
    (maps,) = importance_maps(
        attributions,
        (channels_back(images, dim),),
        arguments.channel_reduce,
        arguments.interpolate_mode,
        name,
        (dim,),
    )
    assert maps is not None
    return maps


def _protocol(
    metric: str, arguments: LocalizationArguments, size: Sequence[int], **own: Any
) -> dict[str, Any]:
    elsewhere = {} if arguments.channel_dim == 1 else {"channel_dim": arguments.channel_dim}
    return {
        "metric": metric,
        "regions": "boxes" if size_of_masks(arguments.regions) is None else "masks",
        "size": list(size),
        **own,
        **elsewhere,
        "channel_reduce": arguments.channel_reduce,
        "interpolate_mode": arguments.interpolate_mode,
        "nan_policy": arguments.nan_policy,
        "captum_tgrad": __version__,
        "torch": str(torch.__version__),
    }
