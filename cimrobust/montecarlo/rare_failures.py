"""How likely a chip that fails is, where none is ever drawn.

Repeats of multilevel splitting, put together with an interval.

Model-based, unlike the bounds of drawn chips: it believes the stated distribution far into its
tails, and that the Markov chain mixes. Repeats and their spread are stated for that
reason, and the interval is widened where they disagree more than ideal ones would.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import gammaincinv, log_ndtr, ndtr, ndtri

from cimrobust.montecarlo.montecarlo_records import FirstOrderProbability

if TYPE_CHECKING:
    from cimrobust.array_shapes import Float64
    from cimrobust.montecarlo.splitting import Repeat


@dataclass(frozen=True)
class Probability:
    """Estimate of a small probability.

    Attributes:
        estimate: Mean of the repeats; None: the event was not reached.
        low: Lower end of the interval; 0 where the event was not reached.
        high: Upper end.
        confidence: Of the interval, two-sided, for ideal repeats; not distribution-free.
        widened: Factor by which the interval was widened, on the scale of logarithms, because
            repeats differ more than ideal ones would; 1: it was not.
        reason: Why the event was not reached; empty where it was.
    """

    estimate: float | None
    low: float
    high: float
    confidence: float
    widened: float
    reason: str

    @property
    def reliability_index(self) -> float | None:
        """Return ``-Phi^-1(p)``; None: the event was not reached.

        It compares with the distance of the most probable failing chip.
        """
        return None if self.estimate is None else float(-ndtri(self.estimate))


def pool(runs: Sequence[Repeat], *, confidence: float = 0.95) -> Probability:
    """Put independent repeats together.

    With points that are independent at every level, the departures before the event come at
    exponential times whose rates are known, time being ``-ln p``; those of R repeats add up. So ``R
    (-ln p)`` lies between the sum of the times of the departures that were seen and the same with
    one more a repeat, whose distribution is a sum of exponential variables, here a Gamma with its
    mean and variance (exact for one departure at a time: ``k ~ Poisson(-N ln p)``). Where repeats
    differ by more than that explains, both ends move away from the estimate by the ratio of the
    standard deviations.

    References:
        A. Guyader, N. Hengartner, E. Matzner-Lober, "Simulation and estimation of extreme quantiles
        and extreme probabilities", Appl. Math. Optim. 64, 2011 (the times; the Poisson number).
        A. Renyi, "On the theory of order statistics", Acta Math. Hung. 4, 1953 (independent
        exponential gaps, with the number of points left as their rates).

    Args:
        runs: At least one.
        confidence: Of the interval.
    """
    tail = 0.5 * (1.0 - confidence)
    seen = [rate for run in runs for rate in run.rates]
    times = (
        _time_quantile(seen, tail) / len(runs),
        _time_quantile([*seen, *(run.next_rate for run in runs)], 1.0 - tail) / len(runs),
    )
    logs = np.array([run.log_probability for run in runs])
    middle = -float(logs.mean())
    widened = _disagreement(logs, seen)
    shortest = max(middle - widened * (middle - times[0]), 0.0)
    longest = middle + widened * (times[1] - middle)
    reason = "; ".join(dict.fromkeys(run.reason for run in runs if run.reason))
    return Probability(
        estimate=None if reason else float(np.exp(logs).mean()),
        low=0.0 if reason else math.exp(-longest),
        high=math.exp(-shortest),
        confidence=confidence,
        widened=widened,
        reason=reason,
    )


def first_order(reliability_index: float, found: Probability) -> FirstOrderProbability:
    """Compare the most probable failing chip with what splitting found.

    Args:
        reliability_index: Norm of the chip, every device in units of its standard normal latent.
        found: The estimate.
    """
    probability = float(ndtr(-reliability_index))
    inside = found.low <= probability <= found.high
    return FirstOrderProbability(
        reliability_index=reliability_index,
        probability=probability,
        log10_probability=float(log_ndtr(-reliability_index)) / math.log(10.0),
        ratio=None if found.estimate is None else probability / found.estimate,
        agrees=None if found.estimate is None and inside else inside,
    )


def _time_quantile(rates: Sequence[int], probability: float) -> float:
    """Return a quantile of a sum of exponential times.

    An exponential time of rate N has mean 1/N and variance 1/N^2. The Gamma with the mean m and the
    variance v of the sum has shape m^2 / v and scale v / m; exact where all rates are equal.
    """
    if not rates:
        return 0.0
    inverse = 1.0 / np.asarray(rates, dtype=np.float64)
    mean, variance = float(inverse.sum()), float((inverse**2).sum())
    return float(gammaincinv(mean**2 / variance, probability)) * (variance / mean)


def _disagreement(logs: Float64[np.ndarray, "repeats"], rates: Sequence[int]) -> float:
    """Return by how much repeats disagree more than ideal ones, at least 1.

    The factor by which the standard deviation of the mean of repeats exceeds that of ideal ones.
    """
    if logs.size < 2 or not rates:
        return 1.0
    ideal = math.sqrt(float((1.0 / np.asarray(rates, dtype=np.float64) ** 2).sum())) / logs.size
    return max(1.0, float(logs.std(ddof=1)) / math.sqrt(logs.size) / ideal)
