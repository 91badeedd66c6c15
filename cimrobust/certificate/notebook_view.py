"""Results as a notebook shows them: a heading, a sentence and a small table, without any script."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from cimrobust.input_file import printable

_MOST = 300


def notebook_view(
    heading: str,
    rows: Iterable[Sequence[object]],
    *,
    columns: Sequence[str] = (),
    sentence: str = "",
    place: object = None,
    chart: str = "",
) -> str:
    """Return HTML for a notebook; text from files shows as it is and makes no markup.

    Args:
        heading: What the result is, and how it ended.
        rows: Cells of the table; the first of a row is its name.
        columns: Names of the columns; empty: none are shown.
        sentence: What is to be said before the table.
        place: Folder or file of the result; None: it has none.
        chart: SVG that stands below the table as it is.
    """
    head = "".join(f"<th>{_safe(column)}</th>" for column in columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{_safe(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return "".join(
        (
            f"<div><p><strong>{_safe(heading)}</strong></p>",
            f"<p>{_safe(sentence)}</p>" if sentence else "",
            f"<table>{f'<thead><tr>{head}</tr></thead>' if head else ''}<tbody>{body}</tbody>",
            "</table>",
            chart,
            "" if place is None else f"<p><code>{_safe(place)}</code></p>",
            "</div>",
        )
    )


def score_text(value: float | None) -> str:
    """Return a score with four significant digits, or that there is none."""
    return "none" if value is None else f"{value:.4g}"


def _safe(value: object) -> str:
    text = printable(value)
    return escape(text if len(text) <= _MOST else f"{text[: _MOST - 3]}...", quote=True)
