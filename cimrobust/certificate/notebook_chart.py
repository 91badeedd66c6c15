"""The main chart of a certificate as a small SVG for notebooks, legible on light and dark pages.

A notebook has no style sheet of ours, and importing a library for charts takes longer than all that
a notebook shows. So the picture is written down here, in the colour of the text around it and in
tones that stand out from white and from black.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import TYPE_CHECKING

from cimrobust.certificate.bracket import BracketRow, bracket_rows, bracket_sentence
from cimrobust.certificate.drawable_scores import drawable
from cimrobust.certificate.wording import score_word

if TYPE_CHECKING:
    from cimrobust.certificate.models import CertificateModel

# Contrast of at least 3 to white and to #111.
_COLOURS = {"proof": "#2e8b57", "worst": "#d6453d", "drawn": "#5b82b5", "clean": "currentColor"}
# Units of the picture, about pixels.
_WIDTH, _LEFT, _RIGHT, _ROW, _RADIUS = 520, 140, 500, 22, 5
_FONT = 'font-family="sans-serif" font-size="12" fill="currentColor"'


def bracket_svg(certificate: CertificateModel) -> str:
    """Return the scores that bracket the truth on one axis, the same text for the same numbers."""
    certificate = drawable(certificate)
    rows = bracket_rows(certificate)
    low, high, ticks = _axis(certificate, rows)
    scale = (_RIGHT - _LEFT) / (high - low)
    bottom = _ROW * len(rows) + 4
    parts = [
        *_grid(certificate, [(tick, _LEFT + scale * (tick - low)) for tick in ticks], bottom),
        *(
            part
            for place, row in enumerate(rows)
            for part in _row(row, _ROW * place + _ROW // 2, low, scale)
        ),
        _text((_LEFT + _RIGHT) / 2, bottom + 32, score_word(certificate), "middle"),
    ]
    label = escape(bracket_sentence(certificate), quote=True)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {bottom + 38}"'
        f' width="{_WIDTH}" style="max-width:100%" role="img" aria-label="{label}">'
        f"{''.join(parts)}</svg>"
    )


def _axis(
    certificate: CertificateModel, rows: Sequence[BracketRow]
) -> tuple[float, float, tuple[float, ...]]:
    """Return both ends of the axis and its ticks: 0 to 100 % for fractions, else what there is."""
    if certificate.metric.unit == "fraction":
        return 0.0, 1.0, (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    values = [
        value for row in rows for value in (row.value, row.low, row.high) if value is not None
    ]
    low, high = min(values), max(values)
    spread = (high - low) or abs(high) or 1.0
    return low - 0.05 * spread, high + 0.05 * spread, (low, high)


def _grid(
    certificate: CertificateModel, ticks: Sequence[tuple[float, float]], bottom: int
) -> Iterator[str]:
    is_fraction = certificate.metric.unit == "fraction"
    for value, place in ticks:
        yield _line(place, 0, place, bottom, "currentColor", 'stroke-opacity="0.2"')
        shown = f"{100 * value:.0f} %" if is_fraction else f"{value:.4g}"
        yield _text(place, bottom + 15, shown, "middle")


def _row(row: BracketRow, height: int, low: float, scale: float) -> Iterator[str]:
    """Draw the name of a score, its interval, and a mark of a form that its kind alone has."""
    colour = _COLOURS[row.kind]
    yield _text(_LEFT - 12, height + 4, row.label, "end")
    if row.value is None:
        yield _text((_LEFT + _RIGHT) / 2, height + 4, "not proven", "middle")
        return
    place = _LEFT + scale * (row.value - low)
    if row.low is not None and row.high is not None:
        ends = [_LEFT + scale * (end - low) for end in (row.low, row.high)]
        yield _line(ends[0], height, min(ends[1], _RIGHT), height, colour, 'stroke-width="2.5"')
    if row.kind == "worst":
        for sign in (-1, 1):
            yield _line(
                place - _RADIUS,
                height - sign * _RADIUS,
                place + _RADIUS,
                height + sign * _RADIUS,
                colour,
                'stroke-width="3.5"',
            )
    elif row.kind == "proof":
        corner, side = (place - _RADIUS, height - _RADIUS), 2 * _RADIUS
        yield (
            f'<rect x="{corner[0]:.1f}" y="{corner[1]}" width="{side}" height="{side}"'
            f' fill="{colour}"/>'
        )
    else:
        yield f'<circle cx="{place:.1f}" cy="{height}" r="{_RADIUS}" fill="{colour}"/>'


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, style: str) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" {style}/>'
    )


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {_FONT}>{escape(text)}</text>'
