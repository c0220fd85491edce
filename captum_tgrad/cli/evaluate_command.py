"""``captum-tgrad evaluate``: compares methods on a data set."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from captum_tgrad._support.accelerator import device_of
from captum_tgrad.cli.errors import CommandError, out_of_memory_errors, resume_hint, user_errors
from captum_tgrad.cli.printer import Printer, print_skipped
from captum_tgrad.cli.resolve import chosen_methods, load_for
from captum_tgrad.evaluation import (
    ImageFiles,
    OutputError,
    boxes_of,
    built_in_images,
    evaluate,
    images_in,
)
from captum_tgrad.evaluation.distributed import Workers, joined_processes
from captum_tgrad.evaluation.image_files import BUILT_IN
from captum_tgrad.evaluation.report.table import summary_title
from captum_tgrad.evaluation.running.score_dtype import check_score_dtype
from captum_tgrad.evaluation.storage.folder import FILES
from captum_tgrad.zoo import Classifier


def run_evaluate(options: argparse.Namespace) -> int:
    """Runs the command; returns the exit status, 0, or 1 if an image or a method was skipped."""
    with user_errors():
        methods = chosen_methods(options)
        classifier = load_for(options)
        pictures = _pictures(options, classifier)
        boxes = _boxes(options, pictures, classifier)
        device, score_dtype = device_of(classifier.model), getattr(torch, options.score_dtype)
        check_score_dtype(score_dtype, classifier.model, device)
    printer = Printer(options)
    advice = "out of memory with a single image: use another --device or a smaller --model"
    try:
        with joined_processes(device), out_of_memory_errors(advice):
            prints = Workers().first
            found = evaluate(
                classifier,
                pictures,
                methods,
                options.out,
                resume=options.resume,
                target=options.target,
                n_steps=options.n_steps,
                batch_size=options.batch_size,
                max_examples_per_batch=options.max_examples_per_batch,
                score=options.score,
                score_dtype=score_dtype,
                ties=options.ties,
                limit=options.limit,
                seed=options.seed,
                budget=options.budget,
                regions=boxes,
                show_progress=printer.show_progress,
            )
    except OutputError as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        raise CommandError(f"{error}{resume_hint(options.out)}") from error
    if not prints:
        return 0  # With 1, torchrun would end the first process before it prints what was skipped.
    summary = found.summary
    title = f"{classifier.name}, {summary_title(summary)} of {pictures.title}"
    printer.results(title, summary)
    printer.written(options.out, FILES)
    return print_skipped(
        (", ".join(filter(None, (each["image"], each["method"]))), each["reason"])
        for each in found.skipped
    )


def _boxes(
    options: argparse.Namespace, pictures: ImageFiles, classifier: Classifier
) -> Mapping[str, Tensor] | None:
    if options.boxes is None:
        return None
    boxes = boxes_of(options.boxes, pictures, classifier)
    if not any(name in boxes for name in pictures.names[: options.limit]):
        raise ValueError(
            f"--limit {options.limit} leaves no image with a box in {options.boxes}: pass a larger"
            " number"
        )
    return boxes


def _pictures(options: argparse.Namespace, classifier: Classifier) -> ImageFiles:
    if options.images == BUILT_IN:
        if options.labels is not None:
            raise ValueError("--labels needs a folder of images: the built-in ones have labels")
        pictures = built_in_images(classifier)
    else:
        if options.labels is not None and options.target != "label":
            raise ValueError("--labels has no effect on the predicted class: add --target label")
        pictures = images_in(options.images, classifier, options.labels)
    folders = {file.parent for file in pictures.files}
    if options.out.resolve() in map(Path.resolve, folders):
        raise ValueError(
            f"--out {options.out} has images to evaluate, which --resume would take for figures of"
            " the evaluation: use another folder"
        )
    if options.target == "label" and not any(label is not None for label in pictures.labels):
        raise ValueError(
            "--target label, but no image has a label: pass --labels CSV, or use folders named"
            " after classes"
        )
    return pictures
