"""What all charts are made of: colours, axes, and inline SVG, coloured by the page.

Drawn by matplotlib, the same bytes for the same numbers.
"""

from __future__ import annotations

import html
import io
import re
import warnings
from collections.abc import Sequence
from typing import Any, Protocol

from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from cimrobust.certificate.models import CertificateModel, Metric
from cimrobust.certificate.programmed import programmed_score
from cimrobust.certificate.wording import score_word
from cimrobust.report.small_svg import small

# Stand-ins that matplotlib draws with, and what the page's style sheet puts in their place, so that
# one picture serves light, dark and print.
INK, FAINT, GOOD, BAD, NEUTRAL, PAPER = (
    "#010203",
    "#040506",
    "#070809",
    "#0a0b0c",
    "#0d0e0f",
    "#f0f1f2",
)
# Inches: on a phone, text of a chart is then about as large as that around it.
WIDTH = 5.2
# Narrower spans of a percent axis are drawn over their own range, where nothing is compared with 0
# or 100 %.
ZOOM_BELOW = 0.2
_PAGE_COLOURS = {
    INK: "currentColor",
    FAINT: "var(--rule)",
    GOOD: "var(--good)",
    BAD: "var(--bad)",
    NEUTRAL: "var(--neutral)",
    PAPER: "var(--paper)",
}
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "cimrobust",
    "text.parse_math": False,
    "font.size": 10,
    "font.family": "sans-serif",
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}


class Scored(Protocol):
    """What has scores: a certificate, a sweep, a re-training."""

    @property
    def metric(self) -> Metric:
        """What a score is."""


def lost(certificate: CertificateModel, score: float) -> float:
    """Return by how much a score is worse than that without deviation."""
    clean = programmed_score(certificate)
    return clean - score if certificate.metric.higher_is_better else score - clean


def loss_name(certificate: CertificateModel) -> str:
    """Return what a loss of score is called."""
    return f"{score_word(certificate)} {'lost' if certificate.metric.higher_is_better else 'added'}"


def loss_text(certificate: CertificateModel, loss: float) -> str:
    """Return a loss as people read it."""
    return f"{100 * loss:.1f}" if certificate.metric.unit == "fraction" else f"{loss:.4g}"


def loss_axis(axes: Axes, certificate: CertificateModel, losses: Sequence[float]) -> None:
    """Scale a horizontal axis of losses, from 0: long is bad."""
    axes.set_xlim(min(0.0, *losses), 1.18 * max(1e-9, *losses))
    if certificate.metric.unit == "fraction":
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.3g}"))
        axes.set_xlabel(f"{loss_name(certificate)}, percentage points (long is bad)")
    else:
        axes.set_xlabel(f"{loss_name(certificate)} (long is bad)")
    axes.xaxis.set_major_locator(MaxNLocator(6))


def new_figure(width: float, height: float) -> tuple[Figure, Axes]:
    """Return a figure with one empty chart, sizes in inches."""
    figure = empty_figure(width, height)
    return figure, figure.add_subplot()


def empty_figure(width: float, height: float) -> Figure:
    """Return a figure without charts, sizes in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasSVG(figure)
    return figure


def score_axis(axes: Axes, certificate: Scored, values: Sequence[float]) -> None:
    """Scale the horizontal axis.

    All of 0 to 100 % for fractions, the range of the values otherwise.
    """
    if certificate.metric.unit == "fraction":
        axes.set_xlim(-0.01, 1.01)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
        axes.set_xticks([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    else:
        low, high = min(values), max(values)
        spread = (high - low) or abs(high) or 1.0
        axes.set_xlim(low - 0.05 * spread, high + 0.05 * spread)
        axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.set_xlabel(word_of(certificate))


def word_of(scored: Scored) -> str:
    """Return what a score is called on an axis."""
    return score_word(scored) if isinstance(scored, CertificateModel) else scored.metric.name


def percent_axis(axes: Axes) -> None:
    """Scale the vertical axis from 0 to 100 %."""
    axes.set_ylim(-0.01, 1.01)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))


def vertical_scores(axes: Axes, certificate: Scored, values: Sequence[float]) -> None:
    """Scale the vertical axis.

    All of 0 to 100 % for fractions, from 0 to the largest of some values otherwise.
    """
    if certificate.metric.unit == "fraction":
        percent_axis(axes)
    else:
        axes.set_ylim(0, 1.1 * max(values) or 1.0)
    axes.set_ylabel(word_of(certificate))


def short(name: str, most: int = 32) -> str:
    """Return a name that fits beside a chart, its end kept."""
    return name if len(name) <= most else f"...{name[-most + 3 :]}"


def zoom(axes: Axes, low: float, high: float) -> None:
    """Show a part of a percent axis, one percentage point wide at least."""
    spread = max(high - low, 0.01)
    axes.set_xlim(
        max((low + high - 1.2 * spread) / 2, -0.01), min((low + high + 1.2 * spread) / 2, 1.01)
    )
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.4g} %"))


def zoom_up(axes: Axes, low: float, high: float) -> None:
    """Show a part of a vertical percent axis, one percentage point high at least."""
    spread = max(high - low, 0.01)
    axes.set_ylim(
        max((low + high - 1.3 * spread) / 2, -0.01), min((low + high + 1.3 * spread) / 2, 1.01)
    )
    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.4g} %"))


def svg(figure: Figure, name: str, description: str) -> str:
    """Return a figure as an SVG element with names unique on the page and the page's colours."""
    buffer = io.StringIO()
    with warnings.catch_warnings():
        # Text stays text, in a font of the reader's: that the one here lacks a letter of a layer's
        # name only makes its width a guess.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(
            buffer,
            format="svg",
            metadata={"Date": None, "Creator": None, "Format": None, "Type": None},
        )
    text = buffer.getvalue()
    text = small(text[text.index("<svg") :])
    text = re.sub(r'(id="|xlink:href="#|url\(#)', rf"\1{name}-", text)
    for drawn, on_page in _PAGE_COLOURS.items():
        text = text.replace(drawn, on_page)
    label = f' role="img" aria-labelledby="{name}-title"'
    return text.replace("<svg", f"<svg{label}", 1).replace(
        ">", f'>\n<title id="{name}-title">{html.escape(description)}</title>', 1
    )
