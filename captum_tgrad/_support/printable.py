r"""Escapes names from files, checkpoints and models for display.

Such a name is untrusted: it may hold control characters that clear a terminal, line breaks that
forge a line of a report, bidirectional controls, HTML, or bytes that are not text.
"""

from __future__ import annotations

import html
import re
import unicodedata

# Control characters, format characters (some of which change the writing direction), surrogates
# (Python's stand-ins for bytes of a file name that are not UTF-8), unassigned code points, and
# separators of lines and paragraphs.
_UNPRINTABLE = {"Cc", "Cf", "Cs", "Cn", "Zl", "Zp"}
# Joiners are part of some words and emoji.
_HARMLESS = {"\N{ZERO WIDTH NON-JOINER}", "\N{ZERO WIDTH JOINER}"}
# Characters that start an escape, code, a link or image, or a table cell.
_MARKDOWN = re.compile(r"[\\`\[\]|]")


def printable(text: object) -> str:
    r"""A text in one line without terminal control characters.

    Example:
        >>> printable("caf\udce9\x1b[2J.jpg")
        'caf\\xe9\\x1b[2J.jpg'
        >>> printable("Ångström 100%")
        'Ångström 100%'
    """
    text = str(text)
    return text if text.isprintable() else "".join(map(_shown, text))


def printable_lines(text: object) -> str:
    """The same, but keeps line breaks, for texts that this package breaks into lines."""
    return "\n".join(map(printable, str(text).split("\n")))


def in_markdown(text: object) -> str:
    r"""A text escaped for Markdown: no HTML, links or table cells.

    Example:
        >>> in_markdown("<script>|[a](b)")
        '&lt;script&gt;\\|\\[a\\](b)'
    """
    escaped = _MARKDOWN.sub(r"\\\g<0>", printable(text))
    return html.escape(escaped, quote=False)


def in_html(text: object) -> str:
    """A text escaped for HTML, also within quotes; line breaks stay."""
    return html.escape(printable_lines(text))


def _shown(character: str) -> str:
    if unicodedata.category(character) not in _UNPRINTABLE or character in _HARMLESS:
        return character
    if "\udc80" <= character <= "\udcff":  # A byte, as ``os.fsdecode`` writes it.
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape", "backslashreplace").decode("ascii")
