"""JSON that somebody else wrote.

No NaN, no infinity, no key twice, no number that 64 bits do not hold.
"""

from __future__ import annotations

import json
import math
from typing import Any


def parse_json(content: bytes | str) -> Any:
    """Return the value of a JSON text.

    Raises:
        ValueError: It is not JSON in UTF-8, nests too deeply, or holds what JSON leaves to chance;
            says what.
    """
    text = content if isinstance(content, str) else content.decode("utf-8")
    try:
        return json.loads(
            text,
            parse_constant=_refused,
            parse_float=_float,
            parse_int=_int,
            object_pairs_hook=_object,
        )
    except RecursionError as err:
        raise ValueError("it nests deeper than can be read") from err


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
        names = [name for name, _ in pairs]
        raise ValueError(
            f"key '{next(name for name in names if names.count(name) > 1)[:100]}' stands twice in"
            " one object"
        )
    return made
