"""Text of certificates and policies as Markdown that shows it as it is.

Names and sentences come from files of others. Nothing in them may become a tag, a link, an image,
a mention or a table cell of its own.
"""

from __future__ import annotations

import re

from cimrobust.input_file import printable

_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_SPECIAL = re.compile(r"[\\`*_{}\[\]#|~$!&<>]")
_CUT = 600


def escaped(text: object, *, most: int = _CUT) -> str:
    """Return text on one line without any meaning in Markdown, in a table too.

    Args:
        text: Anything; of what is longer than `most` characters the beginning.
        most: Most characters of it.
    """
    flat = _SPECIAL.sub(lambda found: _inert(found[0]), _cut(text, most))
    # Addresses and mentions become links without any mark around them.
    flat = re.sub(r"(?i)\b(https?|ftp|mailto|xmpp):", r"\1\\:", flat)
    flat = re.sub(r"(?i)\bwww\.", r"www\\.", flat)
    return flat.replace("@", "@\u200b")


def code(text: object, *, most: int = _CUT) -> str:
    """Return text on one line as a code span, in a table too.

    Text with a bar becomes escaped text: readers of tables do not agree about a backslash before a
    bar in a code span.
    """
    flat = _cut(text, most)
    if "|" in flat:
        return escaped(text, most=most)
    fence = _fence(flat, least=1)
    pad = " " if flat.startswith(("`", " ")) or flat.endswith(("`", " ")) else ""
    return f"{fence}{pad}{flat}{pad}{fence}"


def code_block(text: str, language: str) -> str:
    """Return lines as a code block."""
    fence = _fence(text, least=3)
    return f"{fence}{language}\n{text}\n{fence}\n"


def _fence(text: str, *, least: int) -> str:
    """Return a run of backticks longer than any in a text."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    return "`" * max(least, longest + 1)


def _inert(char: str) -> str:
    return _ENTITIES.get(char, f"\\{char}")


def _cut(text: object, most: int) -> str:
    flat = printable(text)
    return flat if len(flat) <= most else f"{flat[: most - 1]}…"
