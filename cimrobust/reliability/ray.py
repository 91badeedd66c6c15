"""The first failing chip along a ray of latents, asked of the deployed network.

What a search by gradients is believed on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from cimrobust.engine.latent import REACH

#: Of latents; 0 or less exactly where the chip fails.
Event = Callable[[Float32[np.ndarray, "devices"]], float]

_FIRST_STEP = 0.02
_PRECISION = 1e-3
_FARTHEST = 1e4


@dataclass(frozen=True)
class Crossed:
    """A failing chip on a ray.

    Attributes:
        latents: float32 [size], within what the distribution's tables reach.
        norm: Their norm.
    """

    latents: Float32[np.ndarray, "devices"]
    norm: float


def first_failing(
    event: Event, point: Float32[np.ndarray, "devices"], *, most: int
) -> Crossed | None:
    """Return a failing chip on the ray through a point; None: none was met.

    Steps away from the point by 2 %, 4 %, 8 % and so on until one chip fails and one does not, then
    halves and interpolates to a thousandth. The chip returned is the failing
    one, so it fails by more than rounding can take back. Where the event comes and goes along the
    ray, it need not be the first.

    Args:
        event: Asked of the deployed network, once a chip.
        point: Latents, float32 [size], not all 0.
        most: Chips to evaluate at most.
    """
    if not point.any():
        return None
    farthest = min(_FARTHEST, REACH / float(np.abs(point[point != 0]).min()))
    values: dict[float, float] = {}

    def value(scale: float) -> float:
        if scale not in values:
            values[scale] = event(_on_ray(point, scale))
        return values[scale]

    bracket = _bracket(value, farthest, values, most)
    if bracket is None:
        return None
    failing = _narrow(value, *bracket, values, most)
    latents = _on_ray(point, failing)
    return Crossed(latents, float(np.linalg.norm(latents.astype(np.float64))))


def _on_ray(point: Float32[np.ndarray, "devices"], scale: float) -> Float32[np.ndarray, "devices"]:
    return np.clip(np.float32(scale) * point, -REACH, REACH).astype(np.float32)


def _bracket(
    value: Callable[[float], float], farthest: float, values: dict[float, float], most: int
) -> tuple[float, float] | None:
    """Return two scales, the chip of the first passing and that of the second failing."""
    scale, step = 1.0, _FIRST_STEP
    fails = value(scale) <= 0.0
    while len(values) < most:
        following = max(scale * (1.0 - step), 0.0) if fails else min(scale * (1.0 + step), farthest)
        if following == scale:
            return None
        if (value(following) <= 0.0) != fails:
            return (following, scale) if fails else (scale, following)
        scale, step = following, 2.0 * step
    return (0.0, scale) if fails else None


def _narrow(
    value: Callable[[float], float],
    passing: float,
    failing: float,
    values: dict[float, float],
    most: int,
) -> float:
    """Bring two scales together; return the failing one."""
    side, turn = 1.0, 0
    while failing - passing > _PRECISION * failing and len(values) < most:
        above, below, width = values.get(passing, 1.0), values[failing], failing - passing
        turn += 1
        share = (
            above / (above - below)
            if turn % 3 and np.isfinite(above - below) and above > below
            else 0.5
        )
        # Just beyond the crossing that a straight line gives, then just before it: two chips that
        # enclose it.
        aimed = passing + share * width + side * 0.45 * _PRECISION * failing
        middle = float(np.clip(aimed, passing + 0.02 * width, failing - 0.02 * width))
        if value(middle) <= 0.0:
            failing, side = middle, -1.0
        else:
            passing, side = middle, 1.0
    return failing
