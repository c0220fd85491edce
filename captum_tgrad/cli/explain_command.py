"""``captum-tgrad explain``: a figure, a map and a report for every image."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL.Image import Image

from captum_tgrad._support.printable import printable
from captum_tgrad._support.progress import progress_bar
from captum_tgrad._support.writing import write_files
from captum_tgrad.cli.errors import CommandError, out_of_memory_errors, user_errors
from captum_tgrad.cli.explain_report import add_image, head, numbers_of
from captum_tgrad.cli.jobs import Job, load_or_sample, plan_jobs, readable
from captum_tgrad.cli.printer import Printer, existing, fitted, print_skipped
from captum_tgrad.cli.resolve import chosen_target, load_for
from captum_tgrad.evaluation.storage.files import REPORT
from captum_tgrad.explanation import Explanation, explain, format_report
from captum_tgrad.visualization import Report, explanation_figure, layers_figure
from captum_tgrad.visualization.notebook_figure import rendered
from captum_tgrad.zoo import Classifier, resolve_target

_SECONDS_BEFORE_PROGRESS = 2.0


def run_explain(options: argparse.Namespace) -> int:
    """Runs the command; returns the exit status, 0, or 1 if an image was skipped."""
    with user_errors():
        # The cheap checks first: a mistyped image should not wait for a network to load.
        pictures, skipped = readable(options.images)
        if options.out.is_dir() and options.out.resolve() in map(Path.resolve, options.images):
            raise ValueError(
                f"--out {options.out} has the images to explain, and the next run would explain"
                " its figures, too: use another folder"
            )
        if options.rival is not None and not options.page:
            raise ValueError("--rival needs the page: also pass --page")
        jobs = plan_jobs(pictures, options.out, options.layers is not None, options.page)
        classifier = load_for(options)
        target = chosen_target(options, classifier)
        rival = _rival(options, classifier, target)
    size = options.batch_size
    report = Report("Unfinished run", command="explain")
    replaced = existing(options.out, [REPORT])
    found: list[dict[str, Any]] = []
    printer = Printer(options)
    # Each image counts twice: for its map and for its figures.
    with progress_bar(2 * len(jobs), printer.show_progress, _SECONDS_BEFORE_PROGRESS) as bar:
        for start in range(0, len(jobs), size):
            planned = jobs[start : start + size]
            batch, images = _loaded(planned, skipped)
            bar.update(2 * (len(planned) - len(batch)))
            if not batch:
                continue
            bar.show("1 image" if len(batch) == 1 else f"{len(batch)} images")
            advice = f"out of memory with {len(images)} images at a time"
            with out_of_memory_errors(f"{advice}: pass a smaller --batch-size"):
                explanations = explain(
                    classifier,
                    images,
                    target,
                    keep_terms=options.layers is not None,
                    aggregation=options.aggregation,
                    rival=rival,
                )
            bar.update(len(batch))
            for job, explanation in zip(batch, explanations, strict=True):
                title, results = printable(job.title), printable(job.results)
                with user_errors():
                    if not found and not replaced:
                        # A later run recognizes the others by this file, also after an interrupt.
                        write_files(options.out, {REPORT: report.html()})
                    figures = _write(job, explanation, options.layers)
                    add_image(report, len(found), job, explanation, figures)
                found.append(numbers_of(job, explanation))
                if not printer.silent:
                    bar.write(fitted(f"{title}\n{format_report(explanation)}\n{results}\n"))
                bar.update(1)
    if all(job.picture in skipped for job in jobs):
        raise CommandError(next(iter(skipped.values())))
    head(report, classifier.name, len(found))
    with user_errors():
        write_files(options.out, {REPORT: report.html()})
    printer.written(options.out, [REPORT], replaced)
    printer.json(found)
    return print_skipped(skipped.items())


def _loaded(batch: Sequence[Job], skipped: dict[Path, str]) -> tuple[list[Job], list[Image]]:
    """The images of a batch that can be read; the others are added to ``skipped``."""
    loaded, images = [], []
    for job in batch:
        try:
            images.append(load_or_sample(job.picture))
            loaded.append(job)
        except (OSError, ValueError, ImportError) as error:
            if job.picture is None:
                raise CommandError(str(error)) from error
            skipped[job.picture] = str(error)
    return loaded, images


def _rival(options: argparse.Namespace, classifier: Classifier, target: int | None) -> int | bool:
    """The class that pages compare with; False for none."""
    if options.rival is None:
        return bool(options.page)
    rival = resolve_target(options.rival, classifier.class_names)
    if rival == target:
        raise ValueError(f"--rival {options.rival} is the explained class: pass another")
    return rival


def _write(job: Job, explanation: Explanation, layers: int | None) -> dict[str, Figure]:
    """Writes the map and the figures of one image, and returns the figures."""
    target = explanation.target
    figures = {
        "map": explanation_figure(
            explanation.photo or explanation.image,
            explanation.map_of_seen,
            method="T-Grad" if explanation.aggregation == "paper" else "T-Grad (levels)",
            class_name=f"{target.name} ({target.index})",
            probability=target.probability,
            residual=explanation.residual,
            seen=explanation.seen_of_photo,
        )
    }
    array = BytesIO()
    np.save(array, explanation.attribution.numpy())
    files: dict[str, str | bytes] = {
        ".png": rendered(figures["map"]),
        ".npy": array.getvalue(),
    }
    if layers is not None and explanation.decomposition is not None:
        figures["layers"] = layers_figure(
            explanation.decomposition,
            explanation.image,
            terms=layers,
            title=f"{target.name} ({target.index}): what each layer adds to the logit"
            f" {explanation.logit:+.3f}",
        )
        files["-layers.png"] = rendered(figures["layers"])
    if ".html" in job.endings:
        name = job.title if job.picture is None else job.picture.name
        files[".html"] = explanation.to_html(name)
    named = {f"{job.stem.name}{ending}": content for ending, content in files.items()}
    write_files(job.stem.parent, named)
    return figures
