"""The largest safe tolerances of a sweep, as far as they follow from its points."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from cimrobust.certificate.safe_statements import safe_tolerances
from cimrobust.montecarlo.quantile import needed_trials
from cimrobust.review.differences import Exactness, differences, named
from cimrobust.review.record_checks import is_of_today
from cimrobust.review.replay_check import ReplayCheck
from cimrobust.tolerance_sweep import safe_result as safes
from cimrobust.tolerance_sweep.safe_result import SafeTolerance
from cimrobust.tolerance_sweep.safe_tolerance import tried_between

if TYPE_CHECKING:
    from cimrobust.certificate.models.swept import SafeTolerance as SafeBlock
    from cimrobust.certificate.models.swept import SafeTolerances, SweepModel, SweptPoint


def safe_check(sweep: SweepModel) -> ReplayCheck:
    """Derive again where each claim can hold.

    Between which tolerances of the sweep it ends, what was tried in between, and the sentence.

    Which of those in between meet the requirement is derived by a new run alone.

    Args:
        sweep: The sweep.
    """
    required = next((row.value for row in sweep.settings if row.key == "require"), None)
    if sweep.safe is None:
        return ReplayCheck(
            "safe",
            required is None,
            (
                "no score is required"
                if required is None
                else "a score is required, and nothing is said"
            ),
        )
    if not isinstance(required, int | float) or float(required) != sweep.safe.required:
        return ReplayCheck(
            "safe", False, f"the score required is not that of the settings, {required}"
        )
    wrong = list(_wrong(sweep, sweep.safe))
    fine = "each claim ends where the points of the sweep say"
    return ReplayCheck(
        "safe", not wrong, fine if not wrong else f"other values follow at {named(wrong)}"
    )


def _wrong(sweep: SweepModel, safe: SafeTolerances) -> Iterator[str]:
    higher = sweep.metric.higher_is_better

    def met(score: float | None) -> bool:
        return score is not None and (score >= safe.required if higher else score <= safe.required)

    yield from _wrong_edge(
        "unrefuted", safe.unrefuted, sweep.points, lambda point: met(point.worst_found.score)
    )
    yield from _wrong_edge(
        "certified", safe.certified, sweep.points, lambda point: met(point.certified.score)
    )
    yield from _wrong_statistical(sweep, safe, lambda point: met(_bound(point)))
    if safe.unrefuted.tolerance is None and safe.certified.tolerance is not None:
        yield "safe.certified"
    statistical = safe.statistical
    derived = safe_tolerances(
        safe.required,
        unrefuted=_found(safe.unrefuted),
        statistical=_found(statistical, statistical.fresh_trials, statistical.test_confidence),
        certified=_found(safe.certified),
        metric=sweep.metric.name,
        higher_is_better=higher,
    )
    yield from differences(
        derived, safe, place="safe", exactness=Exactness(texts=is_of_today(sweep, sweep.tool))
    )


def _wrong_edge(
    name: str, claim: SafeBlock, points: Sequence[SweptPoint], holds: Callable[[SweptPoint], bool]
) -> Iterator[str]:
    """Yield what does not follow for a claim found by sweep and bisection.

    It is looked for on the tolerances of the sweep, then by bisection between two of them.
    """
    fails = min((point.tolerance for point in points if not holds(point)), default=None)
    place = f"safe.{name}"
    if fails is None:
        if claim.tolerance != points[-1].tolerance or claim.fails_at is not None or claim.tried:
            yield f"{place}.tolerance"
        return
    below = max((point.tolerance for point in points if point.tolerance < fails), default=0.0)
    has_no_bound = name == "certified" and all(point.certified.score is None for point in points)
    if has_no_bound:
        if (claim.tolerance, claim.fails_at, claim.tried) != (None, None, []):
            yield f"{place}.tolerance"
        return
    tolerance = claim.tolerance or 0.0
    if claim.fails_at is None or not below <= tolerance < claim.fails_at <= fails:
        yield f"{place}.tolerance"
        return
    if not _is_same(claim, *tried_between(lambda value: value <= tolerance, below, fails)):
        yield f"{place}.tried"


def _is_same(claim: SafeBlock, low: float, high: float, tried: Sequence[float]) -> bool:
    found = (claim.tolerance or 0.0, claim.fails_at or 0.0, *claim.tried)
    return len(found) == 2 + len(tried) and all(
        math.isclose(one, other, rel_tol=1e-12)
        for one, other in zip(found, (low, high, *tried), strict=True)
    )


def _wrong_statistical(
    sweep: SweepModel, safe: SafeTolerances, holds: Callable[[SweptPoint], bool]
) -> Iterator[str]:
    """Yield what does not follow for the claim that was tested on fresh chips.

    Nothing in the file shows that test.
    """
    claim = safe.statistical
    if (claim.k, claim.confidence) != (safes.PERCENT, safes.CONFIDENCE):
        yield "safe.statistical.k"
    if claim.tolerance is None:
        return
    fails = min((point.tolerance for point in sweep.points if not holds(point)), default=math.inf)
    if (
        claim.tolerance >= fails
        or claim.tolerance > sweep.points[-1].tolerance
        or (claim.fails_at or math.inf) <= claim.tolerance
    ):
        yield "safe.statistical.tolerance"
    trials = min(point.monte_carlo.trials for point in sweep.points)
    tests = {
        1 - (1 - safes.CONFIDENCE) / 2**test: max(
            trials, needed_trials(safes.PERCENT, 1 - (1 - safes.CONFIDENCE) / 2**test)
        )
        for test in (1, 2, 3)
    }
    if claim.test_confidence is None or claim.fresh_trials != tests.get(claim.test_confidence):
        yield "safe.statistical.fresh_trials"


def _bound(point: SweptPoint) -> float | None:
    return next((row.lower_bound for row in point.monte_carlo.kpp if row.k == safes.PERCENT), None)


def _found(claim: SafeBlock, trials: int = 0, confidence: float | None = None) -> SafeTolerance:
    return SafeTolerance(
        claim.tolerance, claim.fails_at, claim.reason or "", tuple(claim.tried), trials, confidence
    )
