"""The nearest chip that a linear function of its devices asks for.

Every step of a search for the most probable failing chip.

Minimise ``|u|^2`` over standard normal latents u subject to ``sum_i a_i T_i(u_i) >= b``, with T_i
the quantile function of device i. The problem falls apart into devices: for a
multiplier m every device maximises ``m a_i T_i(u) - u^2 / 2``, and m is the one at which the sum is
b. Where T is linear (Gaussian devices) this is the step of Hasofer, Lind, Rackwitz
and Fiessler. Where T saturates, as under write-verify, a step that is linear in u would go far
beyond what a device can do; this one knows.

References:
    A. M. Hasofer, N. C. Lind, "Exact and invariant second-moment code format", J. Eng. Mech. Div.
    100, 1974. R. Rackwitz, B. Fiessler, "Structural reliability under combined random load
    sequences", Comput. Struct. 9, 1978.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Float64, Int32, Int64

from cimrobust.engine.latent import REACH, SEGMENTS, LatentChips, LatentLayer
from cimrobust.mapping.device_levels import spread_deviation, target_levels

# Latents that answer multipliers are tabulated at 2049 multipliers, evenly spaced on asinh from
# -1e9 to 1e9 (in units of one latent), between 2049 latents.
_POINTS = 2049
_WIDEST = float(np.arcsinh(1e9))
_COARSE = SEGMENTS // (_POINTS - 1)
_ROUNDS = 60
_DOUBLINGS = 100
_PRECISION = 1e-5


@dataclass(frozen=True)
class _Answers:
    """Latent of a device as a function of its multiplier, for every table of one layer.

    Attributes:
        layer: The layer.
        slopes: Level units a latent, float64 [num_tables], by which multipliers are scaled.
        latents: float32 [num_tables * points].
        table: Table of every device, [cells_per_weight, num_weights], or 0 for all.
    """

    layer: LatentLayer
    slopes: Float64[np.ndarray, "tables"]
    latents: Float32[np.ndarray, "points"]
    table: Int32[np.ndarray, "cells weights"] | int

    def at(
        self, multipliers: Float64[np.ndarray, "cells weights"]
    ) -> Float32[np.ndarray, "cells weights"]:
        """Return the latents that answer multipliers, float32 [cells_per_weight, num_weights]."""
        scaled = np.arcsinh(multipliers * self.slopes[self.table])
        position = (np.clip(scaled, -_WIDEST, _WIDEST) + _WIDEST) * ((_POINTS - 1) / (2 * _WIDEST))
        index = np.minimum(position.astype(np.int64), _POINTS - 2)
        place = (position - index).astype(np.float32)
        index = index + self.table * _POINTS
        low = self.latents[index]
        return np.asarray(low + place * (self.latents[index + 1] - low), dtype=np.float32)


class NearestChips:
    """Solves the problem above for one placement; safe to use from many threads."""

    def __init__(self, chips: LatentChips) -> None:
        """Tabulate what every device answers.

        Args:
            chips: The chips.
        """
        self._chips = chips
        self._answers = [_answers(layer) for layer in chips.layers]

    def slopes(self) -> Float32[np.ndarray, "devices"]:
        """Return the level units that a latent moves a device by, at the median, float32 [size]."""
        return np.concatenate(
            [
                np.broadcast_to(answer.slopes[answer.table], answer.layer.shape).ravel()
                for answer in self._answers
            ]
        ).astype(np.float32)

    def direction(
        self, deviations: Mapping[str, Float32[np.ndarray, "..."]]
    ) -> Float32[np.ndarray, "devices"]:
        """Return the latents of least norm that make weights deviate as given, float32 [size].

        To first order about the median.

        Args:
            deviations: By initializer, own shape.
        """
        parts = []
        for answer in self._answers:
            tensor = answer.layer.tensor
            reach = self._chips.sensitivity(answer.layer) * np.broadcast_to(
                answer.slopes[answer.table], answer.layer.shape
            )
            parts.append(
                (
                    reach
                    * (
                        deviations[tensor.initializer].reshape(1, -1)
                        / np.maximum((reach**2).sum(axis=0), 1e-300)
                    )
                ).ravel()
            )
        return np.concatenate(parts).astype(np.float32)

    def inverse(
        self, deviations: Mapping[str, Float32[np.ndarray, "..."]]
    ) -> Float32[np.ndarray, "devices"]:
        """Return latents that make weights deviate as given, float32 [size].

        Where the distribution ends before, those of its end.

        Every device of a weight is put at the same fraction of its interval, as
        `mapping.devices.spread_deviation` does: unlike `direction` exact, and farther away.

        Args:
            deviations: By initializer, own shape, inside the tolerance box.
        """
        parts = []
        for answer in self._answers:
            tensor = answer.layer.tensor
            levels = spread_deviation(tensor, deviations[tensor.initializer])
            moved = levels - target_levels(tensor)
            parts.append(_inverse(answer, moved).ravel())
        return np.concatenate(parts).astype(np.float32)

    def solve(
        self, gradient: Float32[np.ndarray, "devices"], least: float
    ) -> tuple[Float32[np.ndarray, "devices"], bool]:
        """Return the latents of least norm whose deviations reach a sum, and whether any do.

        Where none do, the latents go two thirds of the way to what is possible.

        Args:
            gradient: a, float32 [size].
            least: b, level units times gradient.

        Returns:
            float32 [size], and True where the sum is reached.
        """
        at_rest, at_most = self._sum(gradient, 0.0)[1], self._sum(gradient, np.inf)[1]
        if least <= at_rest or not at_most > at_rest:
            return np.zeros(self._chips.size, dtype=np.float32), least <= at_rest
        reached = least < at_most
        aim = least if reached else at_rest + 2.0 / 3.0 * (at_most - at_rest)
        low, high = 0.0, self._first(gradient, aim)
        latents = self._sum(gradient, high)[0]
        for _ in range(_ROUNDS):
            middle = 0.5 * (low + high)
            tried, total = self._sum(gradient, middle)
            if total >= aim:
                high, latents = middle, tried
            else:
                low = middle
            if high - low <= _PRECISION * high:
                break
        return latents, reached

    def _first(self, gradient: Float32[np.ndarray, "devices"], aim: float) -> float:
        """Return a multiplier that reaches the aim."""
        size = float(np.sum((gradient.astype(np.float64) * self.slopes()) ** 2))
        multiplier = max(aim, 1e-30) / max(size, 1e-300)
        for _ in range(_DOUBLINGS):
            if self._sum(gradient, multiplier)[1] >= aim:
                break
            multiplier *= 2.0
        return multiplier

    def _sum(
        self, gradient: Float32[np.ndarray, "devices"], multiplier: float
    ) -> tuple[Float32[np.ndarray, "devices"], float]:
        """Return the latents that answer a multiplier, and the sum they reach."""
        parts = []
        for answer in self._answers:
            pull = answer.layer.of(gradient).astype(np.float64)
            if np.isinf(multiplier):
                parts.append((REACH * np.sign(pull)).astype(np.float32).ravel())
            else:
                parts.append(answer.at(multiplier * pull).ravel())
        latents = np.concatenate(parts)
        return latents, float(
            np.dot(gradient.astype(np.float64), self._chips.deviations(latents).astype(np.float64))
        )


def _inverse(
    answer: _Answers, moved: Float[np.ndarray, "cells weights"]
) -> Float64[np.ndarray, "cells weights"]:
    """Return the latents at which devices deviate as given, [cells_per_weight, num_weights]."""
    grid = np.linspace(-REACH, REACH, SEGMENTS + 1)
    tables = answer.layer.values.reshape(-1, SEGMENTS + 1)
    which = np.broadcast_to(np.asarray(answer.table), moved.shape)
    latents = np.empty(moved.shape)
    for number, table in enumerate(tables):
        chosen = which == number
        rising = np.concatenate(
            [[True], np.diff(np.maximum.accumulate(table)) > 0]
        )  # steps of a measured table: its first latent
        latents[chosen] = np.interp(moved[chosen], table[rising], grid[rising])
    return latents


def _answers(layer: LatentLayer) -> _Answers:
    tables = layer.values.reshape(-1, SEGMENTS + 1)[:, ::_COARSE].astype(np.float64)
    grid = np.linspace(-REACH, REACH, tables.shape[1])
    one = np.interp([-1.0, 1.0], grid, np.arange(grid.size)).round().astype(int)
    slopes = np.array(
        [
            max((table[one[1]] - table[one[0]]) / (grid[one[1]] - grid[one[0]]), 1e-30)
            for table in tables
        ]
    )
    multipliers = np.sinh(np.linspace(-_WIDEST, _WIDEST, _POINTS))
    latents = np.concatenate(
        [
            _best_latents(table, grid, multipliers / slope)
            for table, slope in zip(tables, slopes, strict=True)
        ]
    )
    table = 0 if layer.offset is None else layer.offset // (SEGMENTS + 1)
    return _Answers(layer, slopes, latents.astype(np.float32), table)


def _best_latents(
    table: Float64[np.ndarray, "grid"],
    grid: Float64[np.ndarray, "grid"],
    multipliers: Float64[np.ndarray, "multipliers"],
) -> Float64[np.ndarray, "multipliers"]:
    """Return the latent that maximises ``m T(u) - u^2 / 2`` for every multiplier m.

    T is linear between the grid's latents; float64 [multipliers].
    """
    best = np.empty(multipliers.size)
    rises = np.diff(table) / np.diff(grid)
    for begin in range(0, multipliers.size, 256):  # 256 rows of 2049 values at a time
        chosen = multipliers[begin : begin + 256]
        knot = (chosen[:, None] * table - 0.5 * grid**2).argmax(axis=1)
        best[begin : begin + 256] = _between(table, grid, rises, chosen, knot)
    return best


def _between(
    table: Float64[np.ndarray, "grid"],
    grid: Float64[np.ndarray, "grid"],
    rises: Float64[np.ndarray, "segments"],
    multipliers: Float64[np.ndarray, "multipliers"],
    knot: Int64[np.ndarray, "multipliers"],
) -> Float64[np.ndarray, "multipliers"]:
    """Return the best latent on the two segments beside the best knot of every multiplier."""
    found, value = grid[knot], multipliers * table[knot] - 0.5 * grid[knot] ** 2
    for side in (-1, 0):
        segment = np.clip(knot + side, 0, rises.size - 1)
        latent = np.clip(multipliers * rises[segment], grid[segment], grid[segment + 1])
        reached = (
            multipliers * (table[segment] + rises[segment] * (latent - grid[segment]))
            - 0.5 * latent**2
        )
        found, value = np.where(reached > value, latent, found), np.maximum(reached, value)
    return np.asarray(found)
