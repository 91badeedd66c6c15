"""Charts as inline SVG: drawn by matplotlib, coloured by the page, the same bytes for the same numbers."""

from __future__ import annotations

import html
import io
import re
import warnings
from collections.abc import Sequence
from typing import Any, Protocol

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from cimrobust.certificate.models import CertificateModel, Metric
from cimrobust.certificate.models.retrained import Epoch, Retraining

# Stand-ins that matplotlib draws with, and what the page's style sheet puts in their place, so that one picture serves light, dark and print.
INK, FAINT, GOOD, BAD, NEUTRAL = "#010203", "#040506", "#070809", "#0a0b0c", "#0d0e0f"
# Narrower spans of a percent axis are drawn over their own range, where nothing is compared with 0 or 100 %.
ZOOM_BELOW = 0.2
_PAGE_COLOURS = {INK: "currentColor", FAINT: "var(--rule)", GOOD: "var(--good)", BAD: "var(--bad)", NEUTRAL: "var(--neutral)"}
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


def bracket(certificate: CertificateModel) -> str:
    """Draw all scores that bracket the truth on one axis."""
    points = [
        (label, value, colour)
        for label, value, colour in (
            ("certified", certificate.certified.score, GOOD),
            ("worst found", certificate.worst_found.score, BAD),
            (_kpp_label(certificate), certificate.monte_carlo.kpp[0].lower_bound, NEUTRAL),
            ("average chip", certificate.monte_carlo.mean, NEUTRAL),
            ("clean", certificate.clean.score, INK),
        )
        if value is not None
    ]
    with mpl.rc_context(STYLE):
        figure, axes = new_figure(7.2, 0.42 * len(points) + 0.55)
        score_axis(axes, certificate, [value for _, value, _ in points])
        for row, (_, value, colour) in enumerate(points):
            axes.hlines(row, axes.get_xlim()[0], axes.get_xlim()[1], color=FAINT, linewidth=0.8, zorder=1)
            axes.plot([value], [row], marker="o", markersize=8, color=colour, zorder=2)
        axes.set_yticks(range(len(points)), [label for label, _, _ in points])
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.set_ylim(len(points) - 0.5, -0.5)
        return svg(figure, "bracket", f"Scores on one axis: {', '.join(f'{label} {value:.4g}' for label, value, _ in points)}.")


def histogram(certificate: CertificateModel) -> str:
    """Draw the drawn chips by score, and where the worst chip found lies."""
    drawn, worst = certificate.monte_carlo, certificate.worst_found.score
    edges, counts = drawn.histogram.edges, drawn.histogram.counts
    with mpl.rc_context(STYLE):
        figure, axes = new_figure(7.2, 2.4)
        score_axis(axes, certificate, [worst, *edges])
        # Narrow bins would vanish beside a far worst case: the outline keeps them visible.
        axes.stairs(counts, edges, fill=True, facecolor=NEUTRAL, edgecolor=NEUTRAL, linewidth=1.5)
        axes.axvline(worst, color=BAD, linewidth=2)
        left_half = worst < sum(axes.get_xlim()) / 2
        axes.annotate(
            "worst found", (worst, 0.9), xycoords=("data", "axes fraction"), xytext=(6 if left_half else -6, 0), textcoords="offset points",
            color=BAD, ha="left" if left_half else "right",
        )  # fmt: skip
        axes.set_ylabel("chips")
        axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=4))
        return svg(figure, "histogram", f"{drawn.trials} drawn chips by score; the worst chip found scores {worst:.4g}.")


