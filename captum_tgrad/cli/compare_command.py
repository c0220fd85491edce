"""``captum-tgrad compare``: methods on one image."""

from __future__ import annotations

import argparse

from captum_tgrad._support.progress import progress_bar
from captum_tgrad.cli.errors import CommandError, out_of_memory_errors, user_errors
from captum_tgrad.cli.jobs import check_files, load_or_sample
from captum_tgrad.cli.printer import Printer, existing, print_skipped
from captum_tgrad.cli.resolve import chosen_methods, chosen_target, load_for
from captum_tgrad.evaluation.compare import NoMethodRanError, compare
from captum_tgrad.evaluation.report.comparison import FILES, class_title, write_comparison


def run_compare(options: argparse.Namespace) -> int:
    """Runs the command; returns the exit status, 0, or 1 if a method could not run."""
    with user_errors():
        methods = chosen_methods(options)
        pictures = [] if options.image is None else [options.image]
        check_files("compare", pictures, options.out, FILES)
        classifier = load_for(options)
        target = chosen_target(options, classifier)
        image = load_or_sample(options.image)
    printer = Printer(options)
    advice = "out of memory: pass a smaller --max-examples-per-batch"
    # The metrics, and then the figures, come after the methods.
    with out_of_memory_errors(advice), progress_bar(len(methods) + 2, printer.show_progress) as bar:
        begun = 0

        def progress(title: str) -> None:
            nonlocal begun
            bar.update(1 if begun else 0)
            begun += 1
            bar.show(title)

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
        replaced = existing(options.out, FILES)
        with user_errors():
            write_comparison(comparison, options.out)
        bar.update(1)
    printer.results(f"{classifier.name}, {class_title(comparison)}", comparison.summary)
    printer.cut_away(classifier, [(options.image, image)])
    printer.written(options.out, FILES, replaced)
    return print_skipped(
        [(each["method"], each["reason"]) for each in comparison.summary["skipped"]]
    )
