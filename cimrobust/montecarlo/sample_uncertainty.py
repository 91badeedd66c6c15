"""What a finite evaluation set says about the distribution its samples were drawn from.

Chips are given here, not drawn.

Samples are independent draws. With one decision a sample the number of right decisions is binomial,
and the bounds are exact (Clopper, Pearson 1934). With several decisions a sample, or an accuracy
averaged over several chips, every sample contributes a fraction in [0, 1], and the bounds are those
of Hoeffding's first inequality; where samples have different numbers of decisions, the accuracy is
a ratio of two means, and the inequality is applied to right decisions minus q times decisions for
every q.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy.special import rel_entr

from cimrobust.bracketed_root import bracketed_root
from cimrobust.errors import UsageError
from cimrobust.montecarlo.quantile import clopper_pearson_lower, clopper_pearson_upper

EXACT = "Clopper-Pearson"
HOEFFDING = "Chernoff-Hoeffding"


@dataclass(frozen=True)
class Interval:
    """Two-sided confidence interval of an accuracy.

    Attributes:
        low: Lower end.
        high: Upper end.
        confidence: Of the interval; each end alone is broken with half of what is left.
        num_inputs: Independent samples.
        method: `EXACT` or `HOEFFDING`.
    """

    low: float
    high: float
    confidence: float
    num_inputs: int
    method: str


def accuracy_interval(
    accuracy: float,
    *,
    num_decisions: int,
    num_inputs: int,
    most: int | None = None,
    confidence: float = 0.95,
    is_average: bool = False,
) -> Interval:
    """Return the interval that the true accuracy of a fixed network lies in.

    Args:
        accuracy: Fraction of right decisions on the evaluation set.
        num_decisions: Decisions it counts.
        num_inputs: Independent samples they were made on, each with at least one decision.
        most: Decisions that a sample may have; None: each has as many as any other.
        confidence: Of the interval.
        is_average: The accuracy is the mean over several fixed networks on the same samples.
    """
    level = 0.5 + 0.5 * confidence
    exact = _one_each(num_decisions, num_inputs, most) and not is_average
    if exact:
        right = round(accuracy * num_inputs)
        low, high = (
            clopper_pearson_lower(right, num_inputs, level),
            clopper_pearson_upper(right, num_inputs, level),
        )
    else:
        fill = _fill(num_decisions, num_inputs, most)
        low = hoeffding_lower(accuracy, num_inputs, level, fill=fill)
        high = 1.0 - hoeffding_lower(1.0 - accuracy, num_inputs, level, fill=fill)
    return Interval(low, high, confidence, num_inputs, EXACT if exact else HOEFFDING)


def accuracy_lower(
    accuracy: float,
    *,
    num_decisions: int,
    num_inputs: int,
    confidence: float,
    most: int | None = None,
) -> float:
    """Return the one-sided lower bound of the true accuracy of a fixed network.

    Arguments as for `accuracy_interval`.
    """
    if _one_each(num_decisions, num_inputs, most):
        return clopper_pearson_lower(round(accuracy * num_inputs), num_inputs, confidence)
    return hoeffding_lower(
        accuracy, num_inputs, confidence, fill=_fill(num_decisions, num_inputs, most)
    )


def method_of(num_decisions: int, num_inputs: int, most: int | None) -> str:
    """Return the method of `accuracy_lower`; arguments as for `accuracy_interval`."""
    return EXACT if _one_each(num_decisions, num_inputs, most) else HOEFFDING


def _one_each(num_decisions: int, num_inputs: int, most: int | None) -> bool:
    return num_decisions == num_inputs and most in (None, 1)


def _fill(num_decisions: int, num_inputs: int, most: int | None) -> float:
    """Return how many of the decisions that samples may have they have."""
    return (
        1.0
        if most is None or num_decisions == num_inputs * most
        else num_decisions / (num_inputs * most)
    )


def hoeffding_lower(mean: float, num_inputs: int, confidence: float, *, fill: float = 1.0) -> float:
    """Return the lower bound of an expectation in [0, 1] from the mean of independent draws.

    It is the smallest q below the mean with ``n KL(mean, q) <= ln(1 / (1 - confidence))``, KL the
    divergence of two Bernoulli variables; tighter near 0 and 1 than the better known ``mean -
    sqrt(ln(1/alpha) / 2n)``, which follows from it.

    Where sample i has N_i of at most M decisions, R_i of them right, the accuracy is ``q = E R / E
    N``. Then ``(R - q N + q M) / M`` is in [0, 1] with expectation q, and its mean
    over the samples is ``q + (a - q) f``, with a the observed accuracy and f the share of decisions
    there are; the bound is the smallest q with ``n KL(q + (a - q) f, q) <= ln(1 / (1 -
    confidence))``. The left side falls as q rises to a, so no smaller q is allowed.

    Args:
        mean: Mean of the draws, in [0, 1].
        num_inputs: Draws.
        confidence: Of the bound.
        fill: f, in (0, 1]; 1: every sample has as many decisions as any other.

    Raises:
        UsageError: The mean is outside [0, 1], or there is no draw.

    References:
        W. Hoeffding, "Probability inequalities for sums of bounded random variables", JASA 58,
        1963, theorem 1.
    """
    if not 0.0 <= mean <= 1.0 or num_inputs < 1:
        raise UsageError(
            f"mean must be in [0, 1] over at least one sample, got {mean} over {num_inputs}"
            " (statistics); count again"
        )
    if mean == 0.0:
        return 0.0
    allowed = math.log(1.0 / (1.0 - confidence)) / num_inputs

    def excess(log_q: float) -> float:
        q = math.exp(log_q)
        seen = q * (1.0 - fill) + mean * fill
        return seen * (math.log(seen) - log_q) + float(rel_entr(1.0 - seen, 1.0 - q)) - allowed

    # There the first term alone is too large, whatever the second, which is never below -1.
    smallest = math.log(mean * fill) - (allowed + 2.0) / (mean * fill)
    return (
        math.exp(bracketed_root(excess, smallest, math.log(mean), xtol=1e-13))
        if smallest > -700.0
        else 0.0
    )
