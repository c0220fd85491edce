"""How much of each map is on the image of its class, in grids of several images (GridPG).

An image is used if the network predicts its label (LABELS, or folders of classes, as for
``evaluate``; without labels, any class) confidently. A network that was trained on smoothed labels
is seldom sure: give a lower confidence. An image is in several grids, so intervals and paired
differences are bootstrapped over the images, not over the grids. Each method is written to OUT when
it is done; the same command goes on where it ended, and prints all that OUT holds. Run:

    python -m benchmarks.grid_pointing IMAGES --labels LABELS --model squeezenet1_1 \
        --methods t_grad,grad_cam --confidence 0.8 --out grids/
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from captum_tgrad.cli.options import add_shared
from captum_tgrad.cli.resolve import choose_device, chosen_methods
from captum_tgrad.evaluation import METHODS, ImageFiles, Method, images_in
from captum_tgrad.evaluation.methods.method import black_image
from captum_tgrad.evaluation.report.bootstrap import Array, Interval, bootstrap_means
from captum_tgrad.evaluation.report.summary import REFERENCE
from captum_tgrad.evaluation.running.settings import channels_last
from captum_tgrad.evaluation.storage.files import as_json, write_files
from captum_tgrad.metrics import grid_pointing_game
from captum_tgrad.zoo import Classifier, load_classifier

Record = dict[str, Any]


def measure(
    method: Method, classifier: Classifier, pictures: ImageFiles, options: argparse.Namespace
) -> Record:
    """The shares of one method, ``(grids, cells)``, with the names of the images in the grids."""
    device = choose_device(None)
    model = classifier.model.to(device)
    images = torch.stack([image for image, _ in pictures])
    # One pixel: all are alike, and a grid has more of them than an image.
    explainer = method.build(model, black_image(classifier)[:, :1, :1])

    def explain(inputs: Tensor, target: Tensor) -> Tensor:
        seeds = torch.randint(2**62, (len(inputs),)).tolist()  # follow from the metric's seed
        return explainer(channels_last(inputs), target, seeds)

    start = time.perf_counter()
    found = grid_pointing_game(
        model,
        channels_last(images).to(device),
        explain,
        None if None in pictures.labels else torch.tensor(pictures.labels),
        options.grid,
        options.grids,
        options.max_examples_per_batch,
        confidence=options.confidence,
    )
    return {
        "method": method.name,
        "title": method.title,
        "settings": settings_of(pictures, options),
        "protocol": found.protocol,
        "seconds": time.perf_counter() - start,
        "in_grids": [[pictures.names[index] for index in row] for row in found.images.tolist()],
        "shares": found.cells.tolist(),
    }


def settings_of(pictures: ImageFiles, options: argparse.Namespace) -> dict[str, Any]:
    """What must be the same for all methods in a folder."""
    return {
        "model": options.model,
        "images": f"{len(pictures)} of {pictures.title}",
        "target": "predicted" if None in pictures.labels else "label",
        **{key: getattr(options, key) for key in ("grid", "grids", "confidence")},
    }


def records_in(folder: Path, settings: dict[str, Any]) -> dict[str, Record]:
    """The methods that are done, by name, in the order of tables.

    Raises:
        SystemExit: They have other settings, or other images in their grids.
    """
    found = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.json")]
    for record in found:
        if record["settings"] != settings:
            raise SystemExit(f"{folder} has other settings: {record['settings']}")
        if record["in_grids"] != found[0]["in_grids"]:
            names = f"{record['method']} and {found[0]['method']}"
            raise SystemExit(f"{folder}: {names} have different images in their grids")
    by_name = {record["method"]: record for record in found}
    known = [name for name in METHODS if name in by_name]
    return {name: by_name[name] for name in [*known, *sorted(by_name.keys() - set(known))]}


def by_image(record: Record) -> Array:
    """The mean share of each image over its grids, in the order of their names."""
    shares: dict[str, list[float]] = {}
    for names, row in zip(record["in_grids"], record["shares"], strict=True):
        for name, share in zip(names, row, strict=True):
            shares.setdefault(name, []).append(share)
    return np.array([np.mean(shares[name]) for name in sorted(shares)])


def table(records: dict[str, Record]) -> Iterator[str]:
    """The lines of a Markdown table; differences are to T-Grad, if it is done, paired by image."""
    values = {name: by_image(record) for name, record in records.items()}
    columns = [*values.values()]
    if REFERENCE in values:
        columns += [each - values[REFERENCE] for each in values.values()]
    intervals = bootstrap_means(np.stack(columns, axis=1))
    differences = iter(intervals[len(records) :])
    yield "| method | share on the image of the class | minus T-Grad | chance |"
    yield "|---|---|---|---|"
    for record, interval in zip(records.values(), intervals, strict=False):
        difference = next(differences, None)
        shown = "" if record["method"] == REFERENCE else _cell(difference, "+")
        chance = 1 / record["settings"]["grid"] ** 2
        yield f"| {record['title']} | {_cell(interval)} | {shown} | {chance:.3f} |"


def _cell(interval: Interval | None, sign: str = "") -> str:
    if interval is None:
        return ""
    mean, low, high = (f"{number:{sign}.3f}" for number in interval[:3])
    return f"{mean} [{low}, {high}]"


def main() -> None:
    """Measures the methods that are not done, and prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("images", type=Path)
    parser.add_argument("--labels", type=Path)
    parser.add_argument("--model", default="squeezenet1_1")
    add_shared(parser, "--methods", "--config", "--allow-imports")
    parser.add_argument("--grid", type=int, default=3, help="images in a row, and rows")
    parser.add_argument("--grids", type=int, default=60)
    parser.add_argument("--confidence", type=float, default=0.99)
    parser.add_argument("--max-examples-per-batch", type=int, default=3)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    classifier = load_classifier(options.model)
    pictures = images_in(options.images, classifier, options.labels)
    missing = pictures.labels.count(None)
    if 0 < missing < len(pictures):
        raise SystemExit(f"{missing} of {len(pictures)} images have no label: name all, or none")
    settings = settings_of(pictures, options)
    options.out.mkdir(parents=True, exist_ok=True)
    for method in chosen_methods(options):
        if method.name not in records_in(options.out, settings):
            record = measure(method, classifier, pictures, options)
            write_files(options.out, {f"{method.name}.json": as_json(record)})
            share = by_image(record).mean()
            print(f"{method.title}: {share:.3f}, {record['seconds']:.0f} seconds", flush=True)
    records = records_in(options.out, settings)
    images = len(by_image(next(iter(records.values()))))
    print(f"\n{options.model}, {options.grids} grids, made from {images} images\n")
    print("\n".join(table(records)))


if __name__ == "__main__":
    main()
