"""The metrics as ``torchmetrics.Metric`` classes.

Needs the extra ``metrics``: ``pip install ".[metrics]"`` in the clone. The classes call the
functions of ``captum_tgrad.metrics`` with a fixed model and fixed options. They accumulate the
result of each sample across batches and, under ``torch.distributed``, across processes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, ClassVar
from uuid import uuid4

import torch

from captum_tgrad import metrics as functions
from captum_tgrad._support.extras import import_from_extra
from captum_tgrad._support.suggest import did_you_mean
from captum_tgrad.metrics.registry import ALL_NUMBERS

import_from_extra("torchmetrics", "metrics")  # its error says how to install it

from torchmetrics import Metric  # noqa: E402
from torchmetrics.utilities import dim_zero_cat  # noqa: E402

__all__ = [
    "AverageDrop",
    "Deletion",
    "EnergyInMask",
    "IncreaseInConfidence",
    "Insertion",
    "InsertionDeletion",
    "MassAccuracy",
    "PointingGame",
    "RankAccuracy",
    "Road",
]

_OF_TORCHMETRICS = (
    "compute_on_cpu",
    "compute_with_cache",
    "dist_sync_fn",
    "dist_sync_on_step",
    "distributed_available_fn",
    "process_group",
    "sync_on_compute",
)


class _PerSample(Metric):
    """Accumulates numbers per sample, and computes their mean.

    Args:
        forward_func: The model, as for the function of the same name.
        reduction: ``"mean"``: ``compute`` returns the mean over all samples that are not NaN.
            ``"none"``: it returns the number of each sample, in the order of the updates; with
            several processes, process by process.
        options: Further arguments of the function, such as ``n_steps`` or ``baselines``, or of
            ``torchmetrics.Metric``, such as ``process_group``.

    Raises:
        TypeError: The function has no such argument.
        ValueError: ``reduction`` is unknown.
    """

    is_differentiable = False
    full_state_update = False
    _function: ClassVar[str]
    _values: ClassVar[dict[str, str]]
    """The states, and from which field of the function's result each is."""

    def __init_subclass__(cls, number: str = "", **options: Any) -> None:
        """Takes the field and the direction of a number from the registry.

        The function of the same name returns it.
        """
        super().__init_subclass__(**options)
        if number:
            cls.higher_is_better = ALL_NUMBERS[number].higher_is_better
            cls._function = number
            cls._values = {"values": ALL_NUMBERS[number].field}

    def __init__(
        self, forward_func: Callable[..., Any] | None, *, reduction: str = "mean", **options: Any
    ) -> None:
        super().__init__(
            **{name: options.pop(name) for name in _OF_TORCHMETRICS if name in options}
        )
        if reduction not in ("mean", "none"):
            raise ValueError(f"reduction must be 'mean' or 'none', got {reduction!r}.")
        known = inspect.signature(getattr(functions, self._function)).parameters
        of_update = {"forward_func", *inspect.signature(type(self).update).parameters}
        own = [name for name in known if name not in of_update]
        for name in options:
            if name not in own:
                hint = did_you_mean(name, own, "it accepts those of " + self._function)
                raise TypeError(
                    f"{type(self).__name__} has no argument {name!r}:"
                    f" {'pass it to update' if name in of_update else hint}"
                )
        # In a tuple: torch would register a module as a submodule, to be moved and saved.
        self._forward_func = (forward_func,)
        self._reduction = reduction
        self._options = options
        # A MetricCollection merges metrics whose states are close to each other after the first
        # batch, which may happen by chance. Those of different owners never are: their bytes differ
        # by at least 1. A copy has the same owner, because it computes the same numbers.
        self.add_state("owner", torch.tensor(list(uuid4().bytes)), dist_reduce_fx="max")
        for name in self._values:
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, inputs: Any, attributions: Any, target: Any = None, **options: Any) -> None:
        """Scores a batch.

        Args:
            inputs: As for the function.
            attributions: As for the function, for one method.
            target: As for the function.
            options: Arguments for this batch only, such as ``additional_forward_args``.
        """
        model = self._forward_func[0]
        self._keep(model, inputs, attributions=attributions, target=target, **options)

    def _keep(self, *arguments: Any, attributions: Any, **options: Any) -> None:
        """Keeps the numbers that the function returns for these arguments and the fixed options."""
        if isinstance(attributions, Mapping):
            raise TypeError(
                "attributions must be of one method, got a dict: make one metric object for each"
                " method, and update each with its own attributions."
            )
        function = getattr(functions, self._function)
        found = function(*arguments, attributions=attributions, **{**self._options, **options})
        for name, field in self._values.items():
            # Processes without samples gather a tensor of this dtype: all have to use it.
            getattr(self, name).append(getattr(found, field).to(self.device, self.dtype))

    def compute(self) -> Any:
        """The mean or the numbers of all samples. Without samples: NaN or an empty tensor."""
        found = {}
        for name in self._values:
            kept = getattr(self, name)
            empty = torch.empty(0, dtype=self.dtype, device=self.device)
            numbers = dim_zero_cat(kept if len(kept) > 0 else [empty])
            found[name] = numbers if self._reduction == "none" else numbers.nanmean()
        return found if len(found) > 1 else next(iter(found.values()))

    def plot(self, val: Any = None, ax: Any = None) -> Any:
        """Plots the current result or others, ``val``, on new axes or ``ax``; returns both."""
        return self._plot(val, ax)


