"""Compares methods on a data set: records, a summary, a table and figures."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from captum_tgrad._support.accelerator import device_name, device_of
from captum_tgrad._support.progress import progress_bar
from captum_tgrad._support.show import html_table
from captum_tgrad._support.warn import warn_user
from captum_tgrad.evaluation.distributed import Workers
from captum_tgrad.evaluation.image_files import ImageFiles
from captum_tgrad.evaluation.methods.built_in import METHODS, checked_methods, titles_of
from captum_tgrad.evaluation.methods.method import Black, Method, black_image
from captum_tgrad.evaluation.regions import described_regions
from captum_tgrad.evaluation.report.evaluation import write_figures, write_tables
from captum_tgrad.evaluation.report.shown_images import draw_images
from captum_tgrad.evaluation.report.summary import Summary
from captum_tgrad.evaluation.report.table import table_of
from captum_tgrad.evaluation.running.run import STEPS, Run
from captum_tgrad.evaluation.running.score_dtype import check_score_dtype
from captum_tgrad.evaluation.running.settings import (
    ScoreName,
    Settings,
    Targets,
    check_arguments,
    examples_at_once,
    examples_per_batch,
)
from captum_tgrad.evaluation.running.timed_method import TimedMethod
from captum_tgrad.evaluation.samples import Samples
from captum_tgrad.evaluation.storage import digests
from captum_tgrad.evaluation.storage.folder import begin, locked, rejection
from captum_tgrad.evaluation.storage.json_lines import JsonLines
from captum_tgrad.evaluation.storage.protocol import versions
from captum_tgrad.evaluation.storage.records import Record, read_records
from captum_tgrad.metrics.engine.ranking import Ties
from captum_tgrad.zoo.classifier import Classifier


@dataclass(frozen=True, repr=False)
class Evaluation:
    """The result of an evaluation.

    Attributes:
        summary: Means, intervals and paired differences; see ``summarize``.
        table: The same as Markdown.
        records: One for each image and method.
        skipped: Skipped images and methods: ``image`` and ``method``, where None means all, and
            the ``reason``; for an abandoned method, all remaining images of the process.
    """

    summary: Summary
    table: str
    records: list[Record]
    skipped: list[dict[str, Any]]

    def __repr__(self) -> str:
        methods = ", ".join(self.summary["methods"])
        return (
            f"Evaluation of {methods} on {self.summary['images']} images,"
            f" {len(self.skipped)} skipped; print(evaluation.table)"
        )

    def _repr_html_(self) -> str:
        title = f"{self.summary['images']} images, {len(self.skipped)} skipped"
        table = table_of(self.summary)
        return html_table(title, table.headings, table.rows)


def evaluate(
    model: nn.Module | Classifier,
    dataset: Any,
    methods: Sequence[str | Method] = tuple(METHODS),
    out: str | Path | None = None,
    *,
    resume: bool = False,
    target: Targets = "predicted",
    n_steps: int = 224,
    batch_size: int = 8,
    max_examples_per_batch: int | None = None,
    score: ScoreName = "softmax",
    score_dtype: torch.dtype = torch.float32,
    ties: Ties = "stable",
    limit: int | None = None,
    seed: int = 0,
    black: Black | None = None,
    budget: float | None = None,
    regions: Mapping[str, Any] | None = None,
    show_progress: bool | None = False,
) -> Evaluation:
    """Compares attribution methods on a data set with the metrics of the T-Grad paper.

    Every method explains every image, and ``insertion_deletion``, ``average_drop`` and
    ``increase_in_confidence`` score every map. Methods are timed on the same batches, after a
    warm-up run. If a method fails, the reason is recorded and the other methods continue. Images
    that cannot be loaded or that the model rejects are also recorded. Batches that do not fit into
    memory are split.

    If ``torch.distributed`` is initialized, call this function in every process with the same
    arguments. The images are divided among the processes, and all return the same result. ``out``
    must then be a folder that all processes share.

    Args:
        model: A module from images ``(N, C, H, W)`` to logits ``(N, classes)``, in evaluation mode
            and on the device to use; or a classifier of ``captum_tgrad.zoo``.
        dataset: A torch Dataset or a list of model inputs ``(C, H, W)``, or of ``(image, label)``.
            Its attribute ``names``, if any, has the names of the images. For a folder of files, see
            ``images_in``.
        methods: Names in ``METHODS``, or methods of your own.
        out: The folder for ``records*.jsonl``, ``protocol.json``, ``summary.json``,
            ``summary.csv``, ``table.md``, ``metrics.png``, ``seconds.png`` and ``report.html``. The
            report computes the maps of three images again. The folder is created if it does not
            exist. None: no files are written.
        resume: Whether to continue the records in ``out``. With ``target="label"``, the labels must
            equal those in the records.
        target: The class to explain: ``"predicted"``, or the ``"label"`` of the image.
        n_steps: As for ``insertion_deletion``.
        batch_size: The number of images to explain at a time.
        max_examples_per_batch: The number of perturbed images per forward pass. It changes the
            numbers by rounding only. None: 8 on a CPU, 64 on other devices.
        score: ``"softmax"`` or ``"logit"``; as for ``insertion_deletion``.
        score_dtype: ``torch.bfloat16``: the forward passes that score original and perturbed images
            run under autocast to bfloat16, for speed. It does not affect the maps, the explained
            class, the curves and the softmax. ``torch.float32``: no autocast.
        ties: As for ``insertion_deletion``.
        limit: Use only the first ``limit`` images.
        seed: Random seed, 0 or more. The user's random state is restored. Methods of your own get a
            seed for each image. If they use the global random state instead, their numbers depend
            on the first image of the batch.
        black: The model's input for a black image, ``(C, H, W)`` or a number. None: computed for a
            classifier; 0 for a module.
        budget: The time limit in seconds. Afterwards, no image is loaded or scored, except for one
            image of a batch that is already explained. Preparation and the report do not count.
            Images are in random order, so the finished ones are a random sample. None: no limit.
        regions: The object's region by image name: a boolean mask ``(H, W)``, or boxes
            ``(boxes, 4)`` as for ``pointing_game``, in pixels of the model's input. Adds the
            localization metrics of these images to records and tables.
        show_progress: Whether to show a progress bar with the remaining time. None: only in a
            terminal.

    Returns:
        The summary, the records, and the skipped images and methods.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument is invalid, ``score_dtype`` cannot be used on the device or with a
            model that is not in float32, the model is in training mode or returns no logits, or the
            images are not in its dtype.
        RuntimeError: The model rejects all images; this is the model's error.
        OutputError: A ValueError: ``out`` has records and ``resume`` is False; the records used
            other settings or images, which the message names; or ``out`` is a file, or has files of
            another command or program that would be replaced.
        OSError: A record cannot be written, as on a full disk; earlier records are complete.

    Example:
        >>> import torch
        >>> from captum_tgrad.evaluation import evaluate
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 8)).eval()
        >>> images = 20 * model[1].weight.detach().reshape(8, 3, 8, 8)[:3]
        >>> found = evaluate(model, images, ["t_grad", "random"], n_steps=8)
        >>> found.summary["methods"]["t_grad"]["images"]
        3
    """
    chosen = checked_methods(methods)
    samples = Samples(dataset, limit)
    classifier, module = (model, model.model) if isinstance(model, Classifier) else (None, model)
    if black is None:
        black = black_image(model)
    check_arguments(module, out, resume, black, budget)
    device = device_of(module)
    chunk, at_once = examples_per_batch(max_examples_per_batch, device), examples_at_once(device)
    check_score_dtype(score_dtype, module, device)
    settings = Settings(target, n_steps, batch_size, chunk, score, ties, seed, score_dtype)
    protocol = {
        **_described_model(module, classifier, black),
        **settings.protocol(),
        **described_regions(regions, samples.names),
        "examples_at_once": at_once,
        "device": device_name(device),
        "versions": versions(),
        "methods": {method.name: method.settings for method in chosen},
    }
    if isinstance(dataset, ImageFiles):
        protocol["preprocessing"] = digests.preprocessing(dataset.preprocess)
    timed = {
        method.name: TimedMethod(method, module, black, settings.batch_size, at_once)
        for method in chosen
    }
    with ExitStack() as stack:
        own = stack.enter_context(tempfile.TemporaryDirectory()) if out is None else out
        workers = Workers()
        check = partial(samples.check_records, by_label=target == "label", regions=regions)
        # Without a given folder, each process has created one: all use that of the first.
        folder, done = workers.once(
            lambda: (Path(own), begin(Path(own), protocol, resume, check, stack))
        )
        work = workers.share(_work(samples, chosen, done, settings.seed))
        total = STEPS * sum(len(names) for _, names in work) + 1
        with progress_bar(total, show_progress if workers.first else False) as bar:
            paths = [folder / workers.file_name(stem) for stem in ("records", "skipped")]
            with JsonLines(paths[0]) as lines, JsonLines(paths[1]) as skipped, locked(paths[0]):
                run = Run(module, timed, samples, settings, lines, skipped, bar, regions)
                run(work, budget)
            workers.wait()  # until all have written what they skipped
            if (error := workers.once(lambda: rejection(folder, len(samples)))) is not None:
                raise run.refused or RuntimeError(error)
            bar.show("tables and figures")

            def write() -> tuple[Summary, str]:
                found = read_records(folder)
                summary, table = write_tables(folder, found, titles_of(chosen))
                if out is not None and found:
                    drawn = draw_images(found, summary, samples, timed, device, classifier)
                    write_figures(folder, summary, drawn)
                return summary, table

            summary, table = workers.once(write)
            bar.update(1)
        records = read_records(folder)
        if work and not records and workers.first:
            first = next(iter(summary["skipped"]), {"reason": "the budget was spent"})
            reason = first["reason"].rstrip(".")
            warn_user(f"dataset: no image was evaluated; the first was skipped: {reason}.")
        # The first process may delete a temporary folder only after all have read it.
        workers.wait()
    return Evaluation(summary, table, records, summary["skipped"])


def _work(
    samples: Samples, methods: Sequence[Method], done: set[tuple[str, str]], seed: int
) -> list[tuple[int, list[str]]]:
    """The images that lack records, each with the methods that are missing, in a random order.

    Whenever a run ends, and however many processes share it, its images are a random sample.
    """
    lacking = [
        (index, [method.name for method in methods if (image, method.name) not in done])
        for index, image in random.Random(seed).sample([*enumerate(samples.names)], len(samples))
    ]
    return [(index, names) for index, names in lacking if names]


def _described_model(
    model: nn.Module, classifier: Classifier | None, black: Black
) -> dict[str, Any]:
    """The protocol entries of the model."""
    pixels = torch.as_tensor(black, device="cpu")
    found = {
        "model": type(model).__name__ if classifier is None else classifier.name,
        "weights": digests.fingerprint(model),
        "architecture": digests.architecture(model),
        "black": digests.image_digest(pixels) if pixels.dim() else float(pixels),
    }
    resize = "crop" if classifier is None else getattr(classifier.preprocess, "resize", "crop")
    return found if resize == "crop" else {**found, "resize": resize}
