"""What each choice behind ``aggregation="levels"`` brings, on images with boxes.

Scores the map by levels and its variants, and prints a Markdown table: insertion minus deletion (14
steps, the predicted class), its paired difference to eq. 8 with a 95% interval, the share of the
map inside the boxes, and how often its maximum is. Half A are the images at even positions in the
list, half B the others. Records are kept in OUT, so that the same command goes on where it ended.
BOXES is a CSV file with the titles "file" and "boxes" and boxes as in "x0 y0 x1 y1;x0 y0 x1 y1", in
pixels of the image. Run:

    python -m benchmarks.levels_choices IMAGES BOXES --model squeezenet1_1 --half A --out a.jsonl
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from captum_tgrad import FullGradAttribution, TGradAttribution
from captum_tgrad.decomposition.combine import t_grad_map
from captum_tgrad.decomposition.levels import _octave
from captum_tgrad.decomposition.term import Term
from captum_tgrad.decomposition.weighted_maps import WeightedMap, weighted_sum
from captum_tgrad.evaluation import get_method
from captum_tgrad.metrics import insertion_deletion
from captum_tgrad.zoo import Classifier, load_classifier, load_image

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
    levels: dict[int, list[WeightedMap]] = {}
    for term in terms:
        found = term.maps[0]
        if found.grid is None:
            continue
        level = levels.setdefault(_octave(found.grid), [])
        evidence = found.positive - found.negative if net else found.positive
        if weight is not None:
            level.append(WeightedMap(evidence.relu(), weight(term), found.grid))
        else:
            before = level.pop().evidence if level else 0
            level.append(WeightedMap(before + evidence, torch.ones_like(term.score), found.grid))
    summed = {}
    for octave in sorted(levels, reverse=True):
        maps = [replace(each, evidence=each.evidence.relu()) for each in levels[octave]]
        found = weighted_sum(maps, own.grid, own.positive)
        if found.any():
            summed[octave] = found
    return summed


def variant(
    weight: Callable[[Term], Tensor] | None = lambda term: purity(term),
    power: float = 0.5,
    *,
    net: bool = True,
    by_level: bool = True,
) -> Callable[[Terms], Tensor]:
    """The map by levels with one choice made otherwise.

    Args:
        weight: As for ``level_maps``.
        power: Of the coarsest level's map, which the sum of all is multiplied with.
        net: As for ``level_maps``.
        by_level: Whether each level is scaled to the sum 1.
    """

    def compute(terms: Terms) -> Tensor:
        maps = list(level_maps(terms, weight, net).values())
        scaled = [level / level.sum() for level in maps]
        return sum(scaled if by_level else maps) * scaled[0] ** power

    return compute


def purity(term: Term) -> Tensor:
    """What is left of a term's evidence after cancellation."""
    mass = (term.positive + term.negative).flatten(1).sum(1)
    return torch.where(mass > 0, term.score.relu() / mass, 0)


def score_to(power: float) -> Callable[[Term], Tensor]:
    """A power of the score; 0 where it is not positive."""
    return lambda term: torch.where(term.score > 0, term.score.relu() ** power, 0)


VARIANTS: dict[str, Callable[[Terms], Tensor]] = {
    "eq. 8": t_grad_map,
    "levels": lambda terms: t_grad_map(terms, aggregation="levels"),
    "weights: score": variant(score_to(1)),
    "weights: score^(1/4)": variant(score_to(0.25)),
    "weights: 1": variant(score_to(0)),
    "weights: none, signed sums": variant(None),
    "ReLU before channels are summed": variant(net=False),
    "levels not scaled": variant(by_level=False),
    "no product": variant(power=0),
    "product with the coarsest level": variant(power=1),
}
OTHERS = ("FullGrad", "Grad-CAM")


