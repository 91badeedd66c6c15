"""A device profile from measurements: quantile tables level by level, or a curve for sigma."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float64
from scipy.special import ndtr

from cimrobust.binomial import beta_quantile
from cimrobust.device.device_records import FittedTarget
from cimrobust.errors import UsageError

if TYPE_CHECKING:
    from cimrobust.device.measurements import Measurements

Form = Literal["table", "curve"]

#: Quantiles of a level in a table.
NUM_QUANTILES = 101
#: Degree of the polynomial of sigma in g / g_max.
DEGREE = 3
_Z = 3.0


@dataclass(frozen=True)
class FittedProfile:
    """A profile and how well it describes the measurements.

    Attributes:
        tables: The profile as tables of its file format.
        targets: One entry a measured target.
        left_out: Share of devices that the box leaves out, the largest over the targets: for tables
            an upper bound at 95 % confidence, for curves the share of the measured ones.
    """

    tables: Mapping[str, Any]
    targets: tuple[FittedTarget, ...]
    left_out: float


def fit(
    measured: Measurements,
    *,
    name: str,
    source: str,
    form: Form = "table",
    bits: int | None = None,
) -> FittedProfile:
    """Fit a profile.

    ``table``: every level gets quantiles at equally spaced probabilities, linear between the two
    measured targets around it; the tolerance box reaches to the smallest and largest deviation that
    was measured there. ``curve``: sigma is a polynomial of third degree in g / g_max, fitted to the
    standard deviations by least squares, deviations are Gaussian without bound, and the box is 3
    sigmas wide.

    Args:
        measured: The measurements.
        name: Name of the profile.
        source: Where the measurements come from.
        form: See above.
        bits: Bits a device stores; None: as many as there are measured targets, rounded up.

    Raises:
        UsageError: There are too few targets for the form, or too many bits.
    """
    count = len(measured.targets)
    bits = max(1, math.ceil(math.log2(count))) if bits is None else bits
    if not 1 <= bits <= 8:
        raise UsageError(
            f"bits of a device must be in 1..8, got {bits} for {count} targets (--bits); round the"
            " targets to at most 256 states"
        )
    if form == "curve" and count <= DEGREE:
        raise UsageError(
            f"a curve must have at least {DEGREE + 1} targets, got {count} (--form); use --form"
            " table"
        )
    described, distances, left_out = (
        _as_table(measured, np.arange(2**bits) / (2**bits - 1))
        if form == "table"
        else _as_curve(measured)
    )
    tables: dict[str, Any] = {
        "schema": 1,
        "name": name,
        "source": source,
        "weight": {"bits": 8, "scale": "tensor", "mapping": "sign_magnitude"},
        "device": {"bits": bits, **described},
    }
    if measured.window is not None:
        tables["window"] = {
            "g_min_microsiemens": measured.window.g_min_microsiemens,
            "g_max_microsiemens": measured.window.g_max_microsiemens,
        }
    return FittedProfile(
        tables, tuple(map(_target_fit, measured.targets, measured.deviations, distances)), left_out
    )


def _as_table(
    measured: Measurements, levels: Float64[np.ndarray, "levels"]
) -> tuple[dict[str, Any], list[float], float]:
    """Return the device as quantiles of every level, its distances, and the share left out."""
    device = {
        "distribution": "table",
        "level_quantiles": [
            [float(f"{value:.7g}") for value in row] for row in _rows(measured, levels)
        ],
    }
    at_targets = _rows(measured, measured.targets)
    distances = [
        _table_distance(group, row)
        for group, row in zip(measured.deviations, at_targets, strict=True)
    ]
    # What lies outside the smallest and largest of n values has the distribution Beta(2, n - 1),
    # whatever theirs is (Wilks 1941).
    left_out = max(beta_quantile(0.95, 2, len(group) - 1) for group in measured.deviations)
    return device, distances, left_out


def _as_curve(measured: Measurements) -> tuple[dict[str, Any], list[float], float]:
    """Return the device as a curve for sigma, its distances, and the share left out."""
    coefficients = _polynomial(measured)
    device = {"distribution": "gaussian", "z": _Z, "sigma": _curve(measured, coefficients)}
    sigmas = np.polynomial.polynomial.polyval(_relative(measured, measured.targets), coefficients)
    both = list(zip(measured.deviations, sigmas, strict=True))
    distances = [_gaussian_distance(group, sigma) for group, sigma in both]
    left_out = max(float((np.abs(group) > _Z * sigma).mean()) for group, sigma in both)
    return device, distances, left_out


def _rows(
    measured: Measurements, positions: Float64[np.ndarray, "positions"]
) -> Float64[np.ndarray, "positions quantiles"]:
    """Return quantiles at positions, float64 [positions, NUM_QUANTILES].

    Outside the measured targets those of the nearest.
    """
    probability = np.linspace(0.0, 1.0, NUM_QUANTILES)
    known = np.stack([np.quantile(group, probability) for group in measured.deviations])
    rows = np.stack(
        [np.interp(positions, measured.targets, known[:, index]) for index in range(NUM_QUANTILES)],
        axis=1,
    )
    return np.maximum.accumulate(rows, axis=1)


def _table_distance(
    group: Float64[np.ndarray, "devices"], row: Float64[np.ndarray, "quantiles"]
) -> float:
    return _distance(group, np.interp(group, row, np.linspace(0.0, 1.0, NUM_QUANTILES)))


def _gaussian_distance(group: Float64[np.ndarray, "devices"], sigma: float) -> float:
    return _distance(group, ndtr(group / sigma)) if sigma > 0 else 1.0


def _distance(
    group: Float64[np.ndarray, "devices"], probability: Float64[np.ndarray, "devices"]
) -> float:
    """Return the Kolmogorov-Smirnov distance of sorted values from a distribution function."""
    steps = np.arange(len(group) + 1) / len(group)
    return float(max(np.abs(probability - steps[1:]).max(), np.abs(probability - steps[:-1]).max()))


def _relative(
    measured: Measurements, positions: Float64[np.ndarray, "positions"]
) -> Float64[np.ndarray, "positions"]:
    """Return g / g_max at normalised conductances."""
    window = measured.window
    if window is None:
        return positions
    low, high = window.g_min_microsiemens, window.g_max_microsiemens
    return np.asarray((low + positions * (high - low)) / high)


def _polynomial(measured: Measurements) -> Float64[np.ndarray, "coefficients"]:
    """Return ascending coefficients of sigma, weighted by the number of devices.

    Sigma is a fraction of the full range.
    """
    # The root mean square holds a mean deviation too, which a Gaussian around the target has to
    # cover.
    spread = [float(np.sqrt(np.mean(group**2))) for group in measured.deviations]
    weights = np.sqrt([len(group) for group in measured.deviations])
    return np.polynomial.polynomial.polyfit(
        _relative(measured, measured.targets), spread, DEGREE, w=weights
    )


def _curve(
    measured: Measurements, coefficients: Float64[np.ndarray, "coefficients"]
) -> dict[str, Any]:
    spread = [float(np.sqrt(np.mean(group**2))) for group in measured.deviations]
    # Between and beyond the targets the polynomial may not leave what was measured.
    clip = [0.5 * min(spread), 2.0 * max(spread)]
    return {
        "form": "polynomial",
        "coefficients": coefficients.tolist(),
        "variable": "relative",
        "unit": "fraction",
        "clip": clip,
    }


def _target_fit(
    target: float, group: Float64[np.ndarray, "devices"], distance: float
) -> FittedTarget:
    return FittedTarget(
        target=float(target),
        devices=len(group),
        mean=float(group.mean()),
        sd=float(group.std(ddof=1)),
        low=float(group[0]),
        high=float(group[-1]),
        distance=distance,
        significant=math.sqrt(math.log(2.0 / 0.01) / (2.0 * len(group))),  # Massart 1990
    )
