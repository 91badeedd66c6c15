"""How likely a failing chip is: what the numbers of the repeats alone tell of the whole."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from scipy.special import log_ndtr, ndtr, ndtri

from cimrobust.review.differences import named
from cimrobust.review.replay_check import ReplayCheck

if TYPE_CHECKING:
    from cimrobust.certificate.models import CertificateModel
    from cimrobust.certificate.models.chips import RareEvent

# Functions of the normal distribution from another build of a library.
_RTOL = 1e-9


def rare_check(certificate: CertificateModel) -> Iterator[ReplayCheck]:
    """Check estimate, interval and first-order probability of rare failures against each other.

    Nothing where there are none.

    The repeats themselves are derived by a new run alone.
    """
    rare = certificate.monte_carlo.rare
    if rare is None:
        return
    wrong = list(_wrong(rare))
    fine = "the probability is the mean of its repeats and lies in its interval"
    yield ReplayCheck(
        "rare_numbers", not wrong, fine if not wrong else f"contradicted at {named(wrong)}"
    )


def _wrong(rare: RareEvent) -> Iterator[str]:
    repeats, place = rare.repeats, "monte_carlo.rare"
    reached = bool(repeats) and all(row.reached for row in repeats)
    if rare.reached is not reached or (rare.probability is None) is reached:
        yield f"{place}.reached"
    if not rare.low <= rare.high:
        yield f"{place}.low"
    if any(row.evaluations > rare.budget for row in repeats):
        yield f"{place}.budget"
    if rare.probability is not None and repeats:
        if not _close(rare.probability, sum(row.probability for row in repeats) / len(repeats)):
            yield f"{place}.probability"
        if not rare.low <= rare.probability <= rare.high:
            yield f"{place}.low"
        if rare.reliability_index is None or not _close(
            rare.reliability_index, float(-ndtri(rare.probability))
        ):
            yield f"{place}.reliability_index"
    yield from _wrong_first_order(rare, f"{place}.first_order")


def _wrong_first_order(rare: RareEvent, place: str) -> Iterator[str]:
    found = rare.first_order
    if found is None:
        return
    if rare.most_probable is None or not _close(
        found.reliability_index, rare.most_probable.reliability_index
    ):
        yield f"{place}.reliability_index"
    if not _close(found.probability, float(ndtr(-found.reliability_index))):
        yield f"{place}.probability"
    if not _close(
        found.log10_probability, float(log_ndtr(-found.reliability_index)) / math.log(10)
    ):
        yield f"{place}.log10_probability"
    if (
        found.ratio is not None
        and rare.probability
        and not _close(found.ratio, found.probability / rare.probability)
    ):
        yield f"{place}.ratio"


def _close(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=_RTOL, abs_tol=1e-300)
