"""The result of a decomposition: an output as a sum of named terms."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from captum_tgrad._support.arguments import check_count, check_sample
from captum_tgrad._support.show import html_table, numbers
from captum_tgrad._support.suggest import did_you_mean
from captum_tgrad.decomposition.maps.combine import Aggregation, Sign, check_options, t_grad_map
from captum_tgrad.decomposition.maps.grid import Grid
from captum_tgrad.decomposition.precision import without_autocast
from captum_tgrad.decomposition.term import Magnitudes, Term, TermMap


@dataclass(frozen=True, eq=False, repr=False)
class Decomposition:
    """An output as a sum of terms: ``output == sum of term.score + delta``, for each sample.

    It is a collection of its terms: ``len(decomposition)``, ``for term in decomposition``,
    ``"layer4.1.bn2" in decomposition`` and ``decomposition["layer4.1.bn2"]`` work. ``torch.save``
    writes it, and ``torch.load`` reads it after this class is imported.

    Source: Tran, Mai, Le and Le, "T-Grad", eq. 6.

    Args:
        output: The explained output, shape ``(N,)``.
        input: The term of the input, or a tuple of terms for several inputs.
        biases: The terms of all operations with a bias, in forward order.
        delta: The convergence delta, shape ``(N,)``: the output minus the sum of all terms. It is
            rounding error unless the network changes values without a gradient.
    """

    output: Tensor
    input: Term | tuple[Term, ...]
    biases: Sequence[Term]
    delta: Tensor

    @property
    def inputs(self) -> tuple[Term, ...]:
        """The terms of the inputs, always as a tuple."""
        return (self.input,) if isinstance(self.input, Term) else self.input

    @property
    def terms(self) -> list[Term]:
        """The terms of the inputs, then those of the biases."""
        return [*self.inputs, *self.biases]

    @property
    def placed(self) -> Tensor:
        """The share of the sum of ``|score|`` with a position on an input, shape ``(N,)``.

        The rest is spread evenly, for example the terms of a classifier after global pooling.
        """
        sizes = torch.stack([term.score.abs() for term in self.terms])
        placed = torch.stack([term.placed for term in self.terms])
        return (sizes * placed).sum(0) / sizes.sum(0).clamp_min(torch.finfo(sizes.dtype).tiny)

    def __len__(self) -> int:
        return len(self.terms)

    def __iter__(self) -> Iterator[Term]:
        return iter(self.terms)

    def __contains__(self, item: object) -> bool:
        """Whether ``item`` is a term or the name of one."""
        return any(item in (term.name, term) for term in self.terms)

    def __getitem__(self, name: str) -> Term:
        """The term with a name.

        Raises:
            KeyError: No term has this name; the message suggests similar names.
            TypeError: ``name`` is not a string.
        """
        if not isinstance(name, str):
            raise TypeError(
                f"terms are indexed by name (str), got {type(name).__name__}: see"
                " decomposition.terms for a list."
            )
        found = {term.name: term for term in self.terms}
        if name not in found:
            otherwise = "[term.name for term in decomposition] lists the names."
            raise KeyError(f"term {name!r} not found: {did_you_mean(name, found, otherwise)}")
        return found[name]

    def top(self, count: int = 10, sign: Sign = "all", sample: int = 0) -> list[Term]:
        """The terms with the largest scores, the largest first.

        Args:
            count: The number of terms.
            sign: ``"positive"`` for positive scores only, ``"negative"`` for negative scores only,
                ``"all"`` for both.
            sample: The sample whose scores are compared.

        Raises:
            TypeError: ``count`` or ``sample`` is not an integer.
            ValueError: ``sign`` is not one of the three, ``count`` is negative, or there is no such
                sample.
        """
        check_options(sign, "paper")
        check_count(count, "count", least=0)
        samples = len(self.output)
        check_sample(sample + samples if sample in range(-samples, 0) else sample, samples)
        scored = [(float(term.score[sample]), term) for term in self.terms]
        if sign != "all":
            direction = 1 if sign == "positive" else -1
            scored = [(score, term) for score, term in scored if score * direction > 0]
        scored.sort(key=lambda each: -abs(each[0]))
        return [term for _, term in scored[:count]]

    def map(
        self, sign: Sign = "positive", aggregation: Aggregation = "paper", number: int = 0
    ) -> Tensor:
        """The T-Grad map of an input: what ``attribute`` returns, summed over channels.

        Source: Tran, Mai, Le and Le, "T-Grad", eq. 8.

        Args:
            sign: As for ``TGradAttribution.attribute``.
            aggregation: As for ``TGradAttribution.attribute``.
            number: The number of the input, for several inputs.

        Returns:
            The map, shape ``(N, 1, *spatial)``.

        Raises:
            ValueError: ``sign``, ``aggregation`` or ``number`` is unknown.

        Example:
            >>> import torch
            >>> from captum_tgrad import TGradAttribution
            >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3), torch.nn.Flatten())
            >>> images, method = torch.rand(2, 3, 4, 4), TGradAttribution(model)
            >>> found = method.decompose(images, target=1).map()
            >>> torch.allclose(found, method.attribute(images, target=1).sum(1, keepdim=True))
            True
        """
        check_options(sign, aggregation)
        if number not in range(len(self.inputs)):
            raise ValueError(f"number is {number!r}: there are {len(self.inputs)} inputs, from 0.")
        with torch.no_grad(), without_autocast(self.output):
            return t_grad_map(self.terms, number, sign, aggregation)

    def to(self, device: torch.device | str) -> Decomposition:
        """A copy on another device."""
        moved: Decomposition = _changed(self, lambda tensor: tensor.to(device))
        return moved

    def sample(self, index: int) -> Decomposition:
        """A copy of the decomposition of one sample, with a batch of one.

        Raises:
            IndexError: There is no such sample.
        """
        if not -len(self.output) <= index < len(self.output):
            raise IndexError(f"there is no sample {index}: the batch has {len(self.output)}.")
        one = range(len(self.output))[index]
        # Clones, because a view would keep the whole batch in memory.
        found: Decomposition = _changed(self, lambda tensor: tensor[one : one + 1].detach().clone())
        return found

    def to_dataframe(self) -> Any:
        """The scores as a pandas data frame, with one row for each term and sample.

        Raises:
            ImportError: pandas is not installed.
        """
        pandas: Any = import_module("pandas")
        return pandas.DataFrame(
            [
                {
                    "term": term.name,
                    "sample": sample,
                    "score": float(term.score[sample]),
                    "placed": float(term.placed[sample]),
                    "resolution": term.resolution,
                }
                for term in self.terms
                for sample in range(len(self.output))
            ]
        )

    def plot(self, **options: Any) -> Any:
        """The scores of the terms as bars.

        Args:
            options: As for :func:`captum_tgrad.visualization.term_scores_figure`.

        Returns:
            A figure that notebooks show.
        """
        from captum_tgrad.visualization.term_scores import term_scores_figure

        return term_scores_figure(self, **options)

    def __repr__(self) -> str:
        lines = [
            f"Decomposition of output {numbers(self.output)}: {len(self)} terms, convergence delta"
            f" {numbers(self.delta)}"
        ]
        lines += [f"  {term!r}" for term in self.top(_SHOWN)]
        return "\n".join([*lines, "  ..."] if len(self) > _SHOWN else lines)

    def _repr_html_(self) -> str:
        shown = self.top(_SHOWN_IN_HTML)
        title = f"{len(self)} terms, output {numbers(self.output)}, delta {numbers(self.delta)}"
        if len(self) > len(shown):
            title += f"; the {len(shown)} largest"
        rows = [(term.name, numbers(term.score), term.resolution) for term in shown]
        return html_table(title, ["term", "score", "map"], rows)


_SHOWN, _SHOWN_IN_HTML = 5, 20


def _changed(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A copy with every tensor changed, except those of a grid, which are on the CPU."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, (tuple, list)):
        return type(value)(_changed(item, change) for item in value)
    if isinstance(value, dict):
        return {key: _changed(item, change) for key, item in value.items()}
    if isinstance(value, (Decomposition, Term, TermMap, Magnitudes)):
        found = {each.name: _changed(getattr(value, each.name), change) for each in fields(value)}
        return type(value)(**found)
    return value


torch.serialization.add_safe_globals([Decomposition, Term, TermMap, Magnitudes, Grid])
