"""Every part that a result may lack is there, or its reason is, and never both or neither."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from cimrobust.review.differences import named
from cimrobust.review.replay_check import ReplayCheck

# Says how an axis was found, not why there is none.
_NO_ABSENCE = frozenset({"axis"})
# The parts whose reason is called `reason` alone.
_PLAIN = "score"


def reasons_check(record: BaseModel) -> ReplayCheck:
    """Check that nothing was left out without a word.

    A part that is null would keep every check of it from looking.

    Args:
        record: A result, brought to the current form of its format.
    """
    wrong = [place for place, missing, has_reason in _parts(record, "") if missing != has_reason]
    return ReplayCheck(
        "reasons",
        not wrong,
        "every part is there or has its reason"
        if not wrong
        else f"a part and its reason, or neither, at {named(wrong)}",
    )


def absences(record: BaseModel) -> Iterator[str]:
    """Yield the place of every part that a result lacks, and gives a reason for.

    What rows of its tables lack is left out.

    Args:
        record: A result.
    """
    yield from (
        place
        for place, missing, has_reason in _parts(record, "", with_rows=False)
        if missing and has_reason
    )


def _parts(value: Any, place: str, *, with_rows: bool = True) -> Iterator[tuple[str, bool, bool]]:
    """Yield place, absence and presence of a reason of all that may be absent with a reason."""
    if isinstance(value, BaseModel):
        names = type(value).model_fields
        for name in names:
            reason = "reason" if name == _PLAIN else f"{name}_reason"
            if reason in names and name not in _NO_ABSENCE:
                has_reason = bool((getattr(value, reason) or "").strip())
                yield f"{place}{name}", getattr(value, name) in (None, []), has_reason
            yield from _parts(getattr(value, name), f"{place}{name}.", with_rows=with_rows)
    elif with_rows and isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _parts(item, f"{place}{index}.")
