"""``captum-tgrad compare``: methods on one picture."""

from __future__ import annotations

import argparse
import sys

from captum_tgrad._support.printable import printable
from captum_tgrad._support.progress import progress_bar
from captum_tgrad.cli.chosen_classifier import load_for
from captum_tgrad.cli.chosen_methods import chosen_methods
from captum_tgrad.cli.device import choose_device
from captum_tgrad.cli.errors import CommandError, users_mistakes
from captum_tgrad.cli.jobs import check_files, load_or_sample
from captum_tgrad.cli.memory import short_memory
from captum_tgrad.cli.seen import print_seen
from captum_tgrad.evaluation.compare import NoMethodRanError, compare
from captum_tgrad.evaluation.report.comparison import FILES, markdown, write_comparison

_SOMETHING_SKIPPED = 1


def run_compare(options: argparse.Namespace) -> int:
    """Carries out the command.

    Args:
        options: As parsed by ``captum_tgrad.cli.main``.

    Returns:
        The exit status, 0, or 1 where a method could not run.

    Raises:
        CommandError: Something that the user named is not there or does not serve.
    """
    with users_mistakes():
        methods = chosen_methods(options)
        pictures = [] if options.picture is None else [options.picture]
        check_files(pictures, options.out, [options.out / name for name in FILES])
        device = choose_device(options.device)
        classifier, target = load_for(options)
        image = load_or_sample(options.picture)
    classifier.model.to(device)
    advice = "the changed pictures do not fit into memory: give a smaller --max-examples-per-batch"
    # The metrics, and then the figures, come after the methods.
    with short_memory(advice), progress_bar(len(methods) + 2, None) as bar:
        begun = 0

        def progress(title: str) -> None:
            nonlocal begun
            bar.update(1 if begun else 0)
            begun += 1
            bar.say(title)

        try:
            comparison = compare(
                classifier,
                image,
                methods,
                target,
                n_steps=options.n_steps,
                max_examples_per_batch=options.max_examples_per_batch,
                progress=progress,
            )
        except NoMethodRanError as error:
            raise CommandError(str(error)) from error
        progress("figures")
        with users_mistakes():
            paths = write_comparison(comparison, options.out)
        bar.update(1)
    print(markdown(comparison))
    print_seen(classifier, [(options.picture, image)])
    print(f"written: {printable(', '.join(map(str, paths)))}")
    skipped = comparison.summary["skipped"]
    for each in skipped:
        what = printable(f"{each['method']}: {each['reason']}")
        print(f"skipped: {what}", file=sys.stderr)
    return _SOMETHING_SKIPPED if skipped else 0