def records_of(
    classifier: Classifier, row: dict[str, str], folder: Path, names: list[str]
) -> list[dict[str, object]]:
    """What is found for one image: a record for each of the maps."""
    model = classifier.model
    image = classifier.preprocess(load_image(folder / row["file"]))[None]
    with torch.no_grad():
        target = model(image).argmax(1)
    terms = TGradAttribution(model).decompose(image, target).terms
    with torch.no_grad():
        maps = {name: VARIANTS[name](terms) for name in names if name in VARIANTS}
    if "FullGrad" in names:
        maps["FullGrad"] = FullGradAttribution(model).attribute(image, target)
    if "Grad-CAM" in names:
        small = get_method("grad_cam").build(model)(image, target)
        maps["Grad-CAM"] = torch.nn.functional.interpolate(small, image.shape[2:], mode="bilinear")
    areas = insertion_deletion(
        model, image, maps, target=target, n_steps=14, max_examples_per_batch=8
    )
    inside = _inside(row["boxes"], classifier, image.shape[-1], folder / row["file"])
    found = []
    for name, each in maps.items():
        each = each.sum(1)[0]
        found.append(
            {
                "image": row["file"],
                "map": name,
                "difference": float(areas[name].insertion - areas[name].deletion),
                "energy": float(each[inside].sum() / each.sum()) if each.any() else None,
                "hit": bool(inside.flatten()[int(each.argmax())]),
                "box": float(inside.float().mean()),
            }
        )
    return found


def _inside(boxes: str, classifier: Classifier, size: int, file: Path) -> Tensor:
    """Which pixels of the network's input are in a box, ``(size, size)``."""
    left, top, right, bottom = classifier.preprocess.seen(*load_image(file).size)
    scale = torch.tensor([size / (right - left), size / (bottom - top)] * 2)
    inside = torch.zeros(size, size, dtype=torch.bool)
    for box in boxes.split(";"):
        corners = torch.tensor([float(number) for number in box.split()])
        corners = (corners - torch.tensor([left, top, left, top])) * scale
        x0, y0, x1, y1 = corners.round().clamp(0, size).int().tolist()
        inside[y0:y1, x0:x1] = True
    return inside


def _table(records: list[dict[str, object]]) -> str:
    """Means and paired differences to eq. 8, the rows in the order of the maps."""
    by_map: dict[str, dict[object, dict[str, object]]] = {}
    for record in records:
        by_map.setdefault(str(record["map"]), {})[record["image"]] = record
    lines = [
        "| map | images | insertion - deletion | its difference to eq. 8 | energy | pointing |",
        "|---|---|---|---|---|---|",
    ]
    for name in [name for name in (*VARIANTS, *OTHERS) if name in by_map]:
        images = [image for image in by_map[name] if image in by_map["eq. 8"]]
        own = torch.tensor([by_map[name][image]["difference"] for image in images])
        paper = torch.tensor([by_map["eq. 8"][image]["difference"] for image in images])
        paired = own - paper
        interval = 1.96 * float(paired.std()) / len(paired) ** 0.5
        energy = torch.tensor([by_map[name][image]["energy"] or 0.0 for image in images])
        hits = torch.tensor([float(by_map[name][image]["hit"]) for image in images])
        lines.append(
            f"| {name} | {len(images)} | {own.mean():.3f} | {paired.mean():+.3f} ± {interval:.3f}"
            f" | {energy.mean():.3f} | {hits.mean():.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Scores what is not in the records yet, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", type=Path)
    parser.add_argument("boxes", type=Path)
    parser.add_argument("--model", default="squeezenet1_1")
    parser.add_argument("--half", choices=["A", "B"], default="A")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--maps", nargs="+", choices=[*VARIANTS, *OTHERS])
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    classifier = load_classifier(options.model)
    classifier.model.to(memory_format=torch.channels_last)
    with options.boxes.open(newline="", encoding="utf-8") as opened:
        rows = list(csv.DictReader(opened))["AB".index(options.half) :: 2][: options.limit]
    text = options.out.read_text(encoding="utf-8") if options.out.exists() else ""
    records = [json.loads(line) for line in text.splitlines()]
    done = {(record["image"], record["map"]) for record in records}
    with options.out.open("a", encoding="utf-8") as file:
        for row in rows:
            wanted = options.maps or [*VARIANTS, *OTHERS]
            names = [name for name in wanted if (row["file"], name) not in done]
            for record in records_of(classifier, row, options.images, names) if names else []:
                records.append(record)
                print(json.dumps(record), file=file, flush=True)
    print(_table(records))


if __name__ == "__main__":
    main()
