"""Methods compared on a data set: records, a summary, a table and figures."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from captum_tgrad._support.progress import Bar, progress_bar
from captum_tgrad._support.show import html_table
from captum_tgrad._support.untouched import training_modules
from captum_tgrad._support.warn import warn_user
from captum_tgrad.evaluation.methods.built_in import METHODS, chosen_methods, titles_of
from captum_tgrad.evaluation.methods.method import Black, Method, black_picture
from captum_tgrad.evaluation.report.summary import Summary
from captum_tgrad.evaluation.report.table import table_of
from captum_tgrad.evaluation.report.write import write_results
from captum_tgrad.evaluation.running.localization import described_regions
from captum_tgrad.evaluation.running.run import STEPS, Files, Run, device_of
from captum_tgrad.evaluation.running.settings import Settings, Targets
from captum_tgrad.evaluation.running.speed import examples_at_once, examples_per_batch
from captum_tgrad.evaluation.running.timed_method import TimedMethod
from captum_tgrad.evaluation.samples import Samples
from captum_tgrad.evaluation.storage.folder import Output
from captum_tgrad.evaluation.storage.protocol import fingerprint, image_digest, versions
from captum_tgrad.evaluation.storage.records import JsonLines, Record
from captum_tgrad.evaluation.workers import Workers
from captum_tgrad.metrics.engine.ranking import Ties
from captum_tgrad.zoo.classifier import Classifier


@dataclass(frozen=True, repr=False)
class Evaluation:
    """What an evaluation found.

    Attributes:
        summary: Means, intervals and paired differences; see ``summarize``.
        table: The same as Markdown.
        records: One for each image and method.
        skipped: What was skipped: ``image`` and ``method``, of which None stands for all, and the
            ``reason``; of a method that was given up, all images that the process had left.
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
    score: Literal["softmax", "logit"] = "softmax",
    ties: Ties = "stable",
    limit: int | None = None,
    seed: int = 0,
    black: Black | None = None,
    budget: float | None = None,
    regions: Mapping[str, Any] | None = None,
    show_progress: bool | None = False,
) -> Evaluation:
    """Compares attribution methods on a data set with the five metrics of the T-Grad paper.

    Every image is explained by every method, and every map is scored by ``insertion_deletion``,
    ``average_drop`` and ``increase_in_confidence``. Methods are timed on the same batches after a
    run that does not count. A method that fails is reported and the others go on; an image that
    cannot be loaded, or that the model cannot take, is too; what does not fit into memory is
    divided.

    Where ``torch.distributed`` has been initialized, every process calls this with the same
    arguments; the images are divided, and all get the same result. Then ``out`` must be a folder
    that all of them see.

    Args:
        model: In evaluation mode, on the device to compute on, from images ``(N, C, H, W)`` to
            logits ``(N, classes)``; or a classifier of ``captum_tgrad.zoo``.
        dataset: A torch Dataset or a list of ``(image, label)`` or of images, ``(C, H, W)``, as the
            model takes them. With an attribute ``names``, images are called by them.
        methods: Names in ``METHODS``, or methods of your own.
        out: A folder for ``records*.jsonl``, ``protocol.json``, ``summary.json``, ``table.md``,
            ``metrics.png``, ``seconds.png`` and ``report.html``; made if it is not there. None:
            only the result is returned.
        resume: Whether to go on with the records that are in ``out``. Of images with a record, the
            labels are read again where they are the targets.
        target: The class to explain: the one ``"predicted"`` for the image, or its ``"label"``.
        n_steps: As for ``insertion_deletion``.
        batch_size: How many images are explained at once.
        max_examples_per_batch: How many changed images are scored at a time; changes no number but
            by rounding. None: 8 on a CPU, 64 elsewhere.
        score: ``"softmax"`` or ``"logit"``; as for ``insertion_deletion``.
        ties: As for ``insertion_deletion``.
        limit: Only so many of the first images are taken.
        seed: Of all randomness, 0 or more; the user's random state is left alone. A method of your
            own gets a seed for each image; what it draws from the global generators instead follows
            from the seed of the first image of a batch, and so from what is beside an image.
        black: What a black picture is to the model, ``(C, H, W)`` or a number. None: known of a
            classifier; 0 of a bare model.
        budget: How many seconds to spend: the images are taken in a random order, and no further
            batch is begun when the time is spent. None: all images.
        regions: Where the object is, by the name of the image: a mask ``(H, W)`` of bools, or boxes
            ``(boxes, 4)``, as for ``pointing_game``, in pixels of the image as the model takes it.
            Then records and tables have the localization metrics too, of the images in it.
        show_progress: Whether to show a progress bar with the time left; None: on a terminal.

    Returns:
        The summary, and what was skipped.

    Raises:
        TypeError: An argument is of the wrong kind.
        ValueError: An argument does not fit, or the model is in training mode or returns no logits.
        RuntimeError: The model takes none of the images; what it raised.
        OutputError: A ValueError: there are records in ``out`` and ``resume`` is not set, or they
            were made in another way or of other images: what differs is named; or ``out`` is a
            file.
        OSError: A file could not be written, as on a full disk; the records so far are whole.

    Example:
        >>> import torch
        >>> from captum_tgrad.evaluation import evaluate
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 8)).eval()
        >>> images = 20 * model[1].weight.detach().reshape(8, 3, 8, 8)[:3]
        >>> found = evaluate(model, images, ["t_grad", "random"], n_steps=8)
        >>> found.summary["methods"]["t_grad"]["images"]
        3
    """
    if isinstance(out, str) and not out.strip():
        raise ValueError(f"out must be a folder, got {out!r}: name one, or give None for no files.")
    chosen = chosen_methods(methods)
    samples = Samples(dataset, limit)
    name = model.name if isinstance(model, Classifier) else type(model).__name__
    resize: str = "crop"
    if isinstance(model, Classifier):
        resize = getattr(model.preprocess, "resize", resize)
        black = black_picture(model) if black is None else black
        model = model.model
    _check_model(model)
    black = 0.0 if black is None else black
    device = device_of(model)
    chunk, at_once = examples_per_batch(max_examples_per_batch, device), examples_at_once(device)
    if budget is not None and not budget > 0:
        raise ValueError(f"budget must be a positive number of seconds, got {budget!r}.")
    settings = Settings(target, n_steps, batch_size, chunk, score, ties, seed)
    protocol = {
        "model": name,
        "weights": fingerprint(model),
        "images": samples.title,
        "first_image": samples.digest(),
        "black": _described(black),
        **settings.protocol(),
        **described_regions(regions, samples.names),
        "examples_at_once": at_once,
        "device": _device_name(device),
        "versions": versions(),
        "methods": {method.name: method.settings for method in chosen},
    }
    if resize != "crop":  # Which earlier versions did, and did not write down.
        protocol["resize"] = resize
    timed = {
        method.name: TimedMethod(method, model, black, batch_size, at_once) for method in chosen
    }
    titles = titles_of(chosen)
    with tempfile.TemporaryDirectory() if out is None else nullcontext(str(out)) as folder:
        output = Output(Path(folder), titles, Workers())
        done = output.begin(
            protocol, resume, samples.digest_of, samples.label if target == "label" else None
        )
        work = output.workers.share(_work(samples, chosen, done))
        total = STEPS * sum(len(names) for _, names in work) + 1
        with progress_bar(total, show_progress if output.workers.first else False) as bar:
            refused = _run(output, model, timed, samples, settings, regions, work, budget, bar)
            output.workers.wait()
            if refused is not None and output.is_all_skipped(len(samples)):
                raise refused
            bar.say("tables and figures")
            figures = out is not None
            summary, table = output.workers.once(lambda: write_results(output, figures))
            bar.update(1)
        records = output.records()
        # The first process takes the folder away when all have read it.
        output.workers.wait()
    return Evaluation(summary, table, records, summary["skipped"])


