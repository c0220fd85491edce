"""The result of a decomposition: an output as a sum of named terms."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from importlib import import_module
from typing import Any, Literal

import torch
from torch import Tensor

from captum_tgrad._support.show import html_table, numbers
from captum_tgrad._support.suggest import did_you_mean
from captum_tgrad.decomposition.places.cells import Grid
from captum_tgrad.decomposition.places.enlarging import on_the_whole


@dataclass(frozen=True)
class Magnitudes:
    """The range of a term's elements before its channels are summed.

    Args:
        smallest: ``min |c|`` over channels and places, shape ``(N,)``.
        largest: ``max |c|``, shape ``(N,)``.
        elements: The number of elements ``c`` per sample.
    """

    smallest: Tensor
    largest: Tensor
    elements: int


@dataclass(frozen=True)
class TermMap:
    """A term on one of the inputs.

    Args:
        positive: ``sum_c ReLU(c)`` over channels: shape ``(N, 1, *cells)``, or ``(N, 1)`` if the
            term has no place on the input.
        negative: ``sum_c ReLU(-c)``; the same shape.
        placed: The share of the evidence that has a place, from 0 to 1, shape ``(N,)``. The rest is
            spread evenly over the cells.
        grid: The cells, in pixels of the input; None if the term has no place on it.
    """

    positive: Tensor
    negative: Tensor
    placed: Tensor
    grid: Grid | None = None


@dataclass(frozen=True, repr=False)
class Term:
    """One summand of the output, as two maps.

    Args:
        name: The path of the module that adds the term. If the module has several operations, the
            operation's name follows (``"features.4.block.1:mul"``); if it is called again, a count
            (``"conv#2"``). Outside of all modules, the operation's name. ``"input"`` is the term of
            the input, ``"input 0"`` and so on for several inputs. ``"features.4:hidden"`` is the
            term of operations that the trace cannot see.
        positive: The evidence for the target, ``sum_c ReLU(c)`` over channels: shape
            ``(N, 1, *spatial)`` at the operation's own resolution, ``(N, 1)`` if it has no place.
            It covers the whole input, with zeros where the network cropped the input.
        negative: The evidence against the target, ``sum_c ReLU(-c)``; the same shape.
        score: The term's signed share of the output, shape ``(N,)``: the sum of ``positive`` minus
            the sum of ``negative``.
        inputs: The numbers of the network's inputs on which the term depends.
        magnitudes: The range of ``|c|``, if a method needs it.
        maps: The term on each of those inputs, by number. ``positive`` and ``negative`` are the
            maps of the first input on which the term has a place.
        lost_at: The operation that lost the places, this one or an earlier one; empty if none did.
    """

    name: str
    positive: Tensor
    negative: Tensor
    score: Tensor
    inputs: tuple[int, ...] = (0,)
    magnitudes: Magnitudes | None = None
    maps: Mapping[int, TermMap] = field(default_factory=dict, repr=False)
    lost_at: str = ""

    @property
    def placed(self) -> Tensor:
        """The share of the term's evidence that has a place on an input, shape ``(N,)``."""
        shares = [self.maps[number].placed for number in self.inputs if number in self.maps]
        if not shares:
            return torch.zeros_like(self.score)
        return torch.stack(shares).amax(0)

    @property
    def resolution(self) -> str:
        """The size of the map, such as ``"7 x 7"``; ``"-"`` if the term has no place."""
        return " x ".join(map(str, self.positive.shape[2:])) or "-"

    def __repr__(self) -> str:
        return f"Term({self.name!r}, score {numbers(self.score)}, map {self.resolution})"


def term(
    name: str,
    maps: Mapping[int, TermMap],
    score: Tensor,
    magnitudes: Magnitudes | None = None,
    lost_at: str = "",
) -> Term:
    """Makes a term from its maps on the inputs on which it depends."""
    inputs = tuple(sorted(maps)) if len(maps) > 1 else tuple(maps)
    shown = next((maps[n] for n in inputs if maps[n].grid is not None), maps[inputs[0]])
    positive, negative = shown.positive, shown.negative
    if shown.grid is not None:
        positive, negative = (on_the_whole(each, shown.grid) for each in (positive, negative))
    return Term(name, positive, negative, score, inputs, magnitudes, maps, lost_at)


@dataclass(frozen=True, repr=False)
class Decomposition:
    """``output == sum of term.score for all terms + delta``, for each sample.

    It is a collection of its terms: ``len(decomposition)``, ``for term in decomposition`` and
    ``decomposition["layer4.1.bn2"]`` work. ``torch.save`` writes it, and ``torch.load`` reads it
    after this class is imported.

    Args:
        output: The explained output, shape ``(N,)``.
        input: The term of the input, or a tuple of terms for several inputs.
        biases: The terms of all operations that add something, in forward order.
        delta: The convergence delta, shape ``(N,)``: the output minus the sum of all terms. It is
            rounding, unless the network changes values without a gradient.
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
        """The share of the sum of ``|score|`` that has a place on an input, shape ``(N,)``.

        The rest is spread evenly, for example the terms of a classifier after global pooling.
        """
        sizes = torch.stack([term.score.abs() for term in self.terms])
        placed = torch.stack([term.placed for term in self.terms])
        return (sizes * placed).sum(0) / sizes.sum(0).clamp_min(torch.finfo(sizes.dtype).tiny)

    def __len__(self) -> int:
        return len(self.terms)

    def __iter__(self) -> Iterator[Term]:
        return iter(self.terms)

    def __getitem__(self, name: str) -> Term:
        """The term with a name.

        Raises:
            KeyError: There is no such term; the message suggests similar names.
        """
        found = {term.name: term for term in self.terms}
        if name not in found:
            otherwise = "[term.name for term in decomposition] has their names."
            raise KeyError(f"there is no term {name!r}: {did_you_mean(name, found, otherwise)}")
        return found[name]

    def top(
        self,
        count: int = 10,
        sign: Literal["positive", "negative", "all"] = "all",
        sample: int = 0,
    ) -> list[Term]:
        """The terms with the largest scores, the largest first.

        Args:
            count: The number of terms.
            sign: ``"positive"`` for positive scores only, ``"negative"`` for negative scores only,
                ``"all"`` for both.
            sample: The sample whose scores count.

        Raises:
            ValueError: ``sign`` is not one of the three.
        """
        if sign not in ("positive", "negative", "all"):
            raise ValueError(f"sign must be 'positive', 'negative' or 'all', got {sign!r}.")
        scored = [(float(term.score[sample]), term) for term in self.terms]
        if sign != "all":
            direction = 1 if sign == "positive" else -1
            scored = [(score, term) for score, term in scored if score * direction > 0]
        scored.sort(key=lambda each: -abs(each[0]))
        return [term for _, term in scored[:count]]

    def to(self, device: torch.device | str) -> Decomposition:
        """A copy on another device."""
        moved: Decomposition = _moved(self, device)
        return moved

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


def _moved(value: Any, device: torch.device | str) -> Any:
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, (tuple, list)):
        return type(value)(_moved(item, device) for item in value)
    if isinstance(value, dict):
        return {key: _moved(item, device) for key, item in value.items()}
    if isinstance(value, (Decomposition, Term, TermMap, Magnitudes)):
        moved = {each.name: _moved(getattr(value, each.name), device) for each in fields(value)}
        return type(value)(**moved)
    return value  # a grid is always on the CPU


torch.serialization.add_safe_globals([Decomposition, Term, TermMap, Magnitudes, Grid])