def largest_tolerance(certificate: CertificateModel) -> str:
    """Draw the samples by the largest tolerance at which they are certified, and the stated tolerance."""
    found, stated = certificate.certified.largest_tolerance, certificate.certified.curve[-1].tolerance_fraction
    assert found is not None
    with mpl.rc_context(STYLE):
        figure, axes = new_figure(7.2, 2.4)
        axes.set_xscale("log", base=2)
        axes.stairs(found.histogram.counts, found.histogram.edges, fill=True, facecolor=GOOD, edgecolor=GOOD, linewidth=1.5)
        axes.axvline(stated, color=INK, linewidth=1.2)
        axes.annotate(
            "stated tolerance", (stated, 0.9), xycoords=("data", "axes fraction"), xytext=(-6, 0), textcoords="offset points", ha="right"
        )
        axes.set_xlim(found.smallest_tried, found.largest_tried)
        axes.set_ylim(0, max(1, *found.histogram.counts) * 1.1)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.3g} %"))
        axes.set_xlabel("largest certified tolerance")
        axes.set_ylabel("samples")
        axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=4))
        return svg(
            figure,
            "largest_tolerance",
            f"{found.samples} samples by the largest tolerance at which they are certified; {found.uncertified} are at none that was tried.",
        )


def members(certificate: CertificateModel) -> str:
    """Draw the score of every member of the search."""
    rows = certificate.worst_found.members
    with mpl.rc_context(STYLE):
        figure, axes = new_figure(7.2, 0.34 * len(rows) + 0.6)
        score_axis(axes, certificate, [0.0, *(row.score for row in rows)])
        best = certificate.worst_found.score
        colours = [BAD if row.score == best else NEUTRAL for row in rows]
        axes.barh(range(len(rows)), [row.score for row in rows], color=colours, height=0.62)
        axes.set_yticks(range(len(rows)), [row.name.replace("_", " ") for row in rows])
        axes.tick_params(axis="y", length=0)
        axes.invert_yaxis()
        return svg(figure, "members", "Score of the worst chip that each member of the search found.")


def effects(certificate: CertificateModel) -> str:
    """Draw the score as effects are added in turn, and the span of the drawn chips."""
    rows = [] if certificate.diagnostics is None else certificate.diagnostics.effects
    with mpl.rc_context(STYLE):
        figure, axes = new_figure(7.2, 0.34 * len(rows) + 0.6)
        values = [value for row in rows for value in (row.low, row.mean, row.high)]
        score_axis(axes, certificate, values)
        if certificate.metric.unit == "fraction" and max(values) - min(values) < ZOOM_BELOW:
            zoom(axes, min(values), max(values))
        means = [row.mean for row in rows]
        axes.hlines(range(len(rows)), [row.low for row in rows], [row.high for row in rows], color=NEUTRAL, linewidth=2)
        axes.plot(means, range(len(rows)), marker="o", markersize=7, color=INK, linewidth=0.8)
        axes.set_yticks(range(len(rows)), [("" if index == 0 else "+ ") + row.effect for index, row in enumerate(rows)])
        axes.tick_params(axis="y", length=0)
        axes.invert_yaxis()
        return svg(figure, "effects", "Score as effects are added: " + ", ".join(f"{row.effect} {row.mean:.4g}" for row in rows) + ".")


def classes(certificate: CertificateModel) -> str:
    """Draw the share of right decisions by class, clean and under the witness."""
    rows = [row for row in certificate.clean.per_class or [] if row.samples]
    with mpl.rc_context(STYLE):
        figure, axes = new_figure(7.2, 2.4)
        positions = range(len(rows))
        axes.bar([p - 0.2 for p in positions], [row.clean / row.samples for row in rows], width=0.38, color=NEUTRAL, label="clean")
        axes.bar([p + 0.2 for p in positions], [row.worst / row.samples for row in rows], width=0.38, color=BAD, label="worst chip")
        axes.set_xticks(positions, [str(row.label) for row in rows], fontsize=10 if len(rows) <= 30 else 6)
        axes.set_xlabel("class")
        axes.set_ylim(0, 1)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
        axes.legend(frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(0, 1))
        return svg(figure, "classes", "Share of right decisions by class: clean, and on the worst chip found.")


