"""The report of a sweep: one HTML file, a pure function of sweep.json."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from markupsafe import Markup

from cimrobust.certificate.drawable_scores import drawable
from cimrobust.report import chart_parts
from cimrobust.report.chart_parts import BAD, GOOD, INK, NEUTRAL, STYLE
from cimrobust.report.numbers import field_reader
from cimrobust.report.page_identity import Identity, digest_of
from cimrobust.report.render import embedded, page_of

if TYPE_CHECKING:
    from cimrobust.certificate.models.swept import SweepModel, SweptPoint


def render_sweep(sweep: SweepModel) -> str:
    """Return sweep.html: no network, no script needed; the same sweep gives the same text."""
    pictures = {"curve": curve(sweep), "safe": safe(sweep) if sweep.safe is not None else ""}
    return page_of(
        "sweep.html.j2",
        c=sweep,
        tool=sweep.tool,
        identity=Identity(
            kind="tolerance sweep",
            subject=sweep.model.name,
            sha256=digest_of(sweep),
            file="sweep.json",
        ),
        charts={name: Markup(text) for name, text in pictures.items()},
        field=field_reader(sweep),
        embedded=Markup(embedded(sweep)),
    )


def curve(sweep: SweepModel) -> str:
    """Draw worst found, certified, percentile bound and mean over the tolerance."""
    sweep = drawable(sweep)
    points = sweep.points
    with mpl.rc_context(STYLE):
        figure, axes = chart_parts.new_figure(chart_parts.WIDTH, 3.6)
        shown = [sweep.clean.score, *_draw_lines(axes, points)]
        axes.axhline(
            sweep.clean.score, color=INK, linewidth=0.8, linestyle=(0, (1, 3)), label="clean"
        )
        if sweep.safe is not None:
            axes.axhline(
                sweep.safe.required, color=INK, linewidth=1, linestyle=(0, (4, 3)), label="required"
            )
        _tolerance_axis(axes, points)
        chart_parts.vertical_scores(axes, sweep, shown)
        if sweep.metric.unit == "fraction" and max(shown) - min(shown) < chart_parts.ZOOM_BELOW:
            chart_parts.zoom_up(axes, min(shown), max(shown))
        axes.legend(
            frameon=False,
            ncols=3,
            loc="lower left",
            bbox_to_anchor=(-0.02, 1),
            fontsize=9,
            handlelength=1.6,
            columnspacing=1.2,
        )
        text = ", ".join(
            f"{100 * point.tolerance:.4g} %: {_score(sweep, point.worst_found.score)}"
            for point in points
        )
        return chart_parts.svg(
            figure, "curve", f"Scores over the write-verify tolerance. Worst found at {text}."
        )


def safe(sweep: SweepModel) -> str:
    """Draw the three largest safe tolerances on one axis."""
    assert sweep.safe is not None
    colours = {"certified": GOOD, "statistical": NEUTRAL, "unrefuted": INK}
    claims = sweep.safe.claims()
    rows = [(name, claims[name].tolerance or 0.0, colour) for name, colour in colours.items()]
    largest = sweep.points[-1].tolerance
    with mpl.rc_context(STYLE):
        figure, axes = chart_parts.new_figure(chart_parts.WIDTH, 1.5)
        axes.barh(
            range(len(rows)),
            [100 * value for _, value, _ in rows],
            color=[colour for _, _, colour in rows],
            height=0.55,
        )
        for place, (_, value, _) in enumerate(rows):
            axes.annotate(
                f" {100 * value:.4g} %" if value else " none",
                (100 * value, place),
                va="center",
                fontsize=9,
            )
        axes.set_yticks(range(len(rows)), [name for name, _, _ in rows])
        axes.tick_params(axis="y", length=0)
        axes.set_xlim(0, 100 * largest * 1.15)
        axes.invert_yaxis()
        axes.set_xlabel("write-verify tolerance, % of the conductance range")
        text = ", ".join(f"{name} {100 * value:.4g} %" for name, value, _ in rows)
        return chart_parts.svg(figure, "safe", f"Largest safe tolerances: {text}.")


def _draw_lines(axes: Any, points: Sequence[SweptPoint]) -> list[float]:
    """Draw a line for each kind of score where there are some, and return all of them."""
    lines: list[tuple[str, str, str, list[float | None]]] = [
        ("average chip", NEUTRAL, "o-", [point.monte_carlo.mean for point in points]),
        (
            "1 % KPP bound",
            NEUTRAL,
            "^--",
            [point.monte_carlo.kpp[0].lower_bound for point in points],
        ),
        ("worst found", BAD, "X-", [point.worst_found.score for point in points]),
        ("certified", GOOD, "s-", [point.certified.score for point in points]),
    ]
    shown: list[float] = []
    for label, colour, style, values in lines:
        pairs = [
            (100 * point.tolerance, value)
            for point, value in zip(points, values, strict=True)
            if value is not None
        ]
        if pairs:
            axes.plot(
                [x for x, _ in pairs],
                [y for _, y in pairs],
                style,
                color=colour,
                markersize=5,
                linewidth=1.5,
                label=label,
            )
            shown += [y for _, y in pairs]
    return shown


def _score(sweep: SweepModel, value: float) -> str:
    return f"{100 * value:.2f} %" if sweep.metric.unit == "fraction" else f"{value:.4g}"


def _tolerance_axis(axes: Any, points: Sequence[SweptPoint]) -> None:
    """Scale the horizontal axis: by powers where the tolerances span more than a decade."""
    smallest, largest = 100 * points[0].tolerance, 100 * points[-1].tolerance
    if smallest * 10 < largest:
        axes.set_xscale("log")
        ticks = [100 * point.tolerance for point in points]
        axes.set_xticks(ticks, [f"{tick:.3g}" for tick in ticks])
        axes.minorticks_off()
    else:
        axes.set_xlim(0, largest * 1.03)
    axes.set_xlabel("write-verify tolerance, % of the conductance range")
