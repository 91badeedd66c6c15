"""A picture of measured deviations and of the profile fitted to them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from cimrobust.device.intervals import level_bounds
from cimrobust.device.quantiles import quantile

if TYPE_CHECKING:
    from cimrobust.device.measurements import Measurements
    from cimrobust.device.profile import DeviceProfile

_MOST_POINTS = 300
_BANDS = (0.01, 0.1, 0.25)


def draw_fit(measured: Measurements, profile: DeviceProfile, path: Path) -> bytes:
    """Draw deviations over targets.

    Measured devices as points, bands of the fitted distribution, and the tolerance box.

    Args:
        measured: The measurements.
        profile: The profile fitted to them.
        path: Tells the form by its suffix, .svg or .png.
    """
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "cimrobust", "font.size": 10}):
        figure = Figure(figsize=(7.2, 4.0), layout="constrained")
        (FigureCanvasSVG if path.suffix == ".svg" else FigureCanvasAgg)(figure)
        axes = figure.add_subplot()
        positions, levels = profile.level_positions(), range(profile.device.num_levels)
        for probability in _BANDS:
            low, high = (
                [
                    100
                    * float(
                        quantile(profile, np.array([probability]), from_top=top, level=level)[0]
                    )
                    for level in levels
                ]
                for top in (False, True)
            )
            axes.fill_between(
                positions,
                low,
                high,
                color="#4c78a8",
                alpha=0.2,
                linewidth=0,
                label=f"{100 * (1 - 2 * probability):g} % of the profile",
            )
        box = level_bounds(profile)
        for bound, label in zip(box, ("tolerance box", None), strict=True):
            axes.plot(
                positions,
                100 * bound / (profile.device.num_levels - 1),
                color="#b2182b",
                linewidth=1,
                label=label,
            )
        for index, (target, group) in enumerate(
            zip(measured.targets, measured.deviations, strict=True)
        ):
            shown = group[
                np.linspace(0, len(group) - 1, min(len(group), _MOST_POINTS)).round().astype(int)
            ]
            label = "measured devices" if index == 0 else None
            axes.plot(
                np.full(len(shown), target),
                100 * shown,
                ".",
                markersize=2,
                color="#333333",
                alpha=0.5,
                label=label,
            )
        axes.set_xlabel("target conductance, share of the range")
        axes.set_ylabel("deviation, % of the range")
        axes.legend(fontsize=8, frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
        buffer = io.BytesIO()
        plain = {"Date": None, "Creator": None} if path.suffix == ".svg" else {"Software": None}
        figure.savefig(buffer, format=path.suffix[1:], dpi=150, metadata=plain)
        return buffer.getvalue()
