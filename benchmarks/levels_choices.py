"""What each choice behind ``aggregation="levels"`` brings, on a folder of images.

Evaluates the map by levels and its variants, with 14 steps for the class that the network predicts,
and prints the table of ``captum-tgrad evaluate``, with the paired differences to eq. 8. Half A are
the images at even positions in the folder, half B the others. BOXES is as for ``evaluate --boxes``.
The same command goes on where it ended. Run:

    python -m benchmarks.levels_choices IMAGES --boxes BOXES --model squeezenet1_1 --half A --out a/
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from captum_tgrad import TGradAttribution
from captum_tgrad.cli.resolve import choose_device
from captum_tgrad.decomposition.maps.levels import _octave
from captum_tgrad.decomposition.maps.weighted_maps import WeightedMaps, weighted_sum
from captum_tgrad.decomposition.term import Term
from captum_tgrad.evaluation import Method, evaluate, get_method, images_in
from captum_tgrad.evaluation.box_files import boxes_of
from captum_tgrad.evaluation.methods.method import Compute
from captum_tgrad.zoo import load_classifier

Terms = list[Term]


def level_maps(
    terms: Terms, weight: Callable[[Term], Tensor] | None, net: bool = True
) -> dict[int, Tensor]:
    """The sum of the weighted maps of each level, the coarsest first.

    Args:
        terms: Those of one image.
        weight: Of a term; None: the terms of a level are added with their signs before the ReLU.
        net: Whether channels are summed before the ReLU, and not after it.
    """
    own = terms[0].maps[0]
    levels: dict[int, list[WeightedMaps]] = {}
    for term in terms:
        found = term.maps[0]
        if found.grid is None:
            continue
        level = levels.setdefault(_octave(found.grid), [])
        evidence = found.positive - found.negative if net else found.positive
        if weight is not None:
            level.append(WeightedMaps(evidence.relu()[None], weight(term)[None], found.grid))
        else:
            evidence = evidence + (level.pop().evidence[0] if level else 0)
            one = torch.ones_like(term.score)
            level.append(WeightedMaps(evidence[None], one[None], found.grid))
    summed = {}
    for octave in sorted(levels, reverse=True):
        maps = [replace(each, evidence=each.evidence.relu()) for each in levels[octave]]
        found = weighted_sum(maps, own.grid, own.positive)
        if found.any():
            summed[octave] = found
    return summed


def variant(
    weight: Callable[[Term], Tensor] | None = lambda term: purity(term),
    power: float = 0.75,
    *,
    net: bool = True,
    scale: Callable[[Tensor], Tensor] = lambda level: level / level.sum(),
) -> Callable[[Terms], Tensor]:
    """The map by levels with one choice made otherwise.

    Args:
        weight: As for ``level_maps``.
        power: Of ``L_1``, the map of the coarsest level, which the sum of all is multiplied with.
        net: As for ``level_maps``.
        scale: Makes the levels alike, before they are added.
    """

    def compute(terms: Terms) -> Tensor:
        maps = list(level_maps(terms, weight, net).values())
        return sum(map(scale, maps)) * (maps[0] / maps[0].sum()) ** power

    return compute


def square_root(level: Tensor) -> Tensor:
    """The square root of a level that was scaled to its maximum."""
    return (level / level.max()).sqrt()


def purity(term: Term) -> Tensor:
    """What is left of a term's evidence after cancellation."""
    mass = (term.positive + term.negative).flatten(1).sum(1)
    return torch.where(mass > 0, term.score.relu() / mass, 0)


def score_to(power: float) -> Callable[[Term], Tensor]:
    """A power of the score; 0 where it is not positive."""
    return lambda term: torch.where(term.score > 0, term.score.relu() ** power, 0)


VARIANTS: dict[str, Callable[[Terms], Tensor]] = {
    "weights: score": variant(score_to(1)),
    "weights: score^(1/4)": variant(score_to(0.25)),
    "weights: 1": variant(score_to(0)),
    "weights: none, signed sums": variant(None),
    "ReLU before channels are summed": variant(net=False),
    "levels not scaled": variant(scale=lambda level: level),
    "levels scaled to their norm": variant(scale=lambda level: level / level.norm()),
    "levels scaled to their maximum": variant(scale=lambda level: level / level.max()),
    "square roots of levels, product with L_1^(1/4)": variant(power=0.25, scale=square_root),
    "square roots of levels, product with L_1^(3/8)": variant(power=0.375, scale=square_root),
    "no product": variant(power=0),
    "product with L_1^(1/2)": variant(power=0.5),
    "product with L_1": variant(power=1),
}
BESIDE = ("t_grad", "t_grad_levels", "full_grad", "grad_cam")


def method_of(title: str) -> Method:
    """A variant as a method of an evaluation."""

    def build(model: nn.Module, black: object) -> Compute:
        return partial(_map, model, VARIANTS[title])

    return Method(title, title, "1 forward and 1 backward pass", build)


def _map(
    model: nn.Module, combine: Callable[[Terms], Tensor], inputs: Tensor, target: Tensor
) -> Tensor:
    found = []
    for image, label in zip(inputs.split(1), target.split(1), strict=True):
        terms = TGradAttribution(model).decompose(image, label).terms
        with torch.no_grad():
            found.append(combine(terms))
    return torch.cat(found)


def main() -> None:
    """Evaluates what has no record yet, and prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("images", type=Path)
    parser.add_argument("--boxes", type=Path)
    parser.add_argument("--model", default="squeezenet1_1")
    parser.add_argument("--half", choices=["A", "B"], default="A")
    parser.add_argument("--limit", type=int, help="only the first so many images of the half")
    parser.add_argument("--maps", nargs="+", choices=[*BESIDE, *VARIANTS])
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    classifier = load_classifier(options.model)
    classifier.model.to(choose_device(None))
    whole = images_in(options.images, classifier)
    half = slice("AB".index(options.half), None, 2)
    pictures = replace(
        whole,
        title=f"{whole.title}, half {options.half}",
        files=whole.files[half],
        names=whole.names[half],
        labels=whole.labels[half],
    )
    evaluation = evaluate(
        classifier,
        pictures,
        [
            get_method(name) if name in BESIDE else method_of(name)
            for name in options.maps or [*BESIDE, *VARIANTS]
        ],
        options.out,
        resume=True,
        n_steps=14,
        limit=options.limit,
        regions=boxes_of(options.boxes, pictures, classifier) if options.boxes else None,
        show_progress=None,
    )
    print(evaluation.table)


if __name__ == "__main__":
    main()
