"""Where two values of one model differ, by their path in the certificate."""

from __future__ import annotations

import math
from collections.abc import Iterator, Set
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

_MOST_NAMED = 5


@dataclass(frozen=True)
class Exactness:
    """How exactly two values must agree.

    Attributes:
        texts: Compare sentences too.
        rtol: Relative difference of two numbers that counts as none.
        atol: Absolute difference of two numbers that counts as none.
        slack: Difference of two counts that counts as none.
        skip: Names of fields that are not compared.
    """

    texts: bool = True
    rtol: float = 0.0
    atol: float = 0.0
    slack: int = 0
    skip: Set[str] = field(default_factory=frozenset)

    def agree(self, derived: Any, claimed: Any) -> bool:
        """Tell whether two values without parts agree; a truth value is no number."""
        if isinstance(derived, str) and isinstance(claimed, str):
            return derived == claimed or not self.texts
        if isinstance(derived, bool) or isinstance(claimed, bool):
            return derived is claimed
        if isinstance(derived, int) and isinstance(claimed, int):
            return abs(derived - claimed) <= self.slack
        if isinstance(derived, float | int) and isinstance(claimed, float | int):
            return math.isclose(derived, claimed, rel_tol=self.rtol, abs_tol=self.atol)
        return bool(derived == claimed)


EXACT = Exactness()


def differences(
    derived: Any, claimed: Any, *, place: str, exactness: Exactness = EXACT
) -> Iterator[str]:
    """Yield the places at which two values of one model differ.

    Args:
        derived: What was derived again.
        claimed: What the certificate says.
        place: Path of both in the certificate.
        exactness: How exactly they must agree.
    """
    parts = _parts(derived, claimed)
    if parts is None:
        if not exactness.agree(derived, claimed):
            yield place
        return
    for name, one, other in parts:
        if name not in exactness.skip:
            yield from differences(one, other, place=f"{place}.{name}", exactness=exactness)


def _parts(derived: Any, claimed: Any) -> list[tuple[str, Any, Any]] | None:
    """Return name and values of the parts of two values of one form.

    None where they have none, or not the same.
    """
    if isinstance(derived, BaseModel) and isinstance(claimed, BaseModel):
        return [
            (name, getattr(derived, name), getattr(claimed, name))
            for name in type(derived).model_fields
        ]
    rows = isinstance(derived, list | tuple) and isinstance(claimed, list | tuple)
    if rows and len(derived) == len(claimed):
        return [
            (str(index), one, other)
            for index, (one, other) in enumerate(zip(derived, claimed, strict=True))
        ]
    if isinstance(derived, dict) and isinstance(claimed, dict) and derived.keys() == claimed.keys():
        return [(str(name), value, claimed[name]) for name, value in derived.items()]
    return None


def named(wrong: list[str]) -> str:
    """Name places, the first few of many."""
    more = f" and {len(wrong) - _MOST_NAMED} more" if len(wrong) > _MOST_NAMED else ""
    return ", ".join(wrong[:_MOST_NAMED]) + more
