"""The chart of a re-training: scores over the epochs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib as mpl
from matplotlib.ticker import FuncFormatter

from cimrobust.report.chart_parts import BAD, GOOD, INK, STYLE, WIDTH, new_figure, svg

if TYPE_CHECKING:
    from cimrobust.certificate.models.retrained import Epoch, Retraining


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
