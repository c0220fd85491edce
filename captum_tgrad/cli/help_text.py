"""The help of a command: its description, its options and examples."""

from __future__ import annotations

import argparse

_HEAD = "examples:"


class HelpWithExamples(argparse.HelpFormatter):
    """Leaves the lines of examples as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if text.startswith(_HEAD) else super()._fill_text(text, width, indent)


def examples(*commands: str) -> str:
    """The end of a command's help.

    Args:
        commands: The commands without the name of the program.

    Example:
        >>> print(examples("explain cup.jpg"))
        examples:
          captum-tgrad explain cup.jpg
    """
    return "\n".join([_HEAD, *(f"  captum-tgrad {command}" for command in commands)])
