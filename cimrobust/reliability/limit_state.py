"""Smooth stand-ins for how near a chip is to failing, for gradients only.

Whether a chip fails is asked of the deployed network.

An accuracy is missed exactly if at least w margins are not positive, whatever positive units the
margins are in. Each is measured in its own standard deviation over drawn chips here, so
that the decisions which are easiest to turn come first, and the stand-in is the number q with
``sum_i sigmoid((q - margin_i) / width) = w - 1/2``: the w-th smallest margin as
the width goes to zero. Its gradient is a mean of the gradients of the margins near the w-th, so
that a step moves all decisions that stand between the chip and failing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from scipy.special import expit

_ROUNDS = 60
_SMALLEST = 1e-12


@dataclass(frozen=True)
class Reach:
    """How near a chip is to failing.

    Attributes:
        value: 0 or more where it fails, up to smoothing.
        factors: Derivative of the value with respect to the margin (error) of every decision,
            float64 [decisions].
    """

    value: float
    factors: Float64[np.ndarray, "decisions"]


@dataclass(frozen=True)
class LimitState:
    """The stand-in of one task.

    Attributes:
        metric: Metric of the task.
        below: Error that chips may not exceed; unused for an accuracy.
        wrong: Wrong decisions that make a chip fail, less a half; None for regression. A fraction
            where only some decisions are seen.
        units: Unit of the margin of every decision, float64 [decisions]; ones for regression.
    """

    metric: str
    below: float
    wrong: float | None
    units: Float64[np.ndarray, "decisions"]

    def at(self, margins: Float64[np.ndarray, "decisions"], neighbours: int) -> Reach:
        """Return how near a chip is to failing.

        Args:
            margins: Positive where the decision is correct; of a regression errors; float64
                [decisions].
            neighbours: Decisions near the deciding one that the width is taken from.
        """
        seen = margins[np.isfinite(margins)]
        largest = float(np.abs(seen).max(initial=1.0))
        # Errors that are no number are large, and so is by how much such a decision is wrong.
        worst = largest if self.wrong is None else -largest
        numbers = np.nan_to_num(margins, nan=worst, posinf=largest, neginf=-largest)
        if self.wrong is None:
            return self._error(numbers, neighbours)
        return self._order(-numbers / self.units, self.wrong, neighbours)

    def _order(
        self, excess: Float64[np.ndarray, "decisions"], wrong: float, neighbours: int
    ) -> Reach:
        """Return the smoothed order statistic of minus the margins, in their units."""
        ordered = np.sort(excess)[::-1]
        distances = np.sort(np.abs(excess - ordered[min(int(wrong), excess.size - 1)]))
        width = max(
            float(distances[: max(neighbours, 1) + 1].mean()),
            1e-7 * float(np.abs(excess).max(initial=0.0)),
            _SMALLEST,
        )
        low, high = float(ordered[-1]) - 40.0 * width, float(ordered[0]) + 40.0 * width
        for _ in range(_ROUNDS):
            middle = 0.5 * (low + high)
            low, high = (
                (middle, high)
                if float(expit((excess - middle) / width).sum()) > wrong
                else (low, middle)
            )
        inside = expit((excess - 0.5 * (low + high)) / width)
        slopes = inside * (1.0 - inside)
        share = slopes / max(float(slopes.sum()), _SMALLEST)
        return Reach(0.5 * (low + high), -share / self.units)

    def _error(self, errors: Float64[np.ndarray, "decisions"], neighbours: int) -> Reach:
        """Return the error minus what it may be; a maximum smoothed over the largest ones."""
        sizes, signs = np.abs(errors), np.sign(errors)
        if self.metric == "mae":
            return Reach(float(sizes.mean()) - self.below, signs / sizes.size)
        if self.metric == "mse":
            return Reach(float((sizes**2).mean()) - self.below, 2.0 * errors / sizes.size)
        if self.metric == "rmse":
            error = float(np.sqrt((sizes**2).mean()))
            return Reach(error - self.below, errors / (sizes.size * max(error, _SMALLEST)))
        largest = np.sort(sizes)[::-1]
        width = max(
            float((largest[0] - largest[: max(neighbours, 1) + 1]).mean()),
            1e-6 * float(largest[0]),
            _SMALLEST,
        )
        scaled = sizes / width
        weights = np.exp(scaled - scaled.max())
        weights /= weights.sum()
        return Reach(float(weights @ sizes) - self.below, weights * signs)
