"""A method on batch after batch: timed, in smaller parts if need be, and excused if it fails."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from captum_tgrad.evaluation.halving import Halving
from captum_tgrad.evaluation.method import EXAMPLES_AT_ONCE, Black, Explainer, Method
from captum_tgrad.metrics.importance import importance_maps

# A method that has failed on so many images and on no other has no use for more.
_GIVE_UP_AFTER = 8

# Seconds that one image takes, from which on a batch is not run only to warm up.
_LONG = 1.0


@dataclass(frozen=True)
class Explained:
    """What a method made of one image.

    Attributes:
        importance: The importance of each place, ``(1, H, W)``.
        residual: Of T-Grad, what its terms leave unexplained; None of others.
        seconds: How long it took: that of the images explained at once, divided by their number.
    """

    importance: Tensor
    residual: float | None
    seconds: float


class TimedMethod:
    """A method made for a model, which may fail without harm to others.

    Args:
        method: The method.
        model: The model.
        black: What a black picture is to it.
        batch_size: How many images are explained at once.

    Attributes:
        method: As given.
        gave_up: Why it is not tried any more; None while it is.
        parts: How the batch is divided; its ``size`` is smaller than the batch where memory was
            short.
    """

    def __init__(self, method: Method, model: nn.Module, black: Black, batch_size: int) -> None:
        self.method = method
        self.parts = Halving(batch_size)
        self.gave_up: str | None = None
        self._model, self._black = model, black
        self._explainer: Explainer | None = None
        self._successes = self._failures = 0
        self._warm = False

    def __call__(
        self, inputs: Tensor, target: Tensor, seeds: Sequence[int]
    ) -> list[Explained | str]:
        """Explains a batch.

        Args:
            inputs: Images, ``(N, C, H, W)``.
            target: Their targets, ``(N,)``.
            seeds: Their seeds.

        Returns:
            For each image what was made of it, or why nothing was.
        """
        found = self._explain(inputs, target, seeds)
        failures = sum(isinstance(each, str) for each in found)
        self._failures += failures
        self._successes += len(found) - failures
        if not self._successes and self._failures >= _GIVE_UP_AFTER:
            self.gave_up = next(each for each in found if isinstance(each, str))
        return found

    def _explain(
        self, inputs: Tensor, target: Tensor, seeds: Sequence[int]
    ) -> list[Explained | str]:
        found: list[Explained | str] = []
        try:
            if not self._warm:
                self._warm_up(inputs, target, seeds)
            for _, explained in self.parts(
                lambda part: self._timed(inputs[part], target[part], seeds[part]), len(inputs)
            ):
                found += explained
        # Anything may go wrong in code that is not ours, on a model that it does not know.
        except Exception as error:
            self._explainer = None
            rest = slice(len(found), len(inputs))
            if len(inputs) == 1:
                return [_reason(error)]
            # One image may be at fault: the others are not to suffer for it.
            for index in range(rest.start, rest.stop):
                one = slice(index, index + 1)
                found += self._explain(inputs[one], target[one], seeds[one])
        return found

    def _timed(self, inputs: Tensor, target: Tensor, seeds: Sequence[int]) -> list[Explained | str]:
        _synchronise(inputs.device)
        start = time.perf_counter()
        attributions, residual = self._run(inputs, target, seeds)
        _synchronise(inputs.device)
        seconds = (time.perf_counter() - start) / len(inputs)
        (importance,) = importance_maps(attributions, (inputs,), "sum", "bilinear")
        if importance is None:
            raise TypeError("there are no attributions")
        residuals = [None] * len(inputs) if residual is None else residual.tolist()
        return [
            Explained(each[None], rest, seconds)
            if bool(torch.isfinite(each).all())
            else "its map holds NaN or inf"
            for each, rest in zip(importance, residuals, strict=True)
        ]

    def _warm_up(self, inputs: Tensor, target: Tensor, seeds: Sequence[int]) -> None:
        """What is done once only is done now, and not timed.

        A GPU chooses its kernels by the size of the batch, and a CPU has to find memory for all of
        it. Where one image takes long on a CPU, neither is seen in what a batch takes.
        """
        first = 0.0 if inputs.device.type == "cuda" else self._once(inputs[:1], target[:1], seeds)
        if first < _LONG:
            self._once(inputs, target, seeds)
        self._warm = True

    def _once(self, inputs: Tensor, target: Tensor, seeds: Sequence[int]) -> float:
        """Runs the method, and returns the seconds that it took."""
        start = time.perf_counter()
        for _ in self.parts(
            lambda part: self._run(inputs[part], target[part], seeds[part]), len(inputs)
        ):
            pass
        return time.perf_counter() - start

    def _run(
        self, inputs: Tensor, target: Tensor, seeds: Sequence[int]
    ) -> tuple[Tensor, Tensor | None]:
        if self._explainer is None:
            # Also after a failure: what failed may be in any state.
            self._explainer = self.method.build(self._model, self._black)
        return self._explainer.with_residual(
            inputs, target, seeds, min(EXAMPLES_AT_ONCE, max(self.parts.size, 1))
        )


def _synchronise(device: torch.device) -> None:
    """Waits until the device has done what it was told: it works on while the clock is read."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _reason(error: Exception) -> str:
    """An error in one line."""
    said = " ".join(str(error).split())
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
