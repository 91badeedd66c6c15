"""Text of files on one line of output."""

from __future__ import annotations


def printable(text: object) -> str:
    """Return text on one line without control characters.

    So no file can forge lines of output.
    """
    flat = " ".join(str(text).split())
    return "".join(char if char.isprintable() else "?" for char in flat)