def training_curves(described: Retraining) -> str:
    """Draw clean and attacked validation scores over the epochs, of the method and of the control; takes retrain.json."""
    with mpl.rc_context(STYLE):
        figure, axes = new_figure(7.2, 3.0)
        trainings = [(described.training, "-")]
        trainings += [] if described.control is None else [(described.control, ":")]
        for training, style in trainings:
            for key, colour in (("clean", INK), ("attacked", BAD), ("proved", GOOD)):
                points = [(row.epoch, score) for row in training.epochs if (score := _validated(row, key)) is not None]
                if points:
                    axes.plot(*zip(*points, strict=True), style, color=colour, label=f"{key}, {training.method}")
        axes.axvline(described.training.best_epoch, color=FAINT, linewidth=1.5)
        axes.set_xlabel("epoch; the line marks the one that was kept")
        axes.set_ylabel(described.metric.name)
        if described.metric.unit == "fraction":
            axes.set_ylim(-0.02, 1.02)
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
        axes.legend(frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(0, 1))
        return svg(figure, "curves", "Scores on the validation split after every epoch.")


def _validated(row: Epoch, key: str) -> float | None:
    """Return one of the validation scores of an epoch."""
    return {"clean": row.clean, "attacked": row.attacked, "proved": row.proved}[key]


def _kpp_label(certificate: CertificateModel) -> str:
    kpp = certificate.monte_carlo.kpp[0]
    return f"{kpp.k:g} % KPP bound"


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
    """Scale the horizontal axis: all of 0 to 100 % for fractions, the range of the values otherwise."""
    if certificate.metric.unit == "fraction":
        axes.set_xlim(-0.01, 1.01)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
        axes.set_xticks([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    else:
        low, high = min(values), max(values)
        spread = (high - low) or abs(high) or 1.0
        axes.set_xlim(low - 0.05 * spread, high + 0.05 * spread)
        axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.set_xlabel(certificate.metric.name)


def percent_axis(axes: Axes) -> None:
    """Scale the vertical axis from 0 to 100 %."""
    axes.set_ylim(-0.01, 1.01)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))


def vertical_scores(axes: Axes, certificate: Scored, values: Sequence[float]) -> None:
    """Scale the vertical axis: all of 0 to 100 % for fractions, from 0 to the largest of some values otherwise."""
    if certificate.metric.unit == "fraction":
        percent_axis(axes)
    else:
        axes.set_ylim(0, 1.1 * max(values) or 1.0)
    axes.set_ylabel(certificate.metric.name)


def short(name: str, most: int = 32) -> str:
    """Return a name that fits beside a chart, its end kept."""
    return name if len(name) <= most else f"...{name[-most + 3 :]}"


def zoom(axes: Axes, low: float, high: float) -> None:
    """Show a part of a percent axis, one percentage point wide at least."""
    spread = max(high - low, 0.01)
    axes.set_xlim(max((low + high - 1.2 * spread) / 2, -0.01), min((low + high + 1.2 * spread) / 2, 1.01))
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.4g} %"))


def svg(figure: Figure, name: str, description: str) -> str:
    """Return a figure as an SVG element whose names are unique on the page and whose colours are the page's."""
    buffer = io.StringIO()
    with warnings.catch_warnings():
        # Text stays text, in a font of the reader's: that the one here lacks a letter of a layer's name only makes its width a guess.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(id="|xlink:href="#|url\(#)', rf"\1{name}-", text)
    text = re.sub(r"font: (\d+)px [^;\"]*", r"font-size: \1px; font-family: inherit", text)
    for drawn, shown in _PAGE_COLOURS.items():
        text = text.replace(drawn, shown)
    size = re.search(r'<svg[^>]*? width="[\d.]+pt"', text)
    if size is not None:
        text = re.sub(r' width="[\d.]+pt"', "", text, count=1)
        text = re.sub(r' height="[\d.]+pt"', "", text, count=1)
    label = f' role="img" aria-labelledby="{name}-title"'
    return text.replace("<svg", f"<svg{label}", 1).replace(">", f'>\n<title id="{name}-title">{html.escape(description)}</title>', 1)
