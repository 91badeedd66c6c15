"""Charts as inline SVG.

Drawn by matplotlib, coloured by the page, the same bytes for the same numbers.
"""

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

from cimrobust.certificate.models import CertificateModel, ClassRow, Metric
from cimrobust.certificate.models.retrained import Epoch, Retraining
from cimrobust.certificate.programmed import programmed_interval, programmed_score
from cimrobust.certificate.wording import is_proof, score_word, shown

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
# Shares of which a bar cannot be seen.
_NO_INK = 0.02
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


def bracket(certificate: CertificateModel) -> str:
    """Draw all scores that bracket the truth on one axis, with their intervals beyond the samples.

    What is not proven has no mark.
    """
    proven = certificate.certified.score if is_proof(certificate) else None
    rows = (
        ("certified", "proven for every chip", proven, GOOD, "s"),
        ("worst_found", "worst chip found", certificate.worst_found.score, BAD, "X"),
        ("kpp", _kpp_label(certificate), certificate.monte_carlo.kpp[0].lower_bound, NEUTRAL, "D"),
        ("mean", "average chip", certificate.monte_carlo.mean, NEUTRAL, "o"),
        (
            programmed_interval(certificate),
            "without deviation",
            programmed_score(certificate),
            INK,
            "o",
        ),
    )
    spans = {row.name: (row.low, row.high) for row in certificate.evaluation_set.intervals}
    two = certificate.monte_carlo.kpp[0].two_source
    if two is not None and certificate.monte_carlo.kpp[0].lower_bound is not None:
        spans["kpp"] = (two.bound, certificate.monte_carlo.kpp[0].lower_bound)
    with mpl.rc_context(STYLE):
        figure, axes = new_figure(WIDTH, 0.36 * len(rows) + 0.55)
        score_axis(axes, certificate, [value for _, _, value, _, _ in rows if value is not None])
        left, right = axes.get_xlim()
        for place, (key, _, value, colour, marker) in enumerate(rows):
            axes.hlines(place, left, right, color=FAINT, linewidth=0.8, zorder=1)
            if value is None:
                axes.text(
                    (left + right) / 2,
                    place,
                    "not proven",
                    ha="center",
                    va="center",
                    fontstyle="italic",
                    backgroundcolor=PAPER,
                )
                continue
            if key in spans:
                axes.hlines(
                    place,
                    spans[key][0],
                    min(spans[key][1], 1.0),
                    color=colour,
                    linewidth=2.5,
                    zorder=2,
                )
            axes.plot([value], [place], marker=marker, markersize=8, color=colour, zorder=3)
        axes.set_yticks(range(len(rows)), [label for _, label, *_ in rows])
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        said = ", ".join(
            f"{label} {'not proven' if value is None else shown(certificate, value)}"
            for _, label, value, _, _ in rows
        )
        return svg(figure, "bracket", f"Scores on one axis: {said}.")


def histogram(certificate: CertificateModel) -> str:
    """Draw the drawn chips by score, and where the worst chip found lies."""
    drawn, worst = certificate.monte_carlo, certificate.worst_found.score
    edges, counts = drawn.histogram.edges, drawn.histogram.counts
    with mpl.rc_context(STYLE):
        figure, axes = new_figure(WIDTH, 2.4)
        score_axis(axes, certificate, [worst, *edges])
        # Narrow bins would vanish beside a far worst case: the outline keeps them visible.
        axes.stairs(counts, edges, fill=True, facecolor=NEUTRAL, edgecolor=NEUTRAL, linewidth=1.5)
        axes.axvline(worst, color=BAD, linewidth=2)
        left_half = worst < sum(axes.get_xlim()) / 2
        axes.annotate(
            "worst found",
            (worst, 0.9),
            xycoords=("data", "axes fraction"),
            xytext=(6 if left_half else -6, 0),
            textcoords="offset points",
            color=BAD,
            ha="left" if left_half else "right",
        )
        axes.set_ylabel("chips")
        axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=4))
        return svg(
            figure,
            "histogram",
            f"{drawn.trials} drawn chips by score; the worst chip found scores"
            f" {shown(certificate, worst)}.",
        )


def largest_tolerance(certificate: CertificateModel) -> str:
    """Draw the samples by their largest certified tolerance, and the stated tolerance."""
    found, stated = (
        certificate.certified.largest_tolerance,
        certificate.certified.curve[-1].tolerance_fraction,
    )
    assert found is not None
    with mpl.rc_context(STYLE):
        figure, axes = new_figure(WIDTH, 2.4)
        axes.set_xscale("log", base=2)
        axes.stairs(
            found.histogram.counts,
            found.histogram.edges,
            fill=True,
            facecolor=GOOD,
            edgecolor=GOOD,
            linewidth=1.5,
        )
        axes.axvline(stated, color=INK, linewidth=1.2)
        axes.annotate(
            "stated tolerance",
            (stated, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(0, 3),
            textcoords="offset points",
            ha="center",
        )
        axes.set_xlim(found.smallest_tried, found.largest_tried)
        axes.set_ylim(0, max(1, *found.histogram.counts) * 1.1)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.2g} %"))
        axes.set_xlabel("largest certified tolerance")
        axes.set_ylabel("samples")
        axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=4))
        return svg(
            figure,
            "largest_tolerance",
            f"{found.samples} samples by the largest tolerance at which they are certified;"
            f" {found.uncertified} are at none that was tried.",
        )


