"""Text of files in output: on one line, or on lines of its own."""

from __future__ import annotations


def printable(text: object) -> str:
    """Return text on one line without control characters.

    So no file can forge lines of output.
    """
    flat = " ".join(str(text).split())
    return "".join(char if char.isprintable() else "?" for char in flat)


def printable_lines(text: str) -> str:
    """Return text without control characters other than the ends of its lines."""
    return "\n".join(map(printable, text.split("\n")))
