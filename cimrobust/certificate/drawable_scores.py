"""Results whose scores a chart can show: an error without end is drawn as a very large one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

if TYPE_CHECKING:
    from cimrobust.certificate.models import Metric

#: Records hold an infinite error as the largest float64. Axes are wider than what they show, and
#: scale it, so they need room up to that.
LARGEST_DRAWN = 1e300


class Drawn(Protocol):
    """A record with scores."""

    @property
    def metric(self) -> Metric:
        """What a score is."""

    def model_dump(self) -> dict[str, Any]:
        """Return plain values."""

    @classmethod
    def model_validate(cls, obj: Any) -> Self:
        """Read plain values."""


R = TypeVar("R", bound=Drawn)


def drawable(record: R) -> R:
    """Return a record without numbers that an axis cannot hold; fractions are left as they are."""
    if record.metric.unit == "fraction":
        return record
    return type(record).model_validate(_capped(record.model_dump()))


def _capped(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _capped(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_capped(part) for part in value]
    if isinstance(value, float):
        return max(min(value, LARGEST_DRAWN), -LARGEST_DRAWN)
    return value
