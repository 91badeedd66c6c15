"""JSON that somebody else wrote.

No NaN, no infinity, no key twice, no number that 64 bits do not hold.
"""

from __future__ import annotations

import json
import math
from itertools import pairwise
from typing import Any

# Escapes of halves of characters, which stand for one in pairs alone, begin so.
_HALVES = ("\\ud", "\\uD")


def parse_json(content: bytes | str) -> Any:
    """Return the value of a JSON text.

    Raises:
        ValueError: It is not JSON in UTF-8, nests too deeply, or holds what JSON leaves to chance;
            says what.
    """
    text = content if isinstance(content, str) else content.decode("utf-8")
    try:
        value = json.loads(
            text,
            parse_constant=_refused,
            parse_float=_float,
            parse_int=_int,
            object_pairs_hook=_object,
        )
        if any(begin in text for begin in _HALVES):
            _require_whole_characters(value)
    except RecursionError as err:
        raise ValueError("it nests deeper than can be read") from err
    return value


def _require_whole_characters(value: Any) -> None:
    """Raise ValueError for half a character: no file nor terminal could be written with it."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as err:
        raise ValueError(f"\\u{ord(err.object[err.start]):04x} is half a character") from err


def _refused(text: str) -> float:
    raise ValueError(f"{text} is not a number of JSON")


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:40]} is larger than a number can be")
    return value


def _int(text: str) -> int:
    if len(text) > 20 or not -(2**63) <= int(text) < 2**64:
        raise ValueError(f"{text[:40]} is larger than a whole number can be")
    return int(text)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        # Sorted: to count each of many names would take for ever.
        names = sorted(name for name, _ in pairs)
        twice = next(name for name, after in pairwise(names) if name == after)
        raise ValueError(f"key '{twice[:100]}' stands twice in one object")
    return made
