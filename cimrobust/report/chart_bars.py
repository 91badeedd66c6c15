"""Two bars for each of several things: without deviation, and on the worst chip found."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from cimrobust.report.chart_parts import BAD, NEUTRAL, PAPER

# Shares of which a bar cannot be seen.
_NO_INK = 0.02


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
