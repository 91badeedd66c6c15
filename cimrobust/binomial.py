"""Probabilities of a count, and of what it was drawn with.

By SciPy's special functions alone, the same to the last bit as by `scipy.stats`, which takes longer
to import than a certificate takes to be checked.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import betainc, betaincinv


def at_least(num_events: Any, num_trials: Any, probability: float) -> Any:
    """Return ``P(Bin(num_trials, probability) >= num_events)``.

    That is the regularised incomplete beta function ``I_p(S, n - S + 1)``.

    Args:
        num_events: S, at least 1; a number or an array.
        num_trials: n, a number or an array.
        probability: p, in [0, 1].

    Returns:
        float64, of the shape of the arguments.
    """
    events, trials = np.asarray(num_events, np.float64), np.asarray(num_trials, np.float64)
    possible = events <= trials
    rest = np.where(possible, trials - events + 1.0, 1.0)
    return np.where(possible, betainc(events, rest, probability), 0.0)[()]


def beta_quantile(probability: float, a: float, b: float) -> float:
    """Return the quantile of the beta distribution with parameters a and b, both above 0."""
    return float(betaincinv(a, b, probability))


def sign_test(num_first: int, num_second: int) -> float:
    """Return the two-sided probability of so uneven a split of a fair coin's throws.

    Args:
        num_first: Throws of the one side.
        num_second: Throws of the other; one of both is above 0.
    """
    throws, most = num_first + num_second, max(num_first, num_second)
    return 1.0 if 2 * most == throws else min(1.0, 2.0 * float(at_least(most, throws, 0.5)))
