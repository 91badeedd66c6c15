"""The page of two certificates side by side: one HTML file, a pure function of the comparison."""

from __future__ import annotations

from typing import TYPE_CHECKING

from markupsafe import Markup

from cimrobust.report.numbers import field_reader
from cimrobust.report.render import embedded, page_of

if TYPE_CHECKING:
    from cimrobust.certificate.models.compared_certificates import Comparison


def render_comparison(comparison: Comparison) -> str:
    """Return the page: no network, no script needed; the same comparison gives the same text."""
    return page_of(
        "comparison.html.j2",
        c=comparison,
        field=field_reader(comparison),
        embedded=Markup(embedded(comparison)),
    )
