"""The largest tolerance that meets a requirement, in three senses that must not be confused.

*Unrefuted*: a search found no chip that misses it; proves nothing of chips that were not tried.
*Statistical*: all but one percent of drawn chips meet it, at
the stated confidence. *Certified*: every chip meets it, by proof.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from cimrobust.attack.bisection import bisect
from cimrobust.montecarlo.quantile import needed_trials
from cimrobust.montecarlo.trial_table import TrialTable, kpp
from cimrobust.seeds import stream_key
from cimrobust.tolerance_sweep.safe_result import CONFIDENCE, PERCENT, SafeTolerance
from cimrobust.tolerance_sweep.sweep_tolerances import (
    SweepContext,
    adopt,
    attack_at,
    draw_chips,
    prove,
    search_at,
)
from cimrobust.tolerance_sweep.worst_at_tolerance import Proof, Worst

Entry = TypeVar("Entry")

_STEPS, _RESOLUTION = 5, 0.05
# Fresh sets of chips that a statistical claim may be tried on; the error is shared out as a half, a
# quarter and an eighth.
_FRESH_TESTS = 3


def largest_unrefuted(
    sweep: SweepContext, worst: Sequence[Worst], required: float
) -> SafeTolerance:
    """Return the largest tolerance at which no search found a chip that misses the requirement.

    The search is that of every tolerance of the sweep.
    """
    known = {entry.tolerance: entry for entry in worst}

    def holds(tolerance: float) -> bool:
        if tolerance not in known:
            known[tolerance] = _worst_between(sweep, known, tolerance, required)
        return _met(sweep, known[tolerance].score.value, required)

    return _edge(
        holds,
        [entry.tolerance for entry in worst],
        "a chip that misses it was found at every tolerance tried",
    )


def largest_certified(
    sweep: SweepContext, worst: Sequence[Worst], proofs: Mapping[float, Proof], required: float
) -> SafeTolerance:
    """Return the largest tolerance at which the requirement is proven for every chip."""
    known = dict(proofs)
    if all(proof.score is None for proof in known.values()):
        return SafeTolerance(None, None, next(iter(known.values())).reason, ())

    def holds(tolerance: float) -> bool:
        if tolerance not in known:
            below, above = _neighbours(known, tolerance)
            chip = min(
                (entry for entry in worst if entry.tolerance >= tolerance),
                key=lambda entry: entry.tolerance,
            )
            found = _zero_chip(chip, tolerance)
            known[tolerance] = prove(sweep, found, below=below, above=above)
        score = known[tolerance].score
        return score is not None and _met(sweep, score.value, required)

    return _edge(holds, sorted(proofs), "the bound meets it at no tolerance tried")


def largest_statistical(
    sweep: SweepContext, tables: Mapping[float, TrialTable], required: float, trials: int
) -> SafeTolerance:
    """Return the largest tolerance at which all but one percent of chips meet the requirement.

    Chips drawn for the sweep and a bisection say where to look. The claim itself is tested on fresh
    chips, which had no say in the choice; where it fails, on further ones at the next smaller
    tolerance, with the error shared out so that the whole procedure is wrong with probability 5 %
    at most.
    """
    known = dict(tables)

    def holds(tolerance: float) -> bool:
        if tolerance not in known:
            known[tolerance] = draw_chips(sweep, tolerance, trials=trials)
        bound = kpp(known[tolerance], PERCENT, CONFIDENCE).bound
        return bound is not None and _met(sweep, bound, required)

    if trials < needed_trials(PERCENT, CONFIDENCE):
        needed = needed_trials(PERCENT, CONFIDENCE)
        return SafeTolerance(
            None,
            None,
            f"{trials} trials give no bound of the 1st percentile; {needed} are needed (--trials)",
            (),
        )
    explored = _edge(
        holds, sorted(tables), "the bound of the 1st percentile misses it at every tolerance tried"
    )
    if explored.tolerance is None:
        return explored
    candidates = [
        tolerance
        for tolerance in sorted(known, reverse=True)
        if tolerance <= explored.tolerance and holds(tolerance)
    ]
    fails_at = explored.fails_at
    for test, tolerance in enumerate(candidates[:_FRESH_TESTS], start=1):
        confidence = 1 - (1 - CONFIDENCE) / 2**test
        count = max(trials, needed_trials(PERCENT, confidence))
        seed = stream_key(sweep.run.seed, "sweep", "fresh chips", test) % 2**31
        bound = kpp(
            draw_chips(sweep, tolerance, trials=count, seed=seed), PERCENT, confidence
        ).bound
        if bound is not None and _met(sweep, bound, required):
            return SafeTolerance(tolerance, fails_at, "", explored.tried, count, confidence)
        fails_at = tolerance
    return SafeTolerance(
        None,
        fails_at,
        f"fresh chips did not confirm it at {_FRESH_TESTS} tolerances",
        explored.tried,
    )


def tried_between(
    holds: Callable[[float], bool], low: float, high: float
) -> tuple[float, float, tuple[float, ...]]:
    """Look for the edge of a claim between two tolerances.

    Args:
        holds: Whether it holds at a tolerance.
        low: It holds here; 0 where no tolerance is known at which it does.
        high: It does not hold here.

    Returns:
        The largest tolerance known to hold, the smallest known not to, and those that were tried,
        ascending.
    """
    tried: list[float] = []

    def noted(tolerance: float) -> bool:
        tried.append(tolerance)
        return holds(tolerance)

    low, high = bisect(noted, low=low, high=high, steps=_STEPS, resolution=_RESOLUTION)
    return low, high, tuple(sorted(tried))


def _edge(holds: Callable[[float], bool], grid: Sequence[float], none: str) -> SafeTolerance:
    """Find the edge of a claim on the tolerances of the sweep, then between them."""
    fails = min((tolerance for tolerance in grid if not holds(tolerance)), default=None)
    if fails is None:
        return SafeTolerance(max(grid), None, "", ())
    low, high, tried = tried_between(
        holds, max((tolerance for tolerance in grid if tolerance < fails), default=0.0), fails
    )
    return SafeTolerance(low or None, high, "" if low else none, tried)


def _worst_between(
    sweep: SweepContext, known: Mapping[float, Worst], tolerance: float, required: float
) -> Worst:
    """Return the worst chip at a tolerance between others.

    By a short attack if that refutes the requirement, else by a whole search.
    """
    near = [entry for entry in _neighbours(known, tolerance) if entry is not None]
    attack, context = attack_at(sweep, tolerance, near)
    if not _met(sweep, attack.score.value, required):
        blank = Worst(
            tolerance,
            context.subject.runtime.nominal,
            context.subject.runtime.nominal,
            "",
            context.subject.box.zero(),
            attack.passes,
            attack.runs,
            "",
            (),
            True,
        )
        return adopt(context, blank, attack)
    found = search_at(sweep, tolerance, near)
    return adopt(context, found, attack)


def _neighbours(
    known: Mapping[float, Entry], tolerance: float
) -> tuple[Entry | None, Entry | None]:
    """Return what is known at the next smaller and the next larger tolerance."""
    below = max((other for other in known if other < tolerance), default=None)
    above = min((other for other in known if other > tolerance), default=None)
    return (None if below is None else known[below]), (None if above is None else known[above])


def _zero_chip(chip: Worst, tolerance: float) -> Worst:
    """Return the chip without deviation, which is one of every tolerance.

    What is proven needs no bad chip to be tried.
    """
    pattern = {name: 0 * deviation for name, deviation in chip.pattern.items()}
    return Worst(tolerance, chip.score, chip.file_score, "", pattern, 0, 0, "", (), chip.has_twin)


def _met(sweep: SweepContext, value: float, required: float) -> bool:
    return value >= required if sweep.subject.runtime.task.higher_is_better else value <= required
