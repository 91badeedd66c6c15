"""Charts of a re-training that set networks side by side; all take retrain.json."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from cimrobust.report import chart_parts
from cimrobust.report.chart_parts import FAINT, GOOD, INK, NEUTRAL, STYLE

if TYPE_CHECKING:
    from cimrobust.certificate.models.compared import (
        LayerRow,
        LayerScores,
        ToleranceComparison,
        ToleranceScores,
    )
    from cimrobust.certificate.models.retrained import Retraining

#: Layers charted at most, the most fragile first; the table has all.
MOST_LAYERS = 40
#: Ratio of the largest to the smallest bound above which they are drawn over a logarithmic axis.
_WIDE = 30.0
# Inches of a figure of two panels, whose titles need room.
_TWO_PANELS = 6.6


@dataclass(frozen=True)
class Look:
    """How one network is drawn: told apart by colour, and without colours by its marker.

    Attributes:
        role: Its key in retrain.json.
        colour: Stand-in of a page colour.
        marker: Marker of matplotlib.
        offset: Place within the row of a layer, so that equal scores do not hide each other.
    """

    role: str
    colour: str
    marker: str
    offset: float


_LOOKS = (
    Look("before", INK, "o", -0.22),
    Look("control", NEUTRAL, "D", 0.0),
    Look("after", GOOD, "s", 0.22),
)


def pictures(described: Retraining) -> dict[str, str]:
    """Return the charts by name; an empty text for what was not measured."""
    return {
        "tolerances": "" if described.tolerances is None else tolerances(described),
        "layers": "" if described.layers is None else layers(described),
    }


def certified_apart(described: Retraining) -> bool:
    """Whether certified curves are drawn apart from worst scores.

    Over fewer samples they may lie above these, and bounds of errors far from them.
    """
    return described.metric.unit != "fraction" or any(
        summary.certified_samples not in (0, described.splits.evaluation)
        for summary in (described.tolerances.networks().values() if described.tolerances else ())
    )


def tolerances(described: Retraining) -> str:
    """Draw worst scores found and certified scores of all networks over the tolerance.

    The stated tolerance is drawn too.
    """
    found = described.tolerances
    assert found is not None
    worst = _curves(found, lambda scores: scores.worst_found)
    proven = _curves(found, lambda scores: scores.certified)
    apart = bool(proven) and certified_apart(described)
    with mpl.rc_context(STYLE):
        figure, left, right = _panels(split=apart)
        _draw(left, worst, "-", note=", worst found" if proven and not apart else "")
        _draw(right, proven, ":", note="" if apart else ", certified")
        left.set_xlim(left=0)
        left.set_xlabel("write-verify tolerance, % of the conductance range")
        chart_parts.vertical_scores(
            left, described, _scores(worst) + ([] if apart else _scores(proven))
        )
        if apart:
            _finish_apart(left, right, described, _scores(proven))
        for axes in dict.fromkeys((left, right)):
            axes.axvline(
                100 * found.stated,
                color=INK,
                linewidth=0.8,
                linestyle=(0, (4, 3)),
                label="stated tolerance",
            )
        figure.legend(
            *_legend([left, right]), frameon=False, ncols=4, loc="outside upper left", fontsize=9
        )
        texts = [
            f"{look.role} {dict(points)[100 * found.stated]:.4g}" for look, points in worst.items()
        ]
        return chart_parts.svg(
            figure,
            "tolerances",
            "Scores over the write-verify tolerance. Worst found at the stated one:"
            f" {', '.join(texts)}.",
        )


def layers(described: Retraining) -> str:
    """Draw the worst scores found of all networks, layer by layer.

    For each layer they are the score when it alone deviates, and when all others do.
    """
    rows = [] if described.layers is None else described.layers.rows[:MOST_LAYERS]
    marks = {
        "alone": _marks(rows, lambda scores: scores.alone),
        "others": _marks(rows, lambda scores: scores.others),
    }
    values = [value for drawn in marks.values() for value, *_ in drawn]
    with mpl.rc_context(STYLE):
        figure = chart_parts.empty_figure(_TWO_PANELS, 0.5 * len(rows) + 1.2)
        panels: Sequence[Axes] = figure.subplots(1, 2, sharey=True)
        for axes, drawn, title in zip(
            panels,
            marks.values(),
            ("this layer alone deviates", "all but this layer deviate"),
            strict=True,
        ):
            axes.set_title(title, fontsize=10, loc="left")
            _half_width_scores(axes, described, values)
            axes.hlines(range(len(rows)), *axes.get_xlim(), color=FAINT, linewidth=0.8, zorder=1)
            for look in _LOOKS:
                own = [(value, at) for value, at, of in drawn if of is look]
                if own:
                    axes.plot(
                        *zip(*own, strict=True),
                        look.marker,
                        color=look.colour,
                        markersize=6,
                        zorder=2,
                        label=look.role,
                    )
            axes.tick_params(axis="y", length=0)
        panels[0].set_yticks(
            range(len(rows)), [chart_parts.short(row.initializer, 24) for row in rows]
        )
        panels[0].set_ylim(len(rows) - 0.5, -0.5)
        figure.legend(*_legend(panels), frameon=False, ncols=3, loc="outside upper left")
        return chart_parts.svg(
            figure,
            "side-by-side-layers",
            "Worst score found by layer, this layer alone and all but this layer: before, control"
            " and after.",
        )


def _marks(
    rows: Sequence[LayerRow], read: Callable[[LayerScores], float | None]
) -> list[tuple[float, float, Look]]:
    """Return score, place and look of every mark of one panel.

    Nothing for a network that was not attacked there.
    """
    return [
        (score, index + look.offset, look)
        for index, row in enumerate(rows)
        for look in _LOOKS
        if (scores := row.by_role()[look.role]) is not None and (score := read(scores)) is not None
    ]


def _half_width_scores(axes: Axes, described: Retraining, values: Sequence[float]) -> None:
    """Scale the horizontal axis of a half-width panel, with fewer ticks than a whole one has."""
    chart_parts.score_axis(axes, described, values)
    if described.metric.unit != "fraction" or max(values) - min(values) >= chart_parts.ZOOM_BELOW:
        axes.xaxis.set_major_locator(MaxNLocator(4))
        return
    chart_parts.zoom(axes, min(values), max(values))
    axes.xaxis.set_major_locator(MaxNLocator(3))


def _curves(
    found: ToleranceComparison, read: Callable[[ToleranceScores], float | None]
) -> dict[Look, list[tuple[float, float]]]:
    """Return tolerance in percent and score of every network that has one at any tolerance."""
    curves = {}
    for look in _LOOKS:
        points = [
            (100 * row.tolerance, score)
            for row in found.rows
            if (scores := row.by_role()[look.role]) is not None
            and (score := read(scores)) is not None
        ]
        if points:
            curves[look] = points
    return curves


def _scores(curves: Mapping[Look, Sequence[tuple[float, float]]]) -> list[float]:
    return [score for points in curves.values() for _, score in points]


def _panels(*, split: bool) -> tuple[Figure, Axes, Axes]:
    """Return a figure and where worst and certified scores go, which may be the same place."""
    if not split:
        figure, axes = chart_parts.new_figure(chart_parts.WIDTH, 3.6)
        return figure, axes, axes
    figure = chart_parts.empty_figure(_TWO_PANELS, 3.4)
    worst, proven = figure.subplots(1, 2, width_ratios=(3, 2))
    return figure, worst, proven


def _draw(
    axes: Axes, curves: Mapping[Look, Sequence[tuple[float, float]]], style: str, *, note: str
) -> None:
    """Draw scores over the tolerance, those of bounds with hollow markers.

    Markers are whole also at the edge.
    """
    for look, points in curves.items():
        inside = look.colour if style == "-" else "none"
        axes.plot(
            *zip(*points, strict=True),
            look.marker + style,
            color=look.colour,
            markerfacecolor=inside,
            markersize=5,
            linewidth=1.5,
            label=f"{look.role}{note}",
            clip_on=False,
        )


def _finish_apart(
    worst: Axes, proven: Axes, described: Retraining, bounds: Sequence[float]
) -> None:
    """Scale the panel of certified scores, and say what is in which panel.

    The boxes of the certified scores halve from point to point.
    """
    found = described.tolerances
    assert found is not None
    count = max(summary.certified_samples for summary in found.networks().values())
    units = "decisions" if described.metric.unit == "fraction" else "samples"
    worst.set_title(f"worst found, {described.splits.evaluation} samples", fontsize=9, loc="left")
    proven.set_title(f"certified, first {count} {units}", fontsize=9, loc="left")
    chart_parts.vertical_scores(proven, described, bounds)
    # Bounds of errors grow by orders of magnitude with the box.
    if described.metric.unit != "fraction" and 0 < _WIDE * min(bounds) < max(bounds):
        proven.set_yscale("log")
        proven.set_ylim(min(bounds) / 2, 2 * max(bounds))
        proven.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    proven.set_ylabel("")
    proven.set_xscale("log", base=2)
    ticks = [100 * found.stated / 4**power for power in (4, 3, 2, 1, 0)]
    proven.set_xticks(ticks, [f"{tick:.2g}" for tick in ticks])
    proven.minorticks_off()
    proven.set_xlabel("tolerance, %")


def _legend(panels: Sequence[Axes]) -> tuple[list[Any], list[str]]:
    """Return what is drawn in any of the panels, once."""
    entries: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    return list(entries.values()), list(entries)
