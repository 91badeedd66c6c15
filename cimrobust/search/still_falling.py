"""Telling that a search ended with its passes, not because more did not help."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cimrobust.search.search_records import Warned

if TYPE_CHECKING:
    from cimrobust.search.pass_ledger import PassLedger
    from cimrobust.search.search_budget import Budget

# Share of the passes at the end that are looked at, about those of continuation at `quick`, and
# the share of the score that they must have gained: what a round of continuation has to gain for
# another one to follow.
_END = 0.25
_WORTHWHILE = 0.01
# Decisions that they must have turned at least: fewer turn by chance.
_DECISIONS = 3
# Passes that may be left over: shares are whole numbers.
_ROUNDED_OFF = 4


def falling_warnings(ledger: PassLedger, budget: Budget) -> list[Warned]:
    """Warn where the last passes of a search that used all it had still found worse patterns.

    A search that stops early does so since more passes did not help, or nothing is left to break.

    Args:
        ledger: What the search spent and found.
        budget: What it was given.
    """
    trace = ledger.trace
    if ledger.left > _ROUNDED_OFF or ledger.nothing_left or len(trace) < 2:
        return []
    begin = ledger.passes - max(int(_END * ledger.passes), 1)
    before = [point.score for point in trace if point.passes <= begin]
    if not before:
        return []
    first, last = before[-1], trace[-1].score
    gain = abs(first - last)
    if gain < _WORTHWHILE * abs(first):
        return []
    task = ledger.task
    if not task.is_regression and round(gain * task.num_decisions) < _DECISIONS:
        return []
    said = f"{first:.4g} to {last:.4g}" + (
        "" if task.is_regression else " of the decisions correct"
    )
    return [
        Warned(
            code="STILL_FALLING",
            text=(
                f"The search used all of its {ledger.passes} passes (effort {budget.effort}) while"
                f" it still found worse patterns: in the last {ledger.passes - begin} it came from"
                f" {said} on the crafting samples. A higher --effort may find worse ones."
            ),
        )
    ]
