"""How likely a failing chip is: what the numbers of the repeats alone tell of the whole."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from scipy.special import log_ndtr, ndtr, ndtri

from cimrobust.certificate.blocks.rare_block import FORMULA, LABEL, rare_in_words
from cimrobust.data.failure import wrong_needed
from cimrobust.review.differences import named
from cimrobust.review.record_checks import is_of_today
from cimrobust.review.replay_check import ReplayCheck

if TYPE_CHECKING:
    from cimrobust.certificate.models import CertificateModel
    from cimrobust.certificate.models.chips import RareEvent

# Functions of the normal distribution from another build of a library.
_RTOL = 1e-9
# That of the interval.
_CONFIDENCE = 0.95


def rare_check(certificate: CertificateModel) -> Iterator[ReplayCheck]:
    """Check estimate, interval and first-order probability of rare failures against each other.

    Nothing where there are none.

    The repeats themselves are derived by a new run alone.
    """
    rare = certificate.monte_carlo.rare
    if rare is None:
        return
    wrong = [*_wrong(rare), *_wrong_event(certificate, rare), *_wrong_repeats(rare)]
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


def _wrong_event(certificate: CertificateModel, rare: RareEvent) -> Iterator[str]:
    """Yield what the event has otherwise than the certificate that it is of."""
    place, mapping = "monte_carlo.rare", certificate.mapping
    is_share = certificate.metric.unit == "fraction"
    if rare.decisions != certificate.clean.samples:
        yield f"{place}.decisions"
    expected = wrong_needed(rare.decisions, rare.threshold) if is_share else None
    if rare.wrong_decisions != expected:
        yield f"{place}.wrong_decisions"
    # Devices of reference columns are not drawn.
    drawn = sum(math.prod(layer.shape) * layer.cells_per_weight for layer in mapping.layers)
    if rare.devices != drawn:
        yield f"{place}.devices"
    if rare.seed != certificate.monte_carlo.seed:
        yield f"{place}.seed"
    given = [row.value for row in certificate.settings if row.key == "rare-budget"]
    if any(value not in (None, rare.budget) for value in given):  # None: the default
        yield f"{place}.budget"
    if is_of_today(certificate, certificate.tool):
        higher = certificate.metric.higher_is_better
        words = (rare_in_words(rare, higher_is_better=higher), FORMULA, LABEL)
        if (rare.statement, rare.formula, rare.label) != words:
            yield f"{place}.statement"


def _wrong_repeats(rare: RareEvent) -> Iterator[str]:
    """Yield where the interval, or a repeat, is not one of so many levels and chips."""
    place, kept = "monte_carlo.rare", 1 - rare.killed / max(rare.particles, 1)
    if rare.confidence != _CONFIDENCE:
        yield f"{place}.confidence"
    if rare.probability is None and (rare.low != 0 or rare.reliability_index is not None):
        yield f"{place}.low"
    if rare.widened < 1 or (rare.reason is None) is not rare.reached:
        yield f"{place}.widened"
    for index, row in enumerate(rare.repeats):
        replaced, rest = divmod(row.evaluations - rare.particles, max(rare.moves, 1))
        ties = replaced - row.levels * rare.killed
        if rest or ties < 0:
            yield f"{place}.repeats.{index}.evaluations"
        # Every level keeps a share of the chips; ties at a level leave fewer, the last population
        # counts by the share that fails.
        least = kept**row.levels * max(kept - ties / max(rare.particles, 1), 0.0)
        if not least * (1 - _RTOL) <= row.probability <= kept**row.levels * (1 + _RTOL):
            yield f"{place}.repeats.{index}.probability"
    # The interval is around the mean of logarithms, whatever the times that it is made of.
    logs = [math.log(row.probability) for row in rare.repeats if row.probability > 0]
    if logs and not rare.low <= math.exp(sum(logs) / len(logs)) <= rare.high * (1 + _RTOL):
        yield f"{place}.high"


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
    inside = rare.low <= found.probability <= rare.high
    if found.agrees is not (None if rare.probability is None and inside else inside):
        yield f"{place}.agrees"
    if (
        found.ratio is not None
        and rare.probability
        and not _close(found.ratio, found.probability / rare.probability)
    ):
        yield f"{place}.ratio"


def _close(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=_RTOL, abs_tol=1e-300)
