"""Smooth and efficient MPRT: the randomization test as one number per sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from captum_tgrad._support.arguments import check_count, check_number
from captum_tgrad._support.captum_private import TargetType
from captum_tgrad._support.extras import import_from_extra
from captum_tgrad._support.show import Result
from captum_tgrad.decomposition.maps.weighted_maps import per_sample
from captum_tgrad.decomposition.precision import in_full_precision
from captum_tgrad.sanity_checks.cascade import Mode, cascading_randomization
from captum_tgrad.sanity_checks.map_maker import one_tensor


@dataclass(frozen=True, eq=False, repr=False)
class SmoothMprtResult(Result):
    """The result of ``smooth_mprt``, float64 on the CPU.

    Attributes:
        smooth_mprt: The mean of the ``correlations`` that are not NaN, shape ``(N,)``; lower is
            better.
        correlations: For each randomized network and each sample, the rank correlation of the
            absolute smoothed map with that of the trained network, shape ``(networks, N)``.
        layers: The layer that was randomized last in each network.
    """

    smooth_mprt: Tensor
    correlations: Tensor
    layers: tuple[str, ...]


@dataclass(frozen=True, eq=False, repr=False)
class EfficientMprtResult(Result):
    """The result of ``efficient_mprt``, all tensors with shape ``(N,)``, float64 on the CPU.

    Attributes:
        efficient_mprt: The relative rise of the map's entropy under randomization; higher is
            better. NaN if the trained network's map is constant.
        trained_entropy: The entropy of the histogram of the trained network's map, in nats.
        random_entropy: The same for the random network.
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
    """Compares smoothed maps of the trained network with those of randomized networks.

    A smoothed map is the mean over noisy copies of the input. Without smoothing, maps of a noisy
    method, such as a gradient, differ because of their noise alone. Absolute values of maps are
    compared by rank correlation, as in Quantus by default. Unlike there, the mean over layers does
    not include the trained network, whose correlation is 1. Networks are randomized as by
    ``cascading_randomization``.

    Source: Hedström, Weber, Lapuschkin and Höhne, "A Fresh Look at Sanity Checks for Saliency
    Maps", 2024, section 3.

    ``n_samples`` is the number of maps to average: one without noise, the others with noise.
    ``noise_level``, 0 or more, is the standard deviation of the noise, as a share of the range of
    each input; the noise is the same for every network. The other arguments and the errors are
    those of ``cascading_randomization``. For ``mode``, the authors recommend ``"bottom_up"``. A
    missing ``target`` is the class predicted for the inputs without noise.

    Returns:
        The mean correlation of each sample, and all correlations.

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
    check_count(n_samples, "n_samples")
    if not 0 <= check_number(noise_level, "noise_level") < torch.inf:
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
    """The relative rise of a map's entropy when the whole network is randomized.

    ``(H(random) - H(trained)) / H(trained)``, with the entropy H of the histogram of a map with
    ``n_bins`` bins from its lowest to its highest value. A random network should have a more
    complex map. The test needs two maps and does not compare them with each other. Maps are summed
    over channels and keep their sign; for maps of one channel, the number is that of Quantus with
    its defaults. Networks are randomized as by ``cascading_randomization``.

    Source: Hedström, Weber, Lapuschkin and Höhne, "A Fresh Look at Sanity Checks for Saliency
    Maps", 2024, section 3.

    ``n_bins`` is 2 or more. The other arguments and the errors are those of
    ``cascading_randomization``.

    Returns:
        The relative rise for each sample, and both entropies.

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
    if check_count(n_bins, "n_bins") == 1:
        raise ValueError("n_bins must be 2 or more, got 1.")
    first, last = cascading_randomization(
        model,
        attribution_factory,
        inputs,
        target,
        additional_forward_args=additional_forward_args,
        attribute_kwargs=attribute_kwargs,
        layers=[""],  # the name of the whole model
        seed=seed,
    )
    trained, random = (_entropy(step.map, n_bins) for step in (first, last))
    rise = torch.where(trained > 0, (random - trained) / trained, torch.nan)
    return EfficientMprtResult(rise, trained, random)


def _entropy(maps: Tensor, n_bins: int) -> Tensor:
    """The entropy of the histogram of each map, shape ``(N,)``; NaN if the map is not finite."""
    stats = import_from_extra("scipy.stats", extra="sanity")
    found = []
    rounding = torch.finfo(maps.dtype).eps
    for values in maps.double().cpu().numpy():
        if not np.isfinite(values).all():
            found.append(np.nan)
        elif np.ptp(values) <= n_bins * rounding * np.abs(values).max():
            found.append(0.0)  # bins would be narrower than rounding: the map is constant
        else:
            found.append(float(stats.entropy(np.histogram(values, n_bins)[0])))
    return torch.tensor(found, dtype=torch.float64, device="cpu")


class Smoothed:
    """An attribution method whose maps are averaged over noise, for ``smooth_mprt``.

    Captum's ``NoiseTunnel`` has one standard deviation for all samples, and adds noise to all
    copies of the input.
    """

    def __init__(self, method: Any, n_samples: int, noise_level: float) -> None:
        self.method, self.n_samples, self.noise_level = method, n_samples, noise_level
        self.forward_func = getattr(method, "forward_func", None)

    def attribute(self, inputs: Tensor, target: Any = None, **options: Any) -> Tensor:
        """The mean of the attributions, in float32 or better."""
        rows = inputs.flatten(1)
        spread = per_sample(self.noise_level * (rows.amax(1) - rows.amin(1)), inputs)
        mean = torch.zeros((), device="cpu")
        for number in range(self.n_samples):
            noise = torch.randn_like(inputs) if number else torch.zeros_like(inputs)
            noisy = inputs + spread * noise
            found = one_tensor(self.method.attribute(noisy, target=target, **options))
            mean = mean + in_full_precision(found.detach()) / self.n_samples
        return mean