def members(certificate: CertificateModel) -> str:
    """Draw what every member of the search made the network lose.

    The one that is reported is hatched.
    """
    rows, reported = certificate.worst_found.members, certificate.worst_found.member
    losses = [lost(certificate, row.score) for row in rows]
    with mpl.rc_context({**STYLE, "hatch.linewidth": 1.2}):
        figure, axes = new_figure(WIDTH, 0.27 * len(rows) + 0.6)
        bars = axes.barh(range(len(rows)), losses, color=NEUTRAL, height=0.66)
        for bar, row, loss in zip(bars, rows, losses, strict=True):
            if row.name == reported:
                bar.set(facecolor=BAD, hatch="//", edgecolor=PAPER)
            axes.annotate(
                f" {loss_text(certificate, loss)}",
                (max(loss, 0), bar.get_y() + bar.get_height() / 2),
                va="center",
                fontsize=9,
            )
        loss_axis(axes, certificate, losses)
        axes.set_yticks(range(len(rows)), [row.name.replace("_", " ") for row in rows])
        axes.tick_params(axis="y", length=0)
        axes.invert_yaxis()
        best = (
            f"{reported.replace('_', ' ')}"
            f" {loss_text(certificate, lost(certificate, certificate.worst_found.score))}"
        )
        return svg(
            figure,
            "members",
            f"{loss_name(certificate)} on the worst chip of each member of the search; reported:"
            f" {best}.",
        )


def effects(certificate: CertificateModel) -> str:
    """Draw the score as effects are added in turn, and the span of the drawn chips."""
    rows = [] if certificate.diagnostics is None else certificate.diagnostics.effects
    with mpl.rc_context(STYLE):
        figure, axes = new_figure(WIDTH, 0.34 * len(rows) + 0.6)
        values = [value for row in rows for value in (row.low, row.mean, row.high)]
        score_axis(axes, certificate, values)
        if certificate.metric.unit == "fraction" and max(values) - min(values) < ZOOM_BELOW:
            zoom(axes, min(values), max(values))
        means = [row.mean for row in rows]
        axes.hlines(
            range(len(rows)),
            [row.low for row in rows],
            [row.high for row in rows],
            color=NEUTRAL,
            linewidth=2,
        )
        axes.plot(means, range(len(rows)), marker="o", markersize=7, color=INK, linewidth=0.8)
        axes.set_yticks(
            range(len(rows)),
            [("" if index == 0 else "+ ") + row.effect for index, row in enumerate(rows)],
        )
        axes.tick_params(axis="y", length=0)
        axes.invert_yaxis()
        return svg(
            figure,
            "effects",
            "Score as effects are added: "
            + ", ".join(f"{row.effect} {shown(certificate, row.mean)}" for row in rows)
            + ".",
        )


def classes(certificate: CertificateModel) -> str:
    """Draw the share of right decisions by class, clean and under the witness."""
    rows = [row for row in certificate.clean.per_class or [] if row.samples]
    with mpl.rc_context(STYLE):
        figure, axes = new_figure(WIDTH, 2.4)
        positions = range(len(rows))
        pair_of_bars(
            axes,
            [row.clean / row.samples for row in rows],
            [row.worst / row.samples for row in rows],
            "worst chip",
        )
        axes.set_xticks(
            positions, [str(row.label) for row in rows], fontsize=10 if len(rows) <= 30 else 6
        )
        axes.set_xlabel("class")
        axes.set_ylim(0, 1)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
        axes.legend(frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(0, 1))
        return svg(
            figure,
            "classes",
            "Share of right decisions by class: clean, and on the worst chip found"
            f" ({_spread(rows)}).",
        )


def _spread(rows: Sequence[ClassRow]) -> str:
    """Return the least and the largest share on the worst chip, in words."""
    shares = [row.worst / row.samples for row in rows] or [0.0]
    return f"{100 * min(shares):.0f} to {100 * max(shares):.0f} %"


def pair_of_bars(axes: Axes, clean: Sequence[float], worst: Sequence[float], label: str) -> None:
    """Draw shares by class, clean and on a worst chip.

    A bar of nothing has its value written on it.
    """
    axes.bar(
        [place - 0.2 for place in range(len(clean))],
        clean,
        width=0.38,
        color=NEUTRAL,
        label="clean",
    )
    axes.bar(
        [place + 0.2 for place in range(len(worst))],
        worst,
        width=0.38,
        color=BAD,
        hatch="///",
        edgecolor=PAPER,
        linewidth=0,
        label=label,
    )
    for place, share in enumerate(worst):
        if share < _NO_INK:
            axes.annotate(
                f"{100 * share:.0f}",
                (place + 0.2, share),
                ha="center",
                va="bottom",
                color=BAD,
                fontsize=8,
            )


