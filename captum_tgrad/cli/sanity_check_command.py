"""``captum-tgrad sanity-check``: a map under parameter randomization."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import chain
from types import SimpleNamespace

import torch
from PIL.Image import Image
from torch import Tensor, nn

from captum_tgrad._support.accelerator import device_of
from captum_tgrad._support.progress import Bar, progress_bar
from captum_tgrad.cli.chosen import chosen_target, load_for
from captum_tgrad.cli.errors import out_of_memory_errors, user_errors
from captum_tgrad.cli.jobs import check_files, load_or_sample, title_of
from captum_tgrad.cli.outcome import Printer, existing
from captum_tgrad.cli.sanity_check_report import as_csv, as_numbers, means_table, outcome_of, page
from captum_tgrad.evaluation import Method, get_method
from captum_tgrad.evaluation.methods.method import black_image
from captum_tgrad.evaluation.report.files import png
from captum_tgrad.evaluation.storage.files import write_files
from captum_tgrad.evaluation.storage.owner import check_owner
from captum_tgrad.sanity_checks import RandomizationStep, cascading_randomization
from captum_tgrad.sanity_checks.layers import block_names
from captum_tgrad.visualization import cascade_figure
from captum_tgrad.zoo import Classifier
from captum_tgrad.zoo.classifier import classifier_logits

_ENDINGS = (".html", ".png", ".csv")


def run_sanity_check(options: argparse.Namespace) -> int:
    """Runs the command; returns the exit status, 0."""
    with user_errors():
        method = get_method(options.method)
        names = [f"{method.name}-{options.mode}{ending}" for ending in _ENDINGS]
        check_files(options.images, options.out, names)
        check_owner(options.out, "sanity-check", names, names[0])
        pictures = options.images or [None]
        if options.columns < 2:
            raise ValueError("--columns must be 2 or more: the trained and a randomized network")
        classifier = load_for(options)
        target = chosen_target(options, classifier)
        images = [load_or_sample(picture) for picture in pictures]
    inputs = torch.stack([classifier.preprocess(image) for image in images])
    inputs = inputs.to(device_of(classifier.model))
    predicted = classifier_logits(classifier, inputs).argmax(dim=1)
    targets = predicted if target is None else torch.full_like(predicted, target)
    printer = Printer(options)
    advice = "out of memory: pass fewer images or a smaller --model"
    with out_of_memory_errors(advice), progress_bar(None, printer.show_progress) as bar:
        steps = _randomized(options, classifier, method, inputs, targets, bar)
        full = options.mode == "cascading" and options.layers in ("blocks", "all")
        bar.show("figure")
        replaced = existing(options.out, names)
        with user_errors():
            contents = _contents(options, classifier, method, images, targets, steps, full)
            write_files(options.out, dict(zip(names, contents, strict=True)))
        bar.update(1)
    printer.table(means_table(steps), outcome_of(steps, full))
    printer.cut_away(classifier, zip(pictures, images, strict=True))
    printer.written(options.out, names, replaced)
    printer.json(as_numbers(steps, _titles(options)))
    return 0


def _contents(
    options: argparse.Namespace,
    classifier: Classifier,
    method: Method,
    images: Sequence[Image],
    targets: Tensor,
    steps: Sequence[RandomizationStep],
    full: bool,
) -> tuple[str, bytes, str]:
    """The contents of the files, in the order of ``_ENDINGS``."""
    figure = cascade_figure(
        steps,
        [classifier.crop(image) for image in images],
        columns=options.columns,
        labels=[classifier.class_names[index] for index in targets.tolist()],
        title=f"{method.title} while {classifier.name} is randomized, {options.mode}",
    )
    about = f"{classifier.name}, {len(images)} image{'s' * (len(images) != 1)}"
    report = page(steps, figure, about, method.title, full).html()
    return report, png(figure), as_csv(steps, _titles(options))


def _titles(options: argparse.Namespace) -> list[str]:
    return [title_of(picture) for picture in options.images or [None]]


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
