"""Chips and samples both drawn: what the trials say beyond the samples they were run on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cimrobust.montecarlo.anytime import anytime_rank, needed_anytime
from cimrobust.montecarlo.quantile import bound_rank, needed_trials, worst_first
from cimrobust.montecarlo.sample_uncertainty import EXACT, HOEFFDING, accuracy_lower

if TYPE_CHECKING:
    from cimrobust.array_shapes import Real


@dataclass(frozen=True)
class TwoSourceBound:
    """What the trials say about the distribution that the evaluation samples were drawn from.

    Attributes:
        k: Percentage of chips that may be worse.
        confidence: Confidence of the statement as a whole.
        bound: The k-th percentile over chips of the true accuracy is at least this; None: too few
            trials.
        observed: Order statistic of the trials it starts from; None: too few trials.
        rank: Rank of that trial, 1 = worst; 0: too few trials.
        spared: gamma, the part of k / 100 that is given to chips whose own bound is broken.
        chip_error: a1, probability that the order statistic is above the percentile it bounds.
        sample_error: a2, probability that the bound is broken for more than the fraction gamma of
            all chips.
        method: How the accuracy of one chip is bounded, `EXACT` or `HOEFFDING`.
        num_trials: Trials used.
        num_inputs: Independent evaluation samples.
        needed_trials: Fewest trials that give any bound.
    """

    k: float
    confidence: float
    bound: float | None
    observed: float | None
    rank: int
    spared: float
    chip_error: float
    sample_error: float
    method: str
    num_trials: int
    num_inputs: int
    needed_trials: int


def two_source_bound(
    accuracies: Real[np.ndarray, "trials"],
    *,
    num_decisions: int,
    num_inputs: int | None = None,
    most: int | None = None,
    k: float = 1.0,
    confidence: float = 0.95,
    is_sequential: bool = False,
) -> TwoSourceBound:
    """Bound the k-th percentile over chips of the *true* accuracy, with samples drawn too.

    Both chips and evaluation samples are drawn. All chips are judged on the same samples, so the
    two must not be pooled. For one chip, the lower bound L of its true accuracy at level
    ``a2 gamma`` is broken with at most that probability over the samples; by Fubini and Markov,
    with probability ``1 - a2`` it is broken for at most the fraction gamma of all chips. So with
    probability ``1 - a1 - a2`` the k-th percentile of the true accuracy is at least ``L(a_(r))``,
    with r the bound rank at ``k/100 - gamma`` and confidence ``1 - a1``. Here gamma = k/200 and a1
    = a2 = (1 - confidence)/2.

    Args:
        accuracies: Accuracy of every trial on the same samples [num_trials].
        num_decisions: Decisions that each of them counts.
        num_inputs: Independent samples they were made on; None: one decision a sample.
        most: Decisions that a sample may have; None: each has as many as any other.
        k: Percentage of chips that may be worse.
        confidence: Confidence of the statement as a whole.
        is_sequential: As in `montecarlo.quantile.kpp_of_scores`.
    """
    independent = num_decisions if num_inputs is None else num_inputs
    spared, error = k / 200.0, (1.0 - confidence) / 2.0
    ordered = worst_first(accuracies, True)
    fraction = k / 100.0 - spared
    rank = (anytime_rank if is_sequential else bound_rank)(ordered.size, fraction, 1.0 - error)
    observed = float(ordered[rank - 1]) if rank else None
    bound = None
    if observed is not None:
        level = 1.0 - error * spared
        bound = accuracy_lower(
            observed,
            num_decisions=num_decisions,
            num_inputs=independent,
            confidence=level,
            most=most,
        )
    return TwoSourceBound(
        k=k,
        confidence=confidence,
        bound=bound,
        observed=observed,
        rank=rank,
        spared=spared,
        chip_error=error,
        sample_error=error,
        method=EXACT if independent == num_decisions and most in (None, 1) else HOEFFDING,
        num_trials=ordered.size,
        num_inputs=independent,
        needed_trials=(
            needed_anytime(fraction, 1.0 - error)
            if is_sequential
            else needed_trials(100.0 * fraction, 1.0 - error)
        ),
    )