def training_curves(described: Retraining) -> str:
    """Draw clean and attacked validation scores over the epochs, of the method and of the control.

    Takes retrain.json.
    """
    with mpl.rc_context(STYLE):
        figure, axes = new_figure(WIDTH, 3.0)
        trainings = [(described.training, "-")]
        trainings += [] if described.control is None else [(described.control, ":")]
        for training, style in trainings:
            for key, colour in (("clean", INK), ("attacked", BAD), ("proved", GOOD)):
                points = [
                    (row.epoch, score)
                    for row in training.epochs
                    if (score := _validated(row, key)) is not None
                ]
                if points:
                    axes.plot(
                        *zip(*points, strict=True),
                        style,
                        color=colour,
                        label=f"{key}, {training.method}",
                    )
        axes.axvline(described.training.best_epoch, color=INK, linewidth=1, linestyle=(0, (4, 3)))
        axes.set_xlabel("epoch; the dashed line marks the one that was kept")
        axes.set_ylabel(described.metric.name)
        if described.metric.unit == "fraction":
            axes.set_ylim(-0.02, 1.02)
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
        axes.legend(frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(0, 1), fontsize=9)
        return svg(
            figure,
            "curves",
            "Scores on the validation split after every epoch; epoch"
            f" {described.training.best_epoch} was kept.",
        )


def _validated(row: Epoch, key: str) -> float | None:
    """Return one of the validation scores of an epoch."""
    return {"clean": row.clean, "attacked": row.attacked, "proved": row.proved}[key]


def _kpp_label(certificate: CertificateModel) -> str:
    kpp = certificate.monte_carlo.kpp[0]
    return f"{kpp.k:g} % KPP bound"


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


def small(text: str) -> str:
    """Return an SVG of matplotlib without what no browser needs: it becomes half as long.

    Left out are metadata, comments, a style for all elements, sizes in points, names that nothing
    refers to, digits beyond a tenth of a point, lines without a stroke, and rotations by
    nothing, and clipping: nothing is drawn outside of its axes. Groups that have no attribute left
    are left out as well.
    """
    text = re.sub(
        r"<metadata>.*?</metadata>|<!--.*?-->|<defs>\s*<style.*?</style>\s*</defs>|<clipPath.*?</clipPath>|"
        r" clip-path=\"[^\"]*\"",
        "",
        text,
        flags=re.DOTALL,
    )
    text = re.sub(r'(<svg[^>]*?) width="[\d.]+pt"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[\d.]+pt"', r"\1", text, count=1)
    used = set(re.findall(r'(?:xlink:href="#|url\(#)([^")]+)', text))
    text = re.sub(
        r' id="([^"]*)"', lambda found: found.group(0) if found.group(1) in used else "", text
    )
    for number, name in enumerate(sorted(used)):
        text = re.sub(rf'((?:id="|#)){re.escape(name)}(?=["\)])', rf"\g<1>{number}", text)
    text = re.sub(r"<[^>]*>", lambda tag: _rounded(tag.group(0)), text)
    text = re.sub(r"font: (\d+(?:\.\d+)?)px [^;\"]*", r"font-size: \1px", text)
    text = re.sub(r' transform="rotate\(-?0[ )][^"]*"', "", text)
    text = re.sub(
        r"; (stroke-linejoin: miter|stroke-linecap: butt|stroke-miterlimit: \d+)(?=[;\"])", "", text
    )
    text = re.sub(
        r"(?<=[a-z]): (?=[^\"<>]*\")|(?<=;) (?=[a-z-]+:)",
        lambda found: ":" if found.group(0)[0] == ":" else "",
        text,
    )
    text = re.sub(r">\s+<", "><", text)
    text = re.sub(r'<path d="[^"]*" style="fill:none"/>', "", text)
    text = re.sub(r" ?\n(?=[LQCMz\"])|(?<=[MLQC]) (?=[-\d])", "", text)
    return _ungrouped(text)


def _rounded(tag: str) -> str:
    """Return a tag with its coordinates rounded.

    What stands between tags is for people to read, and stays.
    """
    return re.sub(
        r"(?<!scale\()-?\b\d+\.\d{2,}",
        lambda found: f"{float(found.group(0)):.1f}".removesuffix(".0"),
        tag,
    )


def _ungrouped(text: str) -> str:
    """Return an SVG without groups that have no attribute."""
    kept: list[str] = []
    opened: list[bool] = []
    for part in re.split(r"(<g>|<g [^>]*>|</g>)", text):
        if part.startswith("<g"):
            opened.append(part != "<g>")
            kept.append(part if opened[-1] else "")
        elif part == "</g>":
            kept.append(part if opened.pop() else "")
        else:
            kept.append(part)
    return "".join(kept)
