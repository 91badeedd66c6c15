"""The charts of a certificate but for those of its diagnostics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import matplotlib as mpl
from matplotlib.ticker import FuncFormatter, MaxNLocator

from cimrobust.certificate.bracket import bracket_rows, bracket_sentence
from cimrobust.certificate.wording import bounded_units, shown
from cimrobust.report.chart_bars import pair_of_bars
from cimrobust.report.chart_parts import (
    BAD,
    FAINT,
    GOOD,
    INK,
    NEUTRAL,
    PAPER,
    STYLE,
    WIDTH,
    ZOOM_BELOW,
    loss_axis,
    loss_name,
    loss_text,
    lost,
    new_figure,
    score_axis,
    svg,
    zoom,
)

if TYPE_CHECKING:
    from cimrobust.certificate.models import CertificateModel, ClassRow

#: Colour and form of the rows of the bracket, in their order.
_MARKS = ((GOOD, "s"), (BAD, "X"), (NEUTRAL, "D"), (NEUTRAL, "o"), (INK, "o"))


def bracket(certificate: CertificateModel) -> str:
    """Draw all scores that bracket the truth on one axis, with their intervals beyond the samples.

    What is not proven has no mark.
    """
    rows = bracket_rows(certificate)
    with mpl.rc_context(STYLE):
        figure, axes = new_figure(WIDTH, 0.36 * len(rows) + 0.55)
        score_axis(axes, certificate, [row.value for row in rows if row.value is not None])
        left, right = axes.get_xlim()
        for place, row in enumerate(rows):
            axes.hlines(place, left, right, color=FAINT, linewidth=0.8, zorder=1)
            if row.value is None:
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
            colour, marker = _MARKS[place]
            if row.low is not None and row.high is not None:
                high = min(row.high, 1.0)
                axes.hlines(place, row.low, high, color=colour, linewidth=2.5, zorder=2)
            axes.plot([row.value], [place], marker=marker, markersize=8, color=colour, zorder=3)
        axes.set_yticks(range(len(rows)), [row.label for row in rows])
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        return svg(figure, "bracket", bracket_sentence(certificate))


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
    units = bounded_units(certificate)
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
        axes.set_ylabel(units)
        axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=4))
        return svg(
            figure,
            "largest_tolerance",
            f"{found.samples} {units} by the largest tolerance at which they are certified;"
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
