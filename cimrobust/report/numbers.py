"""Numbers of a certificate as markup.

What is shown always carries where it stands in the JSON, and its exact value.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from markupsafe import Markup, escape

if TYPE_CHECKING:
    from cimrobust.certificate.models import Metric


class Measured(Protocol):
    """A model of a result file whose scores have a metric."""

    @property
    def metric(self) -> Metric:
        """What a score is."""

    def model_dump(self) -> dict[str, Any]:
        """Return plain values as in the file."""


def shown(value: Any, kind: str, *, is_fraction: bool) -> str:
    """Return a value as people read it.

    Args:
        value: Number or None.
        kind: ``score``, ``percent``, ``fine_percent`` (four digits), ``count``, ``seconds``,
            ``margin`` (signed) or ``plain``.
        is_fraction: Whether scores are fractions, shown as percentages.
    """
    if value is None:
        return "none"
    if kind == "percent" or (kind == "score" and is_fraction):
        return f"{100 * value:.2f}\u00a0%"
    if kind == "fine_percent":
        return f"{digits(100 * value)}\u00a0%"
    if kind == "margin":
        return (
            f"{100 * value:+.2f}\u00a0points"
            if is_fraction
            else f"{'+' if value >= 0 else ''}{digits(value)}"
        )
    if kind == "count":
        return f"{value:,}".replace(",", "\u202f")
    if kind == "seconds":
        return f"{value:.1f}\u00a0s"
    return digits(value) if isinstance(value, float) else str(value)


def digits(value: float) -> str:
    """Return a number with four significant digits, none of those before its point left out."""
    return f"{value:.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.4g}"


def tidy(text: str) -> str:
    """Return a text whose numbers are not parted from their percent signs."""
    return text.replace(" %", "\u00a0%")


def field_reader(certificate: Measured) -> Callable[[str, str], Markup]:
    """Return a function that shows the number at a path such as ``worst_found.members.0.score``.

    The path is relative to the certificate; list positions are numbers. The markup states path and
    exact value, so that a test, or a reader, can compare the two.
    """
    is_fraction = certificate.metric.unit == "fraction"
    plain = certificate.model_dump()

    def field(path: str, kind: str = "plain") -> Markup:
        value: Any = plain
        for part in path.split("."):
            value = value[int(part)] if isinstance(value, list | tuple) else value[part]
        text = shown(value, kind, is_fraction=is_fraction)
        return Markup('<data data-json-path="{}" value="{}">{}</data>').format(
            path, "" if value is None else repr(value), escape(text)
        )

    return field
