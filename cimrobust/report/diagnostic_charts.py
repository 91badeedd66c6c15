"""Charts of the diagnostics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import matplotlib as mpl

from cimrobust.certificate.models import CertificateModel, Diagnostics
from cimrobust.certificate.models.device_level import StuckDevices, WriteVerify
from cimrobust.certificate.models.diagnosed import ClassAttacks, LayerAttacks, ToleranceCurve
from cimrobust.report import charts
from cimrobust.report.charts import BAD, GOOD, INK, NEUTRAL, STYLE

Found = TypeVar("Found")


def pictures(certificate: CertificateModel) -> dict[str, str]:
    """Return the charts of the diagnostics that ran, by name; an empty text for the others."""

    def drawn(draw: Callable[[CertificateModel, Found], str], read: Callable[[Diagnostics], Found | None]) -> str:
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
    """Draw the worst score of every layer alone and of all others, beside that of all together."""
    rows = found.rows
    worst = certificate.worst_found.score
    with mpl.rc_context(STYLE):
        figure, axes = charts.new_figure(7.2, 0.42 * len(rows) + 1.0)
        others = [(row.others.score, index) for index, row in enumerate(rows) if row.others is not None]
        charts.score_axis(
            axes,
            certificate,
            [worst, certificate.clean.score, *(row.alone.score for row in rows), *(value for value, _ in others)],
        )
        axes.barh(range(len(rows)), [row.alone.score for row in rows], color=BAD, height=0.5, label="this layer alone")
        if others:
            axes.plot(
                [value for value, _ in others],
                [index for _, index in others],
                "D",
                color=NEUTRAL,
                markeredgecolor=INK,
                markersize=6,
                zorder=3,
                label="all but this layer",
            )
        axes.axvline(worst, color=INK, linewidth=1, linestyle=(0, (3, 3)), label="all layers")
        axes.set_yticks(range(len(rows)), [charts.short(row.initializer) for row in rows])
        axes.tick_params(axis="y", length=0)
        axes.invert_yaxis()
        axes.legend(frameon=False, ncols=3, loc="lower left", bbox_to_anchor=(0, 1))
        return charts.svg(figure, "layers", "Worst score found by layer: this layer alone, all but this layer, and all layers.")


def classes(_certificate: CertificateModel, found: ClassAttacks) -> str:
    """Draw the recall of every class, clean and on the chip that is worst for it."""
    rows = sorted(found.rows, key=lambda row: row.label)
    with mpl.rc_context(STYLE):
        figure, axes = charts.new_figure(7.2, 2.4)
        bars = (
            (-0.2, [row.clean for row in rows], NEUTRAL, "clean"),
            (0.2, [row.recall for row in rows], BAD, "worst chip for this class"),
        )
        for offset, recalls, colour, label in bars:
            places = [index + offset for index in range(len(rows))]
            axes.bar(places, recalls, width=0.38, color=colour, label=label)
        axes.set_xticks(range(len(rows)), [str(row.label) for row in rows])
        axes.set_xlabel("class")
        charts.percent_axis(axes)
        axes.legend(frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(0, 1))
        return charts.svg(figure, "worst-classes", "Recall by class: clean, and on the chip that is worst for that class.")


def tolerance_curve(certificate: CertificateModel, curve: ToleranceCurve) -> str:
    """Draw the worst score found over the tolerance, what bisection tried, and the score required."""
    points = sorted([*curve.points, *curve.tried], key=lambda point: point.tolerance)
    bound = certificate.certified
    # A bound over some of the samples may lie above the worst score over all of them: only like is drawn beside like.
    proven = bound.curve if bound.curve_samples == bound.samples else []
    with mpl.rc_context(STYLE):
        figure, axes = charts.new_figure(7.2, 2.8)
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
                [100 * point.tolerance_fraction for point in proven], [point.score for point in proven], "s-", color=GOOD, markersize=4,
                label="certified",
            )  # fmt: skip
        axes.axhline(curve.required, color=INK, linewidth=1, linestyle=(0, (3, 3)), label="required")
        axes.set_xlabel("write-verify tolerance, % of the conductance range")
        axes.set_xlim(left=0)
        charts.vertical_scores(axes, certificate, [point.score for point in points])
        axes.legend(frameon=False, ncols=3, loc="lower left", bbox_to_anchor=(0, 1))
        return charts.svg(figure, "tolerances", "Worst score found and certified score over the write-verify tolerance.")


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
        description="Worst score found over the number of stuck devices, beside devices chosen by magnitude and at random.",
    )


def write_verify(certificate: CertificateModel, found: WriteVerify) -> str:
    """Draw the worst score over the share of devices that are verified more tightly, for the best ranking and baselines."""
    marks = {found.best: (BAD, "o-"), "second_derivative": (NEUTRAL, "s--"), "magnitude": (INK, "d:"), "random": (INK, "x-.")}
    lines = {}
    for ranking, (colour, mark) in marks.items():
        rows = [row for row in found.rows if row.ranking == ranking]
        if rows and ranking.replace("_", " ") not in lines:
            lines[ranking.replace("_", " ")] = ([100 * row.share for row in rows], [row.score for row in rows], colour, mark)
    return _curves(
        certificate,
        lines,
        name="write_verify",
        label="% of devices verified more tightly",
        description="Worst score found over the share of devices that are verified more tightly, by ranking.",
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
        figure, axes = charts.new_figure(7.2, 2.8)
        for text, (across, scores, colour, mark) in lines.items():
            axes.plot(across, scores, mark, color=colour, label=text, markersize=5)
        ticks = sorted({value for across, *_ in lines.values() for value in across})
        axes.set_xscale("log")
        axes.set_xticks(ticks, [f"{value:g}" for value in ticks])
        axes.minorticks_off()
        axes.set_xlabel(label)
        charts.vertical_scores(axes, certificate, [score for _, scores, *_ in lines.values() for score in scores])
        axes.legend(frameon=False, ncols=4, loc="lower left", bbox_to_anchor=(0, 1))
        return charts.svg(figure, name, description)
