"""The command ``captum-tgrad``."""

from __future__ import annotations

import argparse
import errno
import io
import os
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

from captum_tgrad._support.printable import printable
from captum_tgrad.cli.errors import CommandError, out_of_memory_errors, resume_hint
from captum_tgrad.cli.parser import PROGRAM, command_line

_USAGE_ERROR = 2
_SIGNALED = 128  # A shell adds the number of the signal.
_BROKEN_PIPE = 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line.

    Args:
        arguments: The arguments after the program's name. None: those of this process.

    Returns:
        The exit status, 0, 1 if an image or method was skipped, or 2 for an error in the command.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Characters that the terminal's encoding lacks are escaped.
            stream.reconfigure(errors="backslashreplace")
    given = sys.argv[1:] if arguments is None else arguments
    options = command_line().parse_args(given or ["--help"])
    if arguments is None:  # Batch systems end a program with SIGTERM.
        signal.signal(signal.SIGTERM, _interrupt)
    try:
        advice = "out of memory: use another --device or a smaller --model"
        with out_of_memory_errors(advice), _short_warnings():
            status = _run(options)
        sys.stdout.flush()
        return status
    except CommandError as error:
        return _fail(str(error))
    except KeyboardInterrupt as interrupt:
        hint = resume_hint(options.out) if options.command == "evaluate" else ""
        print(f"{PROGRAM}: interrupted{printable(hint)}", file=sys.stderr)
        return _SIGNALED + next(iter(interrupt.args), signal.SIGINT)
    except OSError as error:
        # Only standard output: the commands convert the errors of all other files.
        if error.errno not in (errno.EPIPE, errno.ENOSPC):
            raise
        # At exit, Python would fail again on the rest of the output.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return _BROKEN_PIPE
        return _fail(f"the output cannot be written ({error.strerror}): free some space")


def _interrupt(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt(number)


@contextmanager
def _short_warnings() -> Iterator[None]:
    """A context in which each warning is shown once, and names no line of the program's code."""
    earlier, shown = warnings.formatwarning, set[str]()

    def format_warning(message: Any, category: type[Warning], *place: Any, **line: Any) -> str:
        text = f"{PROGRAM}: warning: {printable(' '.join(str(message).split()))}\n"
        if category is not UserWarning:
            text = earlier(message, category, *place, **line)
        if text in shown:  # Python shows a warning again whenever a filter has changed.
            return ""
        shown.add(text)
        return text

    warnings.formatwarning = format_warning
    try:
        yield
    finally:
        warnings.formatwarning = earlier


def _fail(message: str) -> int:
    """Prints an error in one line; returns the exit status."""
    print(f"{PROGRAM}: error: {printable(' '.join(message.split()))}", file=sys.stderr)
    return _USAGE_ERROR


def _run(options: argparse.Namespace) -> int:
    if sys.stderr.isatty() and not options.quiet:
        # The imports below take seconds.
        print(f"{PROGRAM} {options.command}: loading PyTorch ...", file=sys.stderr, flush=True)
    # Imported here: --help needs none of the libraries.
    if options.command == "explain":
        from captum_tgrad.cli.explain_command import run_explain as run
    elif options.command == "compare":
        from captum_tgrad.cli.compare_command import run_compare as run
    elif options.command == "evaluate":
        from captum_tgrad.cli.evaluate_command import run_evaluate as run
    elif options.command == "sanity-check":
        from captum_tgrad.cli.sanity_check_command import run_sanity_check as run
    else:
        from captum_tgrad.cli.list_commands import run_list as run
    return run(options)
