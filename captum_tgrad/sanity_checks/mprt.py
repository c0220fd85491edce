"""The randomization test as one number for each sample: smooth and efficient MPRT."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from captum_tgrad._support.show import shown
from captum_tgrad.sanity_checks.cascade import Mode, cascading_randomization
from captum_tgrad.sanity_checks.smoothed import Smoothed

if TYPE_CHECKING:
    from captum_tgrad._support.captum_private import TargetType

_WHOLE_MODEL = ("",)
"""The model as the one layer that is randomized."""


@shown
@dataclass(frozen=True, eq=False)
class SmoothMprtResult:
    """What ``smooth_mprt`` found, float64 on the CPU.

    Attributes:
        smooth_mprt: The mean of ``correlations`` where they are not NaN, ``(N,)``; lower is better.
        correlations: For each randomized network and each sample, the rank correlation of the
            absolute smoothed maps with those of the trained network, ``(networks, N)``.
        layers: The layer that was randomized last in each network.
    """

    smooth_mprt: Tensor
    correlations: Tensor
    layers: tuple[str, ...]


@shown
@dataclass(frozen=True, eq=False)
class EfficientMprtResult:
    """What ``efficient_mprt`` found; every tensor has one number per sample, ``(N,)``, float64.

    Attributes:
        efficient_mprt: How much the entropy of the map rises, as a share of that of the trained
            network; higher is better. NaN where the trained network's map is constant.
        trained_entropy: Of the histogram of the trained network's map, in nats.
        random_entropy: The same of the random network.
    """

    efficient_mprt: Tensor
    trained_entropy: Tensor
    random_entropy: Tensor


def smooth_mprt(
    model: nn.Module,
    attribution_factory: Callable[[Any], Any],
    inputs: Tensor,
    target: TargetType = None,
    *,
    additional_forward_args: object | None = None,
    attribute_kwargs: Mapping[str, Any] | None = None,
    layers: Sequence[str] | None = None,
    mode: Mode = "bottom_up",
    n_samples: int = 50,
    noise_level: float = 0.1,
    seed: int = 0,
) -> SmoothMprtResult:
    """How alike the maps of the trained and of random networks are, once noise is averaged out.

    The rank correlation of ``cascading_randomization``, of maps that are means over noisy copies of
    each input: a method whose maps are noisy, such as a gradient, is otherwise unlike itself for
    its noise alone. The absolute values of maps are compared, as Quantus does by default. Its mean
    over layers has the trained network in it, whose correlation is 1; this one has not.

    Arguments not named here, how networks are randomized, and what is raised are those of
    ``cascading_randomization``.

    Source: Hedström, Weber, Lapuschkin and Höhne, "A Fresh Look at Sanity Checks for Saliency
    Maps", 2024, section 3.

    Args:
        model: See there.
        attribution_factory: See there.
        inputs: See there.
        target: See there; the class is that of the inputs without noise.
        additional_forward_args: See there.
        attribute_kwargs: See there.
        layers: See there.
        mode: See there; the authors recommend to begin at the input.
        n_samples: How many maps are averaged: one without noise, the others with it.
        noise_level: Standard deviation of the noise, as a share of the range of each input.
        seed: See there; the noise is the same for every network.

    Returns:
        One number for each sample, and what it is the mean of.

    Raises:
        ValueError: As there, or ``n_samples`` or ``noise_level`` is out of range.

    Example:
        >>> import torch
        >>> from captum.attr import Saliency
        >>> from captum_tgrad.sanity_checks import smooth_mprt
        >>> _ = torch.manual_seed(0)
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten())
        >>> model = model.append(torch.nn.Linear(144, 5))
        >>> result = smooth_mprt(model, Saliency, torch.rand(2, 3, 8, 8), target=1, n_samples=4)
        >>> result.layers, result.smooth_mprt.shape
        (('0', '2'), torch.Size([2]))
    """
    if isinstance(n_samples, bool) or not isinstance(n_samples, int) or n_samples < 1:
        raise ValueError(f"n_samples must be a positive integer, got {n_samples!r}.")
    if not 0 <= noise_level < float("inf"):
        raise ValueError(f"noise_level must be 0 or more, got {noise_level!r}.")
    _, *steps = cascading_randomization(
        model,
        lambda copy: Smoothed(attribution_factory(copy), n_samples, noise_level),
        inputs,
        target,
        additional_forward_args=additional_forward_args,
        attribute_kwargs=attribute_kwargs,
        layers=layers,
        mode=mode,
        seed=seed,
    )
    correlations = torch.stack([step.spearman_absolute for step in steps])
    names = tuple(str(step.layer) for step in steps)
    return SmoothMprtResult(correlations.nanmean(0), correlations, names)


def efficient_mprt(
    model: nn.Module,
    attribution_factory: Callable[[Any], Any],
    inputs: Tensor,
    target: TargetType = None,
    *,
    additional_forward_args: object | None = None,
    attribute_kwargs: Mapping[str, Any] | None = None,
    n_bins: int = 100,
    seed: int = 0,
) -> EfficientMprtResult:
    """How much the entropy of a map rises when the whole network becomes random.

    ``(H(random) - H(trained)) / H(trained)``, with H the entropy of the histogram of a map with
    ``n_bins`` bins from its lowest to its highest value. No map is compared with another, and two
    maps are all it takes: a random network should give a map that is more complex.

    Arguments not named here, how networks are randomized, and what is raised are those of
    ``cascading_randomization``. Maps are summed over channels and keep their sign, as they do by
    default in Quantus, whose number this is for maps of one channel.

    Source: Hedström, Weber, Lapuschkin and Höhne, "A Fresh Look at Sanity Checks for Saliency
    Maps", 2024, section 3.

    Args:
        model: See there.
        attribution_factory: See there.
        inputs: See there.
        target: See there.
        additional_forward_args: See there.
        attribute_kwargs: See there.
        n_bins: The number of bins.
        seed: See there.

    Returns:
        One number for each sample, and both entropies.

    Raises:
        ValueError: As there, or ``n_bins`` is out of range.

    Example:
        >>> import torch
        >>> from captum_tgrad import TGradAttribution
        >>> from captum_tgrad.sanity_checks import efficient_mprt
        >>> _ = torch.manual_seed(0)
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten())
        >>> model = model.append(torch.nn.Linear(144, 5))
        >>> efficient_mprt(model, TGradAttribution, torch.rand(2, 3, 8, 8), 1).efficient_mprt.shape
        torch.Size([2])
    """
    if isinstance(n_bins, bool) or not isinstance(n_bins, int) or n_bins < 1:
        raise ValueError(f"n_bins must be a positive integer, got {n_bins!r}.")
    first, last = cascading_randomization(
        model,
        attribution_factory,
        inputs,
        target,
        additional_forward_args=additional_forward_args,
        attribute_kwargs=attribute_kwargs,
        layers=_WHOLE_MODEL,
        seed=seed,
    )
    trained, random = (_entropy(step.map, n_bins) for step in (first, last))
    rise = torch.where(trained > 0, (random - trained) / trained, torch.nan)
    return EfficientMprtResult(rise, trained, random)


def _entropy(maps: Tensor, n_bins: int) -> Tensor:
    """The entropy of the histogram of each map, ``(N,)``; NaN where it is not finite."""
    found = []
    for values in maps.detach().double().cpu().flatten(1).numpy():
        if not np.isfinite(values).all():
            found.append(np.nan)
            continue
        shares = np.histogram(values, n_bins)[0] / len(values)
        shares = shares[shares > 0]
        found.append(float(-(shares * np.log(shares)).sum()))
    return torch.tensor(found, dtype=torch.float64)
