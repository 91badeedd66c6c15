"""Charts of the diagnostics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeVar

import matplotlib as mpl

from cimrobust.certificate.wording import bounded_units, shown
from cimrobust.report import chart_parts
from cimrobust.report.chart_bars import pair_of_bars
from cimrobust.report.chart_parts import BAD, GOOD, INK, NEUTRAL, STYLE

if TYPE_CHECKING:
    from cimrobust.certificate.models import (
        CertificateModel,
        ClassAttacks,
        Diagnostics,
        LayerAttacks,
        StuckDevices,
        ToleranceCurve,
        WriteVerify,
    )

Found = TypeVar("Found")


def pictures(certificate: CertificateModel) -> dict[str, str]:
    """Return the charts of the diagnostics that ran, by name; an empty text for the others."""

    def drawn(
        draw: Callable[[CertificateModel, Found], str], read: Callable[[Diagnostics], Found | None]
    ) -> str:
        found = None if certificate.diagnostics is None else read(certificate.diagnostics)
        return "" if found is None else draw(certificate, found)

    return {
        "diagnostic_layers": drawn(layers, lambda found: found.layers),
        "diagnostic_classes": drawn(classes, lambda found: found.classes),
        "diagnostic_tolerance_curve": drawn(tolerance_curve, lambda found: found.tolerance_curve),
        "diagnostic_stuck_devices": drawn(stuck_devices, lambda found: found.stuck_devices),
        "diagnostic_write_verify": drawn(write_verify, lambda found: found.write_verify),
    }


def layers(certificate: CertificateModel, found: LayerAttacks) -> str:
    """Draw what every layer alone, and all others, make the network lose, beside all together.

    Long is bad.
    """
    rows = found.rows
    alone = [chart_parts.lost(certificate, row.alone.score) for row in rows]
    others = [
        (chart_parts.lost(certificate, row.others.score), index)
        for index, row in enumerate(rows)
        if row.others is not None
    ]
    together = chart_parts.lost(certificate, certificate.worst_found.score)
    with mpl.rc_context(STYLE):
        figure, axes = chart_parts.new_figure(chart_parts.WIDTH, 0.36 * len(rows) + 1.0)
        axes.barh(range(len(rows)), alone, color=BAD, height=0.5, label="this layer alone")
        if others:
            places = ([value for value, _ in others], [index for _, index in others])
            axes.plot(
                *places,
                "D",
                color=NEUTRAL,
                markeredgecolor=INK,
                markersize=6,
                zorder=3,
                label="all but this layer",
            )
        axes.axvline(together, color=INK, linewidth=1, linestyle=(0, (3, 3)), label="all layers")
        chart_parts.loss_axis(
            axes, certificate, [together, *alone, *(value for value, _ in others)]
        )
        axes.set_yticks(range(len(rows)), [chart_parts.short(row.initializer, 24) for row in rows])
        axes.tick_params(axis="y", length=0)
        axes.invert_yaxis()
        axes.legend(frameon=False, ncols=3, loc="lower right", bbox_to_anchor=(1, 1), fontsize=9)
        worst = (
            f"{rows[0].initializer} alone"
            f" {chart_parts.loss_text(certificate, alone[0])}, all layers"
            f" {chart_parts.loss_text(certificate, together)}"
        )
        return chart_parts.svg(
            figure, "layers", f"{chart_parts.loss_name(certificate)} by layer: {worst}."
        )


def classes(_certificate: CertificateModel, found: ClassAttacks) -> str:
    """Draw the recall of every class, clean and on the chip that is worst for it."""
    rows = sorted(found.rows, key=lambda row: row.label)
    with mpl.rc_context(STYLE):
        figure, axes = chart_parts.new_figure(chart_parts.WIDTH, 2.4)
        pair_of_bars(
            axes,
            [row.clean for row in rows],
            [row.recall for row in rows],
            "worst chip for this class",
        )
        axes.set_xticks(range(len(rows)), [str(row.label) for row in rows])
        axes.set_xlabel("class")
        chart_parts.percent_axis(axes)
        axes.legend(frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(0, 1))
        return chart_parts.svg(
            figure,
            "worst-classes",
            "Recall by class: clean, and on the chip that is worst for that class"
            f" ({', '.join(f'{row.label}: {100 * row.recall:.0f} %' for row in rows)}).",
        )


def tolerance_curve(certificate: CertificateModel, curve: ToleranceCurve) -> str:
    """Draw the worst score found over the tolerance.

    What bisection tried and the score required are drawn too.
    """
    points = sorted([*curve.points, *curve.tried], key=lambda point: point.tolerance)
    bound = certificate.certified
    # A bound over some of the samples may lie above the worst score over all of them: it is told
    # apart by name and look.
    is_whole, units = bound.curve_samples == bound.samples, bounded_units(certificate)
    proven = bound.curve if certificate.metric.higher_is_better or is_whole else []
    with mpl.rc_context(STYLE):
        figure, axes = chart_parts.new_figure(chart_parts.WIDTH, 2.8)
        axes.plot(
            [100 * point.tolerance for point in points],
            [point.score for point in points],
            "o-",
            color=BAD,
            markersize=5,
            label="worst found",
        )
        if proven:
            axes.plot(
                [100 * point.tolerance_fraction for point in proven],
                [point.score for point in proven],
                "s-" if is_whole else "s:",
                color=GOOD,
                markersize=4,
                label="certified"
                if is_whole
                else f"certified, first {bound.curve_samples} {units}",
            )
        axes.axhline(
            curve.required, color=INK, linewidth=1, linestyle=(0, (3, 3)), label="required"
        )
        axes.set_xlabel("write-verify tolerance, % of the conductance range")
        axes.set_xlim(left=0)
        chart_parts.vertical_scores(axes, certificate, [point.score for point in points])
        axes.legend(frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(0, 1), fontsize=9)
        said = ", ".join(
            f"{100 * point.tolerance:.3g} %: {shown(certificate, point.score)}" for point in points
        )
        return chart_parts.svg(
            figure, "tolerances", f"Worst score found over the write-verify tolerance: {said}."
        )


def stuck_devices(certificate: CertificateModel, found: StuckDevices) -> str:
    """Draw the worst score over the number of stuck devices, beside both controls."""
    points = found.curves[0].points
    budgets = [float(point.budget) for point in points]
    lines = {
        "worst found": (budgets, [point.score for point in points], BAD, "o-"),
        "by magnitude": (budgets, [point.magnitude for point in points], NEUTRAL, "s--"),
        "random, mean": (budgets, [point.random_mean for point in points], INK, "d:"),
    }
    return _curves(
        certificate,
        lines,
        name="stuck_devices",
        label="stuck devices",
        description=(
            "Worst score found over the number of stuck devices, beside devices chosen by magnitude"
            " and at random."
        ),
    )


def write_verify(certificate: CertificateModel, found: WriteVerify) -> str:
    """Draw the worst score over the share of devices that are verified more tightly.

    It is drawn for the best ranking and the baselines.
    """
    marks = {
        found.best: (BAD, "o-"),
        "second_derivative": (NEUTRAL, "s--"),
        "magnitude": (INK, "d:"),
        "random": (INK, "x-."),
    }
    lines = {}
    for ranking, (colour, mark) in marks.items():
        rows = [row for row in found.rows if row.ranking == ranking]
        if rows and ranking.replace("_", " ") not in lines:
            lines[ranking.replace("_", " ")] = (
                [100 * row.share for row in rows],
                [row.score for row in rows],
                colour,
                mark,
            )
    return _curves(
        certificate,
        lines,
        name="write_verify",
        label="% of devices verified more tightly",
        description=(
            "Worst score found over the share of devices that are verified more tightly, by"
            " ranking."
        ),
    )


def _curves(
    certificate: CertificateModel,
    lines: Mapping[str, tuple[list[float], list[float], str, str]],
    *,
    name: str,
    label: str,
    description: str,
) -> str:
    """Draw scores over a logarithmic axis."""
    with mpl.rc_context(STYLE):
        figure, axes = chart_parts.new_figure(chart_parts.WIDTH, 2.8)
        for text, (across, scores, colour, mark) in lines.items():
            axes.plot(across, scores, mark, color=colour, label=text, markersize=5)
        ticks = sorted({value for across, *_ in lines.values() for value in across})
        axes.set_xscale("log")
        axes.set_xticks(ticks, [f"{value:g}" for value in ticks])
        axes.minorticks_off()
        axes.set_xlabel(label)
        chart_parts.vertical_scores(
            axes, certificate, [score for _, scores, *_ in lines.values() for score in scores]
        )
        axes.legend(frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(0, 1), fontsize=9)
        text, (across, scores, *_) = next(iter(lines.items()))
        said = ", ".join(
            f"{at:g}: {shown(certificate, score)}" for at, score in zip(across, scores, strict=True)
        )
        return chart_parts.svg(figure, name, f"{description} {text.capitalize()} at {said}.")
