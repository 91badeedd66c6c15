"""First order beside splitting in words, and why there is no most probable failing chip."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

from cimrobust.certificate.blocks.likely_block import compared, power_of_ten
from cimrobust.certificate.blocks.rare_block import rare_event
from cimrobust.montecarlo.failing import RareFailures
from cimrobust.montecarlo.rare_failures import Probability
from cimrobust.montecarlo.splitting import Repeat, Splitting

REACHED = Probability(1e-6, 5e-7, 2e-6, 0.95, 1.0, "")
NO_CHIP: Any = SimpleNamespace(chip=None, reason="nothing was found")
BEYOND = Probability(None, 0.0, 1e-9, 0.95, 1.0, "the budget was spent")


@pytest.mark.parametrize(
    ("norm", "found", "agrees", "said"),
    [
        (4.75, REACHED, True, "lies in the interval of splitting."),
        (6.0, REACHED, False, "lies below the interval of splitting, by a factor of"),
        (3.0, REACHED, False, "lies above the interval of splitting, by a factor of"),
        (9.0, BEYOND, None, "Not comparable: splitting did not reach the event"),
        (3.0, BEYOND, False, "is wrong here: splitting did not reach the event"),
    ],
)
def test_first_order_is_believed_no_more_than_splitting(
    norm: float, found: Probability, agrees: bool | None, said: str
) -> None:
    made = compared(norm, found, 400)
    assert made.agrees is agrees
    assert said in made.comparison
    assert "a norm of about 20, the root of 400 devices" in made.meaning
    assert made.reliability_index == norm


def rare(found: Probability) -> RareFailures:
    run = Repeat(math.log(1e-6), found.reason, (100,) * 50, 100, (), 500, 0.3, None)
    return RareFailures(0.9, 5, 50, 400, Splitting(), 0, (run, run), found)


@pytest.mark.parametrize(
    ("certified", "higher", "reason"),
    [
        (
            0.9,
            True,
            "no chip fails: every chip within the tolerance is certified to score at least",
        ),
        (
            0.9,
            False,
            "no chip fails: every chip within the tolerance is certified to score at most",
        ),
        (0.89, True, "nothing was found"),
        (0.91, False, "nothing was found"),
        (None, True, "nothing was found"),
    ],
)
def test_a_proof_is_the_reason_that_no_chip_fails(
    certified: float | None, higher: bool, reason: str
) -> None:
    made = rare_event(rare(REACHED), higher_is_better=higher, search=NO_CHIP, certified=certified)
    assert made.most_probable is None
    assert (made.most_probable_reason or "").startswith(reason)
    assert made.first_order_reason == made.most_probable_reason


def test_statements_say_what_is_known() -> None:
    reached = rare_event(rare(REACHED), higher_is_better=True)
    assert reached.statement == (
        "A chip below 0.9 on these samples has probability 1e-06, between 5e-07 and 2e-06 at 95 %"
        " confidence (1000 chips in 2 repeats)."
    )
    assert "not searched for (--skip-most-probable)" in (reached.most_probable_reason or "")
    beyond = rare_event(rare(BEYOND), higher_is_better=False)
    assert beyond.statement == (
        "A chip above 0.9 is rarer than 1e-09: not reached with 1000 chips in 2 repeats, because"
        " the budget was spent."
    )
    assert (power_of_ten(-3.0), power_of_ten(-334.4)) == ("0.001", "10^-334")
