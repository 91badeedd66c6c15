"""How far the worst chip found lies from drawn chips, at first order."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from cimrobust.certificate import models
from cimrobust.mapping.device_levels import level_weights

if TYPE_CHECKING:
    from cimrobust.array_shapes import Float64
    from cimrobust.certificate.evidence import Evidence
    from cimrobust.device.profile import DeviceProfile
    from cimrobust.mapping.placement import TensorPlacement

#: What the number says and what it does not.
MEANING = (
    "It believes the profile, and speaks of this one direction: it is no bound on the probability"
    " that a chip fails, since chips that fail lie in other directions too, and nearer."
    " --rare-below X estimates how likely a chip is that misses X."
)


def worst_likelihood(evidence: Evidence) -> tuple[models.WorstLikelihood | None, str | None]:
    """Describe how far the worst chip found lies.

    None with the reason where the profile does not tell it so simply.
    """
    placement = evidence.placement
    reason = next((reason for profile in placement.profiles if (reason := unfit(profile))), None)
    if reason is not None:
        return None, reason
    total, weights = 0.0, 0
    for name, tensor in placement.tensors.items():
        variance = _variances(tensor)
        moves = variance > 0
        deviation = np.asarray(evidence.search.deviations[name], dtype=np.float64).ravel()
        total += float((deviation[moves] ** 2 / variance[moves]).sum())
        weights += int(moves.sum())
    if not weights:
        return None, "no weight deviates"
    distance, drawn, log10 = math.sqrt(total), math.sqrt(weights), -total / (2 * math.log(10))
    return (
        models.WorstLikelihood(
            distance=distance,
            drawn_distance=drawn,
            log10_probability=log10,
            statement=likelihood_in_words(distance, drawn, log10),
            meaning=MEANING,
        ),
        None,
    )


def likelihood_in_words(distance: float, drawn: float, log10: float) -> str:
    """Say how far a chip lies, see `models.WorstLikelihood`."""
    # Rounded so that the sentence never says less than the bound.
    share = (
        f"at most one in 10^{math.floor(-log10)}"
        if log10 < -1
        else f"at most {math.ceil(1000 * 10**log10) / 10:g} %"
    )
    return (
        f"The worst chip found lies {distance:.4g} standard deviations from the chip without"
        f" deviation, a drawn chip about {drawn:.4g}. Of drawn chips, {share} reach as far in its"
        " direction, if the profile is right."
    )


def _variances(tensor: TensorPlacement) -> Float64[np.ndarray, "weights"]:
    """Return the variance of every weight that its devices give it, float64 [num_weights]."""
    one_level = level_sigma(tensor.profile)
    return np.asarray((level_weights(tensor) ** 2).sum(axis=0) * one_level**2, dtype=np.float64)


def level_sigma(profile: DeviceProfile) -> float:
    """Return the standard deviation of a device by its profile, in units of its levels."""
    device = profile.device
    # A uniform deviation is no heavier than a Gaussian one of its own variance: sinh(x)/x <=
    # exp(x^2/6).
    sigma = (
        _number(device.tolerance) / math.sqrt(3)
        if device.distribution == "uniform"
        else _number(device.sigma)
    )
    return (device.num_levels - 1) * sigma


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def unfit(profile: DeviceProfile) -> str | None:
    """Return why deviations of a profile are not centred, alike at all levels and at most Gaussian.

    None where they are.
    """
    device = profile.device
    if device.distribution not in ("gaussian", "truncated_gaussian", "uniform"):
        return f"the profile draws from a distribution of its own ({device.distribution})"
    effects = [
        name
        for name, acts in (
            ("relaxation", profile.relaxation is not None),
            ("drift", profile.has_drift),
            ("stuck devices", profile.has_faults),
            ("clipping to the window", profile.clips),
            ("deviations that depend on the level", profile.depends_on_level),
            ("a tolerance of two sides", device.tolerance_low is not None),
        )
        if acts
    ]
    return f"the profile has {' and '.join(effects)}" if effects else None
