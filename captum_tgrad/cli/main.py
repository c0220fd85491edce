"""The command ``captum-tgrad``."""

from __future__ import annotations

import argparse
import errno
import io
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import captum_tgrad
from captum_tgrad._support.printable import printable
from captum_tgrad.cli.compare_options import add_compare
from captum_tgrad.cli.errors import CommandError, how_to_go_on
from captum_tgrad.cli.evaluate_options import add_evaluate
from captum_tgrad.cli.explain_options import add_explain
from captum_tgrad.cli.help_text import HelpWithExamples, examples
from captum_tgrad.cli.list_options import add_lists
from captum_tgrad.cli.sanity_check_options import add_sanity_check

_PROGRAM = "captum-tgrad"
_USAGE_ERROR = 2
_INTERRUPTED = 130
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
    options = _parser().parse_args(arguments)
    try:
        status = _run(options)
        sys.stdout.flush()
        return status
    except CommandError as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        hint = how_to_go_on(options.out) if options.command == "evaluate" else ""
        print(f"{_PROGRAM}: interrupted{printable(hint)}", file=sys.stderr)
        return _INTERRUPTED
    except (RuntimeError, MemoryError, ImportError) as error:
        if not _is_short_memory(error):
            raise
        return _fail("out of memory: use another --device or a smaller --model")
    except OSError as error:
        # Of standard output: the commands convert the errors of all other files.
        if error.errno not in (errno.EPIPE, errno.ENOSPC):
            raise
        # What is still to be written would fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return _BROKEN_PIPE
        return _fail(f"the output cannot be written ({error.strerror}): free some space")


def _fail(message: str) -> int:
    """Prints an error in one line; returns the exit status."""
    print(f"{_PROGRAM}: error: {printable(' '.join(message.split()))}", file=sys.stderr)
    return _USAGE_ERROR


def _run(options: argparse.Namespace) -> int:
    if sys.stderr.isatty() and not options.quiet:
        # A sign of life: what is imported below takes seconds to load.
        print(f"{_PROGRAM} {options.command}: loading PyTorch ...", file=sys.stderr, flush=True)
    # Imported here: --help needs none of the networks' libraries.
    if options.command == "explain":
        from captum_tgrad.cli.explain_command import run_explain as run
    elif options.command == "compare":
        from captum_tgrad.cli.compare_command import run_compare as run
    elif options.command == "evaluate":
        from captum_tgrad.cli.evaluate_command import run_evaluate as run
    elif options.command == "sanity-check":
        from captum_tgrad.cli.sanity_check_command import run_sanity_check as run
    elif options.command == "methods":
        from captum_tgrad.cli.list_commands import run_methods as run
    else:
        from captum_tgrad.cli.list_commands import run_models as run
    return run(options)


def _is_short_memory(error: Exception) -> bool:
    if isinstance(error, ImportError):  # as torch's libraries could not even be loaded
        return "failed to map segment" in str(error) or "allocate memory" in str(error)
    # Imported here: torch takes a second to load.
    from captum_tgrad._support.out_of_memory import is_out_of_memory

    return is_out_of_memory(error)


class _Parser(argparse.ArgumentParser):
    """The parser of the program and of its commands: it escapes control characters in messages."""

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=HelpWithExamples, allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        super().error(printable(message))


def _parser() -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = _Parser(
        prog=_PROGRAM,
        description="Draws the pixels that an image classifier uses, and measures how faithful"
        " such maps are.",
        epilog=examples("explain photo.jpg", "compare photo.jpg", "explain --help"),
    )
    parser.add_argument(
        "--version", action="version", version=f"{_PROGRAM} {captum_tgrad.__version__}"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add_explain(commands)
    add_compare(commands)
    add_evaluate(commands)
    add_sanity_check(commands)
    add_lists(commands)
    return parser
