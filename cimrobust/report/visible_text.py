"""Text of files that shows as it is: no character reorders, hides or commands what stands there."""

from __future__ import annotations

import re

# Controls, marks that turn the direction of text, what has no width, separators of lines, tags, and
# halves of characters. Joiners are left: scripts need them.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e"
    "\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)


def visible(page: str) -> str:
    """Return a page whose unseen characters are written out as JSON escapes them.

    What is embedded in the page reads the same.

    Args:
        page: HTML.
    """
    return _UNSEEN.sub(lambda found: _written(ord(found[0])), page)


def _written(code: int) -> str:
    """Return a character as JSON escapes it: two halves where it has more than 16 bits."""
    if code < 0x10000:
        return f"\\u{code:04x}"
    high, low = divmod(code - 0x10000, 0x400)
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"
