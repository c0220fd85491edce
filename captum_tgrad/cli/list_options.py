"""The options of ``captum-tgrad methods`` and ``captum-tgrad models``."""

from __future__ import annotations

import argparse

from captum_tgrad.cli.help_text import examples

_COMMANDS = {
    "methods": (
        "list the attribution methods with their cost and source",
        "Lists the methods that compare, evaluate and sanity-check accept by name.",
    ),
    "models": (
        "list the networks for --model",
        "Lists the networks with their size, the cost of a forward pass, and the source of their"
        " ImageNet weights.",
    ),
}


def add_lists(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds both commands."""
    for name, (summary, description) in _COMMANDS.items():
        parser = commands.add_parser(
            name,
            help=summary,
            description=description,
            epilog=examples(name, f"{name} --json"),
        )
        parser.add_argument("--json", action="store_true", help="print the list as JSON")
        parser.set_defaults(quiet=False)