class Insertion(_PerSample, number="insertion"):
    """The area under the insertion curve; see ``captum_tgrad.metrics.insertion``.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(2, 1, bias=False)
        >>> _ = model.weight.data.copy_(torch.tensor([[3.0, 1.0]]))
        >>> metric = Insertion(model)
        >>> metric.update(torch.ones(1, 2), torch.tensor([[3.0, 1.0]]))
        >>> metric.update(torch.ones(1, 2), torch.tensor([[1.0, 3.0]]))
        >>> metric.compute()
        tensor(2.)
    """


class Deletion(_PerSample, number="deletion"):
    """The area under the deletion curve; see ``captum_tgrad.metrics.deletion``."""


class InsertionDeletion(_PerSample):
    """Both areas and their difference; see ``captum_tgrad.metrics.insertion_deletion``.

    ``compute`` returns a dict with "insertion", "deletion" and "difference", whose directions
    differ: see ``captum_tgrad.metrics.HIGHER_IS_BETTER``.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(2, 1, bias=False)
        >>> _ = model.weight.data.copy_(torch.tensor([[3.0, 1.0]]))
        >>> metric = InsertionDeletion(model, reduction="none")
        >>> metric.update(torch.ones(2, 2), torch.tensor([[3.0, 1.0], [1.0, 3.0]]))
        >>> metric.compute()["difference"]
        tensor([ 1., -1.])
    """

    higher_is_better = None
    _function = "insertion_deletion"
    _values: ClassVar[dict[str, str]] = {
        name: name for name in ("insertion", "deletion", "difference")
    }


class AverageDrop(_PerSample, number="average_drop"):
    """The mean percentage of the score that is lost; see ``captum_tgrad.metrics.average_drop``."""


class IncreaseInConfidence(_PerSample, number="increase_in_confidence"):
    """The percentage of rising scores; see ``captum_tgrad.metrics.increase_in_confidence``."""


class Road(_PerSample, number="road"):
    """The mean of ROAD; see ``captum_tgrad.metrics.road``."""


class _Localization(_PerSample):
    """Accumulates numbers per sample of a metric that needs no model, with the same options."""

    def __init__(self, *, reduction: str = "mean", **options: Any) -> None:
        super().__init__(None, reduction=reduction, **options)

    def update(  # type: ignore[override]
        self, attributions: Any, regions: Any, **options: Any
    ) -> None:
        """Measures a batch.

        Args:
            attributions: As for the function, for one method.
            regions: As for the function.
            options: Arguments for this batch only, such as ``size``.
        """
        self._keep(attributions=attributions, regions=regions, **options)


class PointingGame(_Localization, number="pointing_game"):
    """The share of hits; see ``captum_tgrad.metrics.pointing_game``.

    Example:
        >>> import torch
        >>> metric = PointingGame(tolerance=0)
        >>> metric.update(torch.eye(2).reshape(1, 1, 2, 2), torch.tensor([[0, 0, 1, 1]]))
        >>> metric.compute()
        tensor(0.5000)
    """


class EnergyInMask(_Localization, number="energy_in_mask"):
    """The mean share of positive attribution; see ``captum_tgrad.metrics.energy_in_mask``."""


class MassAccuracy(_Localization, number="mass_accuracy"):
    """The mean share of absolute attribution; see ``captum_tgrad.metrics.mass_accuracy``."""


class RankAccuracy(_Localization, number="rank_accuracy"):
    """The mean share of the highest-ranked pixels; see ``captum_tgrad.metrics.rank_accuracy``."""
