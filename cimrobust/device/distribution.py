"""Where a fault-free device ends.

Quantile functions of its deviation, computed by quadrature, never by sampling.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import numpy as np

from cimrobust.array_shapes import Bool, Float64
from cimrobust.device.curve import Number, number_at
from cimrobust.device.intervals import final_intervals, programming_intervals, shift_terms
from cimrobust.normal import ndtr, ndtri

if TYPE_CHECKING:
    from cimrobust.device.effect_tables import DriftTable
    from cimrobust.device.profile import DeviceProfile

Quantile = Callable[[Float64[np.ndarray, "*shape"], bool], Float64[np.ndarray, "*shape"]]
"""Deviation, a fraction of the full range, at probabilities in [0, 0.5].

They count from the bottom, or from the top where the flag is set.
"""
_Probit = Callable[[Float64[np.ndarray, "values"]], Float64[np.ndarray, "values nodes"]]

# Half of the probabilities that stand for a distribution in a quadrature: a quarter of an octave
# apart up to 1/256, then 1/256 apart.
_TAIL = 2.0 ** np.arange(-40.0, -8.0, 0.25)
_HALF = np.concatenate([_TAIL, np.arange(1, 129) / 256.0])
_MASS = np.diff(np.concatenate([[0.0], _HALF[1:]]))
# Where the resulting distribution is looked at, in sigmas around every twelfth of those points.
_OFFSETS = np.array([-6.6, -4.0, -2.5, -1.2, -0.4, 0.4, 1.2, 2.5, 4.0, 6.6])
_EVERY = 12
# Points on either side of a value between which the distribution is computed where it is looked at
# near that value alone.
_BESIDE = 2
# How often an interval is halved at one look, and into how many parts that cuts it.
_HALVINGS = 5
_PARTS = 2**_HALVINGS


@lru_cache(maxsize=512)
def final_quantile(profile: DeviceProfile, level: int) -> Quantile:
    """Return the deviation of a fault-free device at the stated time, before drift compensation.

    In order: programming error as accepted by write-verify, relaxation, clipping to the window,
    drift, clipping again.
    """
    position = float(profile.level_positions()[level])
    result = _relaxed(profile, level)
    if profile.clips:
        result = _clipped(result, profile, position)
    if profile.drift is not None and profile.has_drift:
        drifts = _power_drifted if profile.drift.model == "power" else _shifted
        result = drifts(profile, profile.drift, result, level)
        if profile.clips:
            result = _clipped(result, profile, position)
    return result


def programming_quantile(profile: DeviceProfile, level: int) -> Quantile:
    """Return the programming error alone."""
    device = profile.device
    if device.distribution == "table":
        table = device.level_quantiles[level] if device.level_quantiles else device.quantiles
        grid = np.linspace(0.0, 1.0, len(table))
        return lambda probability, from_top: np.asarray(
            np.interp(1.0 - probability if from_top else probability, grid, table)
        )
    low, high = (float(bound[level]) for bound in programming_intervals(profile))
    if device.distribution == "uniform":
        middle, half = 0.5 * (high + low), 0.5 * (high - low)

        def uniform(
            probability: Float64[np.ndarray, "*shape"], from_top: bool
        ) -> Float64[np.ndarray, "*shape"]:
            error = (-1.0 if from_top else 1.0) * half * (2.0 * probability - 1.0)
            return np.asarray(error if middle == 0.0 else middle + error)

        return uniform
    sigma = _at_level(profile, device.sigma, level)
    if sigma == 0.0 or (device.is_verified and low == high):
        return lambda probability, from_top: np.zeros_like(probability)
    low_tail, high_tail = (
        (float(ndtr(low / sigma)), float(ndtr(-high / sigma))) if device.is_verified else (0.0, 0.0)
    )
    kept = 1.0 - (low_tail + high_tail)

    def gaussian(
        probability: Float64[np.ndarray, "*shape"], from_top: bool
    ) -> Float64[np.ndarray, "*shape"]:
        tail, sign = (high_tail, -1.0) if from_top else (low_tail, 1.0)
        return np.asarray(sign * sigma * ndtri(tail + probability * kept))

    return gaussian


def excluded_probability(profile: DeviceProfile) -> float:
    """Return the probability that one fault-free device ends outside the tolerance box.

    The largest over the levels; 0 if bounded. With drift: at the stated time.
    """
    if profile.is_bounded:
        return 0.0
    if profile.relaxation is None and not profile.has_drift and not profile.clips:
        return math.erfc(profile.device.z / math.sqrt(2.0))
    return _excluded(profile)


@lru_cache(maxsize=64)
def _excluded(profile: DeviceProfile) -> float:
    levels = range(profile.device.num_levels) if profile.depends_on_level else range(1)
    intervals = final_intervals(profile)
    return max(
        _outside(final_quantile(profile, level), *(float(bound[level]) for bound in intervals))
        for level in levels
    )


def _outside(quantile: Quantile, low: float, high: float) -> float:
    """Return the probability below `low` or above `high`, found by halving."""
    slack = (
        1e-12  # float64 rounding may not put a device that is clipped to the bound outside of it
    )
    lower, upper = (_near(quantile, bound) for bound in (low - slack, high + slack))
    below = _tail(lambda z: _at_probits(lower, z) < low - slack)
    above = _tail(lambda z: _at_probits(upper, -z) > high + slack)
    return below + above


def _tail(holds: Callable[[Float64[np.ndarray, "z"]], Bool[np.ndarray, "z"]]) -> float:
    """Return the standard normal probability below the largest z at which `holds` is true.

    `holds` is a falling condition. The interval is halved 60 times, five halvings at a look.
    """
    least, most = -12.0, 12.0
    for _ in range(60 // _HALVINGS):
        # Powers of two of the first interval, so that sums and halves are exact.
        inner = least + (most - least) / _PARTS * np.arange(1, _PARTS)
        place = int(np.count_nonzero(np.logical_and.accumulate(holds(inner))))
        ends = np.concatenate([[least], inner, [most]])
        least, most = float(ends[place]), float(ends[place + 1])
    return float(ndtr(least)) if least > -12.0 else 0.0


def _at_probits(quantile: Quantile, z: Float64[np.ndarray, "z"]) -> Float64[np.ndarray, "z"]:
    tail, from_top = ndtr(-np.abs(z)), z > 0
    return np.where(from_top, quantile(tail, True), quantile(tail, False))


def _near(quantile: Quantile, value: float) -> Quantile:
    """Return what a quantile function is near a value, computed there alone where that is less."""
    return quantile.near(value) if isinstance(quantile, _Mixed | _Clipped) else quantile


def _relaxed(profile: DeviceProfile, level: int) -> Quantile:
    programmed = programming_quantile(profile, level)
    if profile.relaxation is None:
        return programmed
    sigma = _at_level(profile, profile.relaxation.sigma, level)
    if profile.device.distribution == "gaussian":
        return _gaussian(
            0.0, float(np.hypot(_at_level(profile, profile.device.sigma, level), sigma))
        )
    return _add_gaussian(programmed, 0.0, sigma)


def _shifted(profile: DeviceProfile, drift: DriftTable, start: Quantile, level: int) -> Quantile:
    mean, one_sigma = (
        float((constant + growth * drift.log_time)[level])
        for constant, growth in (shift_terms(profile, drift, z) for z in (0.0, 1.0))
    )
    return _add_gaussian(start, mean, one_sigma - mean)


def _power_drifted(
    profile: DeviceProfile, drift: DriftTable, start: Quantile, level: int
) -> Quantile:
    """Return the deviation after g falls to g (t / t0)^-nu.

    With nu Gaussian, the factor is log-normal.
    """
    floor = 0.0 if profile.window is None else profile.window.floor
    position = float(profile.level_positions()[level])
    mean, spread = (
        _at_level(profile, number, level) * drift.log_time
        for number in (drift.exponent_mean, drift.exponent_sd)
    )
    if spread == 0.0:
        return lambda probability, from_top: np.asarray(
            (position + start(probability, from_top) + floor) * np.exp(-mean) - floor - position
        )
    nodes = position + floor + _nodes(start)
    if nodes[0] == nodes[-1]:
        return _log_normal(float(nodes[0]), -mean, spread, shift=-(floor + position))
    factors = np.exp(-mean - spread * _OFFSETS)
    looked_at = np.unique(
        np.concatenate(
            [
                (nodes[::_EVERY, None] * factors).ravel(),
                nodes[[0, -1]] * factors.min(),
                nodes[[0, -1]] * factors.max(),
            ]
        )
    )

    def probit(value: Float64[np.ndarray, "values"]) -> Float64[np.ndarray, "values nodes"]:
        # P(x r <= y) of the log-normal r: for x > 0 that r is at most y / x, for x < 0 that it is
        # at least that.
        with np.errstate(divide="ignore", invalid="ignore"):
            score = (np.log(value[:, None] / nodes) + mean) / spread
        score = np.where(nodes > 0, score, -score)
        one_side = np.sign(value)[:, None] * np.sign(nodes) > 0
        return np.where(
            one_side, np.clip(score, -40.0, 40.0), np.where(value[:, None] >= nodes, 40.0, -40.0)
        )

    return _inverted(looked_at, probit, shift=-(floor + position))


def _add_gaussian(start: Quantile, mean: float, sigma: float) -> Quantile:
    if sigma == 0.0:
        return (
            start
            if mean == 0.0
            else lambda probability, from_top: np.asarray(start(probability, from_top) + mean)
        )
    nodes = _nodes(start)
    if nodes[0] == nodes[-1]:
        return _gaussian(float(nodes[0]) + mean, sigma)
    looked_at = np.unique(
        (np.append(nodes[::_EVERY], nodes[-1])[:, None] + sigma * _OFFSETS).ravel()
    )
    return _inverted(
        looked_at, lambda value: np.asarray((value[:, None] - nodes) / sigma), shift=mean
    )


def _gaussian(mean: float, sigma: float) -> Quantile:
    return lambda probability, from_top: np.asarray(
        mean + (-1.0 if from_top else 1.0) * sigma * ndtri(probability)
    )


def _log_normal(scale: float, mean: float, sigma: float, *, shift: float) -> Quantile:
    """Return the quantile function of scale times a log-normal number, shifted."""

    def quantile(
        probability: Float64[np.ndarray, "*shape"], from_top: bool
    ) -> Float64[np.ndarray, "*shape"]:
        z = (-1.0 if from_top else 1.0) * ndtri(probability)
        return np.asarray(scale * np.exp(mean + np.sign(scale) * sigma * z) + shift)

    return quantile


@dataclass(frozen=True)
class _Clipped:
    """A distribution that is clipped to the window.

    Attributes:
        quantile: What is clipped.
        low: Smallest deviation that is left.
        high: Largest deviation that is left.
    """

    quantile: Quantile
    low: float
    high: float

    def __call__(
        self, probability: Float64[np.ndarray, "*shape"], from_top: bool
    ) -> Float64[np.ndarray, "*shape"]:
        return np.asarray(np.clip(self.quantile(probability, from_top), self.low, self.high))

    def near(self, value: float) -> Quantile:
        """Return the same function near a value."""
        return replace(self, quantile=_near(self.quantile, value))


def _clipped(quantile: Quantile, profile: DeviceProfile, position: float) -> Quantile:
    least, most = profile.conductance_limits
    return _Clipped(quantile, least - position, most - position)


def _nodes(quantile: Quantile) -> Float64[np.ndarray, "nodes"]:
    """Return the values that stand for a distribution, ascending.

    Segments between them have the probabilities of `_MASS`, mirrored.
    """
    return np.concatenate([quantile(_HALF, False), quantile(_HALF[::-1], True)[1:]])


def _inverted(
    looked_at: Float64[np.ndarray, "values"],
    probit: _Probit,
    *,
    shift: float,
) -> Quantile:
    """Return the quantile function of a mixture of Gaussians in a transformed variable.

    Args:
        looked_at: Values at which the distribution is computed; linear in the probit between them.
        probit: For values, the probit of the probability to be below them, given each node of the
            mixture [values, nodes].
        shift: Added to the result.
    """
    return _Mixed(looked_at, probit, shift)


@dataclass(frozen=True, eq=False)
class _Mixed:
    """The quantile function of a mixture, computed when it is first asked; see `_inverted`."""

    looked_at: Float64[np.ndarray, "values"]
    probit: _Probit
    shift: float

    def __call__(
        self, probability: Float64[np.ndarray, "*shape"], from_top: bool
    ) -> Float64[np.ndarray, "*shape"]:
        z, values = self._whole
        return np.asarray(np.interp((-1.0 if from_top else 1.0) * ndtri(probability), z, values))

    def near(self, value: float) -> Quantile:
        """Return the same function near a value; beside it, it goes on as a constant."""
        place = int(np.searchsorted(self.looked_at, value - self.shift))
        part = self.looked_at[max(place - _BESIDE, 0) : place + _BESIDE]
        z = _probits(part, self.probit)
        if not (np.isfinite(z).all() and (np.diff(z) > 0).all() and len(part) == 2 * _BESIDE):
            return self
        z, values = self._refined(part, z)
        return lambda probability, from_top: np.asarray(
            np.interp((-1.0 if from_top else 1.0) * ndtri(probability), z, values)
        )

    @cached_property
    def _whole(self) -> tuple[Float64[np.ndarray, "points"], Float64[np.ndarray, "points"]]:
        return self._refined(self.looked_at, _probits(self.looked_at, self.probit))

    def _refined(
        self, looked_at: Float64[np.ndarray, "values"], z: Float64[np.ndarray, "values"]
    ) -> tuple[Float64[np.ndarray, "points"], Float64[np.ndarray, "points"]]:
        """Return probits and values, once more where the probits given are far apart."""
        between = np.linspace(-6.5, 6.5, 301)
        if looked_at is not self.looked_at:
            between = between[(between > z[0]) & (between < z[-1])]
        points = np.unique(np.concatenate([looked_at, np.interp(between, z, looked_at)]))
        z = _probits(points, self.probit)
        inside = np.isfinite(z)
        return np.maximum.accumulate(z[inside]), points[inside] + self.shift


def _probits(
    values: Float64[np.ndarray, "values"],
    probit: _Probit,
) -> Float64[np.ndarray, "values"]:
    """Return the probit of the probability of a mixture to be below each of the values."""
    z = np.empty_like(values)
    masses = np.concatenate([_MASS, _MASS[::-1]])
    for begin in range(0, values.size, 256):
        part = slice(begin, begin + 256)
        scores = probit(values[part])
        below = _mixture(scores, masses)
        upper = below > 0.5
        # Counted from the nearer end, so that a small probability keeps its digits.
        tail = np.where(upper, 0.0, below)
        if upper.any():
            tail[upper] = _mixture(-scores[upper], masses)
        with np.errstate(divide="ignore"):
            z[part] = np.where(upper, -1.0, 1.0) * ndtri(np.minimum(tail, 0.5))
    return z


def _mixture(
    scores: Float64[np.ndarray, "values nodes"], masses: Float64[np.ndarray, "segments"]
) -> Float64[np.ndarray, "values"]:
    """Return the weighted mean of the normal distribution function over segments.

    Its argument is linear on each segment, and the weights are the masses of the segments.
    """
    width = np.diff(scores, axis=1)
    narrow = np.abs(width) < 0.02
    mean = np.diff(scores * ndtr(scores) + np.exp(-0.5 * scores**2) / np.sqrt(2.0 * np.pi), axis=1)
    np.divide(mean, width, out=mean, where=~narrow)
    mean[narrow] = ndtr(0.5 * (scores[:, :-1][narrow] + scores[:, 1:][narrow]))
    return np.asarray(np.clip(mean, 0.0, 1.0) @ masses)


def _at_level(profile: DeviceProfile, number: Number | None, level: int) -> float:
    return float(number_at(number, profile.level_positions(), profile.window)[level])