def _run(
    output: Output,
    model: nn.Module,
    timed: dict[str, TimedMethod],
    samples: Samples,
    settings: Settings,
    regions: Mapping[str, Any] | None,
    work: list[tuple[int, list[str]]],
    budget: float | None,
    bar: Bar,
) -> RuntimeError | None:
    """Does this process' share, and returns what the model raised first, if it did."""
    with JsonLines(output.records_path) as records, JsonLines(output.skipped_path) as skipped:
        run = Run(model, timed, samples, settings, Files(records, skipped), regions)
        run(work, bar, budget)
    for method in timed.values():
        if work and method.shortage is not None:
            warn_user(method.shortage)
    return run.refused


def _work(
    samples: Samples, methods: Sequence[Method], done: set[tuple[str, str]]
) -> list[tuple[int, list[str]]]:
    """The images that lack a record, with the methods that they lack it of."""
    lacking = [
        (index, [method.name for method in methods if (image, method.name) not in done])
        for index, image in enumerate(samples.names)
    ]
    return [(index, names) for index, names in lacking if names]


def _check_model(model: Any) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"model must be a torch.nn.Module or a Classifier, got {type(model).__name__}."
        )
    training = training_modules(model)
    if training:
        raise ValueError(
            f"model is in training mode, so that its scores depend on chance: call model.eval(). In"
            f" training mode: {', '.join(training[:5])}."
        )


def _described(black: Black) -> float | str:
    """A number as it is, and a digest of a picture."""
    values = torch.as_tensor(black)
    return image_digest(values) if values.dim() else float(values)


def _device_name(device: torch.device) -> str:
    module: Any = getattr(torch, device.type, None)
    return (
        str(module.get_device_name(device)) if hasattr(module, "get_device_name") else device.type
    )
