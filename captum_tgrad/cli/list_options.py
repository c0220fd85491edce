"""What ``captum-tgrad methods`` and ``captum-tgrad models`` understand."""

from __future__ import annotations

import argparse

from captum_tgrad.cli.help_text import HelpWithExamples, examples

_COMMANDS = {
    "methods": (
        "list the attribution methods, what they cost, and where they are from",
        "Lists the methods that compare, evaluate and sanity-check take by name.",
    ),
    "models": (
        "list the networks that --model takes",
        "Lists the networks with their size, the cost of a forward pass, and where their ImageNet"
        " weights are from.",
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
            formatter_class=HelpWithExamples,
            allow_abbrev=False,
        )
        parser.add_argument("--json", action="store_true", help="print the list as JSON")
        parser.set_defaults(quiet=False)
