"""``captum-tgrad sanity-check``: a map under parameter randomization."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from itertools import chain
from types import SimpleNamespace
from typing import Any

from matplotlib.figure import Figure
from torch import Tensor, nn

from captum_tgrad._support.printable import printable
from captum_tgrad._support.progress import Bar, progress_bar
from captum_tgrad._support.writing import csv_text, write_files
from captum_tgrad.cli.errors import out_of_memory_errors, user_errors
from captum_tgrad.cli.jobs import check_files, image_title, load_or_sample
from captum_tgrad.cli.printer import Printer, existing
from captum_tgrad.cli.resolve import chosen_target, load_for
from captum_tgrad.evaluation import Method, get_method
from captum_tgrad.evaluation.methods.method import black_image
from captum_tgrad.evaluation.report.table import Table
from captum_tgrad.sanity_checks import RandomizationStep, cascading_randomization
from captum_tgrad.sanity_checks.layers import block_names
from captum_tgrad.sanity_checks.similarity import Similarity
from captum_tgrad.visualization import Report, cascade_figure
from captum_tgrad.visualization.notebook_figure import rendered
from captum_tgrad.zoo import Classifier
from captum_tgrad.zoo.classifier import classified

_MEASURES = Similarity._fields
_HOW_TO_READ = (
    "Each column is the map after a further randomization step, on its own scale. A map that"
    " depends on the learned parameters changes. The curves show the similarity to the map of the"
    " trained network: 1 is identical, 0 unrelated. Curves that stay near 1 mean that the map"
    " reflects the image, not the network."
)
_TABLE = "Mean similarity to the map of the trained network over the images"


def run_sanity_check(options: argparse.Namespace) -> int:
    """Runs the command; returns the exit status, 0."""
    with user_errors():
        method = get_method(options.method)
        stem = f"{method.name}-{options.mode}"
        names = [f"{stem}.html", f"{stem}.png", f"{stem}.csv"]
        check_files("sanity-check", options.images, options.out, names)
        pictures = options.images or [None]
        if options.columns < 2:
            raise ValueError("--columns must be 2 or more: the trained and a randomized network")
        classifier = load_for(options)
        target = chosen_target(options, classifier)
        images = [load_or_sample(picture) for picture in pictures]
    inputs, _, targets = classified(classifier, images, target)
    titles = [image_title(picture) for picture in pictures]
    printer = Printer(options)
    advice = "out of memory: pass fewer images or a smaller --model"
    with out_of_memory_errors(advice), progress_bar(None, printer.show_progress) as bar:
        steps = _randomized(options, classifier, method, inputs, targets, bar)
        full = options.mode != "independent" and options.layers in ("blocks", "all")
        table, outcome = _means(steps), _outcome(steps, full)
        bar.show("figure")
        replaced = existing(options.out, names)
        with user_errors():
            figure = cascade_figure(
                steps,
                [classifier.crop(image) for image in images],
                columns=options.columns,
                labels=[classifier.class_names[index] for index in targets.tolist()],
                title=f"{method.title} while {classifier.name} is randomized, {options.mode}",
            )
            about = f"{classifier.name}, {len(images)} image{'s' * (len(images) != 1)}. {outcome}"
            page = _page(method.title, about, steps, figure, table)
            contents = (page.html(), rendered(figure), _csv(steps, titles))
            write_files(options.out, dict(zip(names, contents, strict=True)))
        bar.update(1)
    printer.table(table, outcome)
    printer.cut_away(classifier, zip(pictures, images, strict=True))
    printer.written(options.out, names, replaced)
    printer.json(_numbers(steps, titles))
    return 0


def _randomized(
    options: argparse.Namespace,
    classifier: Classifier,
    method: Method,
    inputs: Tensor,
    targets: Tensor,
    bar: Bar,
) -> list[RandomizationStep]:
    """The steps of the randomization, counted by the bar."""
    black = black_image(classifier)
    with user_errors():
        steps = cascading_randomization(
            classifier.model,
            lambda copy: SimpleNamespace(attribute=method.build(copy, black)),  # as Captum's
            inputs,
            targets,
            layers=_layers(options.layers, classifier.model, inputs),
            mode=options.mode,
            seed=options.seed,
        )
        # Before this step, errors about the method, the layers and the extras are raised.
        first = next(steps)
    bar.total = first.steps + 1  # The figure comes after the steps.
    found = []
    for step in chain([first], steps):
        bar.show(step.layer or "trained")
        bar.update(1)
        found.append(step)
    return found


def _layers(named: str, model: nn.Module, inputs: Tensor) -> list[str] | None:
    if named == "all":
        return None
    if named == "blocks":
        return block_names(model, lambda: model(inputs[:1].clone())) or None
    names = [name.strip() for name in named.split(",") if name.strip()]
    if not names:
        raise ValueError("--layers is empty: pass names separated by commas, blocks or all")
    return names


def _means(steps: Sequence[RandomizationStep]) -> Table:
    """The means of the two measures over the images, with a row for each step."""
    rows = [[step.layer or "(trained)", _mean(step.spearman), _mean(step.ssim)] for step in steps]
    return Table(["Randomized", "Rank correlation", "SSIM"], rows, {})


def _mean(values: Tensor) -> str:
    mean = float(values.nanmean())
    return "undefined (constant map)" if math.isnan(mean) else f"{mean:.3f}"


def _outcome(steps: Sequence[RandomizationStep], full: bool) -> str:
    """What the last step means; ``full``: all layers are random in it."""
    found = (
        "At the last step, the rank correlation with the map of the trained network is"
        f" {_mean(steps[-1].spearman)}."
    )
    if not full:
        return (
            f"{found} Unless all layers are random at that step, this is not the full test: use"
            " --layers blocks or all, and --mode cascading or bottom_up."
        )
    return f"{found} Near 0, the map depends on the learned parameters; near 1, it does not."


def _page(
    method: str, about: str, steps: Sequence[RandomizationStep], figure: Figure, table: Table
) -> Report:
    """The figure and the table, with a sentence on how to read them."""
    report = Report(f"{method} under parameter randomization", about, "sanity-check")
    report.section("Maps and their similarity")
    layers = ", ".join(str(step.layer) for step in steps[1:])
    report.figure(
        figure, f"Maps of the trained network, then with {layers} randomized.", _HOW_TO_READ
    )
    report.section("Numbers")
    report.table(table.headings, table.rows, _TABLE)
    report.section("Source")
    report.text('Adebayo et al., "Sanity Checks for Saliency Maps", 2018.')
    return report


def _csv(steps: Sequence[RandomizationStep], images: Sequence[str]) -> str:
    """A line for each step and image."""
    rows: list[Sequence[object]] = [["step", "layer", "image", *_MEASURES]]
    for step in steps:
        for sample, image in enumerate(images):
            values = [float(getattr(step, measure)[sample]) for measure in _MEASURES]
            rows.append([step.index, step.layer or "", printable(image), *values])
    return csv_text(rows)


def _numbers(steps: Sequence[RandomizationStep], images: Sequence[str]) -> dict[str, Any]:
    """The same as plain dicts and lists; undefined measures are None."""
    return {
        "images": list(images),
        "steps": [
            {
                "layer": step.layer,
                **{name: [*map(_finite, getattr(step, name).tolist())] for name in _MEASURES},
            }
            for step in steps
        ],
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
