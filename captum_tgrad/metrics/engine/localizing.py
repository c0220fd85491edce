"""What the localization metrics share: declaration, arguments, maps and regions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, cast, overload

import torch
from torch import Tensor

from captum_tgrad import __version__
from captum_tgrad.metrics.engine.checks import (
    NanPolicy,
    check_finite,
    check_nan_policy,
    listed,
    methods_of,
)
from captum_tgrad.metrics.engine.features import channels_back, channels_first
from captum_tgrad.metrics.engine.findings import Findings, is_constant
from captum_tgrad.metrics.engine.importance import (
    ChannelReduce,
    InterpolateMode,
    importance_maps,
    not_finite,
)
from captum_tgrad.metrics.engine.metric import bound
from captum_tgrad.metrics.engine.regions import Regions, as_masks, size_of_masks

Options = ParamSpec("Options")
Result = TypeVar("Result")

Measure = Callable[[Tensor, Tensor], Tensor]
"""From maps and masks, ``(N, H, W)``, to one number per sample, ``(N,)``."""


class Localization(Protocol[Options, Result]):
    """A metric: one result for the attributions of one method, a dict of them for several."""

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


@dataclass(frozen=True)
class Localized:
    """The result for one method.

    Attributes:
        numbers: One number per sample, ``(N,)``.
        chance: Their chance level, ``(N,)``.
        protocol: How the numbers were computed.
    """

    numbers: Tensor
    chance: Tensor
    protocol: dict[str, Any]


LocalizationDeclaration = Callable[
    Concatenate[Tensor | Mapping[str, Tensor], Regions, Options], Any
]


def localization(
    run: Callable[..., Sequence[Localized]],
    kind: Callable[[Tensor, Tensor, dict[str, Any]], Result],
) -> Callable[[LocalizationDeclaration[Options]], Localization[Options, Result]]:
    """Turns a function that has a signature and a docstring into a localization metric.

    Args:
        run: Gets the ``LocalizationCall`` and, by name, the arguments that not all of these metrics
            have.
        kind: The class of the result, from the numbers, their chance level and the protocol.
    """

    def result(found: Localized) -> Result:
        return kind(found.numbers, found.chance, found.protocol)

    result.__annotations__["return"] = getattr(kind, "__name__", "")

    def decorate(declaration: LocalizationDeclaration[Options]) -> Localization[Options, Result]:
        function = bound(declaration, LocalizationCall, run, result)
        return cast("Localization[Options, Result]", function)

    return decorate


class LocalizationCall:
    """The arguments that all localization metrics have.

    Args:
        name: The name of the metric.
        attributions: For this and the following arguments, see ``pointing_game``.
        options: The arguments that not all of these metrics have.
    """

    def __init__(
        self,
        name: str,
        attributions: Tensor | Mapping[str, Tensor],
        regions: Regions,
        *,
        size: tuple[int, int] | None,
        channel_dim: int | None,
        channel_reduce: ChannelReduce,
        interpolate_mode: InterpolateMode,
        nan_policy: NanPolicy,
        **options: Any,
    ) -> None:
        check_nan_policy(nan_policy)
        if channel_dim not in (None, 1, 2, 3, -1, -2, -3):
            raise ValueError(
                "channel_dim must be a dimension of (N, C, H, W) other than the first, or None for"
                f" maps (N, H, W), got {channel_dim!r}."
            )
        self.name, self.options = name, options
        self.attributions, self.regions, self.size = attributions, regions, size
        self.channel_dim, self.channel_reduce = channel_dim, channel_reduce
        self.interpolate_mode, self.nan_policy = interpolate_mode, nan_policy
        self.findings = Findings()


def localized(
    call: LocalizationCall,
    measure: Measure,
    *,
    of_constant: str,
    widened: Callable[[Tensor], Tensor] = lambda masks: masks,
    **own: Any,
) -> list[Localized]:
    """Measures how much of each map is in its region.

    Args:
        call: The call.
        measure: Computes the number.
        of_constant: What a constant map means for the number, for a warning.
        widened: From masks to those that count as hits.
        own: Further entries of the protocol.
    """
    methods = methods_of(call.attributions)
    samples, size, device = _images(call, methods)
    masks = as_masks(call.regions, samples, size, device)
    empty = ~masks.flatten(1).any(1)
    if call.nan_policy == "raise" and bool(empty.any()):
        raise ValueError(
            f"the region of sample {listed(empty)} is empty: it has no box, or no pixel center is"
            " in one. Pass nan_policy='omit' to get NaN for these samples."
        )
    masks = widened(masks)
    found = []
    for name, attributions in methods.items():
        maps = _maps(attributions, name, (samples, *size), device, call)
        broken = not_finite((maps,))
        if call.nan_policy == "raise":
            check_finite(maps, name)
        call.findings.constant(is_constant((maps,)) & ~broken & ~empty, name, of_constant)
        whole = maps.masked_fill(broken[:, None, None], 0)
        numbers = measure(whole, masks).masked_fill(broken | empty, torch.nan)
        chance = masks.flatten(1).to(numbers).mean(1).masked_fill(empty, torch.nan)
        found.append(Localized(numbers, chance, _protocol(call, size, **own)))
    return found


def _images(
    call: LocalizationCall, methods: Mapping[str, Any]
) -> tuple[int, tuple[int, int], torch.device]:
    """The number of images, their height and width, and the device."""
    sizes = []
    for name, each in methods.items():
        if not isinstance(each, Tensor):
            raise TypeError(f"{name} must be a torch.Tensor, got {type(each).__name__}.")
        wanted = 3 if call.channel_dim is None else 4
        if each.dim() != wanted or each.numel() == 0:
            raise ValueError(
                f"{name} has shape {tuple(each.shape)}; with channel_dim={call.channel_dim}, maps"
                f" of images have {wanted} dimensions, none of size 0."
            )
        sizes.append(tuple(channels_first(each, call.channel_dim).shape[2:]))
    first = next(iter(methods.values()))
    size = call.size or size_of_masks(call.regions) or (max(sizes)[0], max(sizes)[1])
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
    call: LocalizationCall,
) -> Tensor:
    """The importance of every place, ``(N, H, W)``."""
    dim = call.channel_dim
    channels = channels_first(attributions, dim).shape[1]
    # What the maps are of: nothing but its shape and its device is read.
    images = torch.empty(1, device=device).expand(shape[0], channels, *shape[1:])
    (maps,) = importance_maps(
        attributions,
        (channels_back(images, dim),),
        call.channel_reduce,
        call.interpolate_mode,
        name,
        (dim,),
    )
    assert maps is not None
    return maps


def _protocol(call: LocalizationCall, size: Sequence[int], **own: Any) -> dict[str, Any]:
    elsewhere = {} if call.channel_dim == 1 else {"channel_dim": call.channel_dim}
    return {
        "metric": call.name,
        "regions": "boxes" if size_of_masks(call.regions) is None else "masks",
        "size": list(size),
        **own,
        **elsewhere,
        "channel_reduce": call.channel_reduce,
        "interpolate_mode": call.interpolate_mode,
        "nan_policy": call.nan_policy,
        "captum_tgrad": __version__,
        "torch": str(torch.__version__),
    }
