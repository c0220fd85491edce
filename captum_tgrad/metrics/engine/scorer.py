"""The score of an example: one number, from the model's output and the target."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from captum_tgrad._support import output_checks
from captum_tgrad._support.captum_private import (
    TargetType,
    format_additional_forward_args,
    select_targets,
)
from captum_tgrad._support.model_errors import explaining_errors
from captum_tgrad._support.probabilities import are_probabilities, at_least_float32
from captum_tgrad.decomposition.precision import without_autocast

Score = Literal["softmax", "logit"] | Callable[[Any, Any], Tensor]


class Scorer:
    """Scores examples of a batch of ``samples`` samples, in any order and number.

    Of the additional arguments, tensors whose first dimension is the batch are indexed along it, as
    in Captum. ``clean`` comes first: it finds a missing target, the predicted class, and whether
    the model returns probabilities (non-negative, with a sum of 1 for each input), which
    ``"softmax"`` uses unchanged. The logits of a single example may look the same: then pass a
    callable that computes their softmax.
    """

    def __init__(
        self,
        forward_func: Callable[..., Any],
        additional_forward_args: Any,
        target: TargetType,
        score: Score,
        samples: int,
    ) -> None:
        if score not in ("softmax", "logit") and not callable(score):
            raise ValueError(
                "score must be 'softmax', 'logit' or a callable (outputs, target) -> (N,), got"
                f" {score!r}."
            )
        output_checks.check_target_count(target, samples)
        self._forward_func = forward_func
        self._further = format_additional_forward_args(additional_forward_args) or ()
        self._target = target
        self._score = score
        self._samples = samples
        self._are_probabilities = False
        self.score_name = score if isinstance(score, str) else getattr(score, "__name__", "custom")
        self.target_name = "given"

    def clean(self, inputs: tuple[Tensor, ...], at_once: int, progress: Any) -> Tensor:
        """The scores of the inputs themselves, ``(samples,)``, from ``at_once`` at a time."""
        found: list[Tensor] = []
        for first in range(0, self._samples, at_once):
            samples = range(self._samples)[first : first + at_once]
            # Copies: models may overwrite their inputs.
            examples = tuple(each[first : samples.stop].clone() for each in inputs)
            outputs = self._outputs(examples, samples)
            if self._target is None or self.target_name == "predicted":
                self._predict(outputs, samples)
            if not found and isinstance(self._score, str):
                self._check_target(outputs)
            scores = self._scores(outputs, samples)  # raises before the other inputs are run
            # A copy: a model may return the same tensor in every call.
            found.append((outputs if self._score == "softmax" else scores).clone())
            progress.update(len(samples))
        with without_autocast(inputs[0]):  # torch.cat of some dtypes fails under autocast
            together = torch.cat(found)
        if self._score != "softmax":
            return together
        self._are_probabilities = are_probabilities(together)
        return self._scores(together, range(self._samples))

    def __call__(self, examples: tuple[Tensor, ...], samples: Sequence[int]) -> Tensor:
        """The scores of perturbed examples of these samples, ``(examples,)``."""
        return self._scores(self._outputs(examples, samples), samples)

    def _outputs(self, examples: tuple[Tensor, ...], samples: Sequence[int]) -> Any:
        index = torch.tensor(samples, device="cpu")
        further = (
            each.index_select(0, index.to(each.device))
            if isinstance(each, Tensor) and each.dim() > 0 and each.shape[0] == self._samples
            else each
            for each in self._further
        )
        with explaining_errors(self._forward_func, examples):
            outputs = self._forward_func(*examples, *further)
        if isinstance(self._score, str):
            return output_checks.with_batch(
                outputs, len(samples), " Or pass a score that accepts the output."
            )
        squeezed = isinstance(outputs, Tensor) and outputs.dim() == 0 and len(samples) == 1
        return outputs.reshape(1) if squeezed else outputs

    def _predict(self, outputs: Any, samples: Sequence[int]) -> None:
        if not isinstance(outputs, Tensor) or outputs.dim() != 2 or outputs.is_complex():
            return
        if outputs.shape[1] == 1 and isinstance(self._score, str):
            return
        if not isinstance(self._target, Tensor):  # in the first call
            self._target = torch.zeros(self._samples, dtype=torch.long, device=outputs.device)
            self.target_name = "predicted"
        self._target[torch.tensor(samples, device=outputs.device)] = outputs.argmax(1)

    def _check_target(self, outputs: Tensor) -> None:
        # check_target looks at the shape of the outputs of the whole batch.
        whole = outputs.new_empty(()).expand(self._samples, *outputs.shape[1:])
        output_checks.check_target(self._target, whole)
        if self.target_name == "given":
            self._target = output_checks.selectable(self._target)

    def _target_of(self, samples: Sequence[int], device: torch.device) -> object:
        target = self._target
        if isinstance(target, Tensor) and target.dim() > 0 and target.numel() > 0:
            # A single one is the target of all samples.
            of_all = target.to(device).expand(self._samples, *target.shape[1:])
            return of_all[torch.tensor(samples, device=device)]
        return [target[sample] for sample in samples] if isinstance(target, list) else target

    def _scores(self, outputs: Any, samples: Sequence[int]) -> Tensor:
        if not isinstance(self._score, str):
            return self._custom_scores(self._score, outputs, samples)
        outputs = at_least_float32(outputs)
        if outputs.numel() == len(samples):
            # One output per sample: there are no classes to compare it with.
            self.score_name = "output"
        elif self._score == "softmax" and self._are_probabilities:
            self.score_name = "probability"
        elif self._score == "softmax" and outputs.dim() > 2:
            raise ValueError(
                f"forward_func returned shape {tuple(outputs.shape)}, whose class dimension is"
                " unknown to score='softmax'. Pass score='logit', or compute the softmax yourself:"
                " forward_func=lambda x: model(x).softmax(1) with score='logit', if dimension 1 is"
                " that of the classes."
            )
        elif self._score == "softmax":
            outputs = outputs.softmax(1)
        selected: Tensor = select_targets(outputs, self._target_of(samples, outputs.device))
        return selected.reshape(-1)

    def _custom_scores(
        self, score: Callable[[Any, Any], Any], outputs: Any, samples: Sequence[int]
    ) -> Tensor:
        """The scores of a callable; raises TypeError or ValueError unless there is one each."""
        device = outputs.device if isinstance(outputs, Tensor) else torch.device("cpu")
        try:
            scores = score(outputs, self._target_of(samples, device))
        except TypeError as error:
            raise TypeError(f"score is called as score(outputs, target): {error}") from error
        if not isinstance(scores, Tensor):
            raise TypeError(
                f"score must return a tensor, one number per example; got {type(scores).__name__}."
            )
        if tuple(scores.shape) != (len(samples),):
            raise ValueError(
                f"score must return one number per example, shape ({len(samples)},); got shape"
                f" {tuple(scores.shape)}."
            )
        return at_least_float32(scores)
