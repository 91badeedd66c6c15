"""What attacks start from, consist of, and end with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cimrobust.attack.attack import _after, known_candidates, worst_on_all
from cimrobust.attack.attack_context import AttackContext
from cimrobust.attack.attack_plan import FULL_ATTACK, AttackPlan
from cimrobust.attack.subject_parts import restricted
from cimrobust.engine.subject import Subject
from cimrobust.run import Run


@pytest.fixture
def context(small) -> AttackContext:
    return AttackContext(Subject(*small), Run(effort="quick"))


def test_known_patterns_and_their_corners_are_brought_into_the_box(context):
    box = restricted(context.subject.box, ["w1"])
    far = {name: np.full_like(array, 9.0) for name, array in box.nominal.items()}
    candidates = known_candidates(context.scorer(box), {"far": far})
    assert [candidate.origin for candidate in candidates] == [
        "no deviation",
        "far",
        "far, corner",
    ]
    for name, array in candidates[1].pattern.items():
        np.testing.assert_array_equal(array, box.hi[name])


def test_the_worst_on_all_samples_counts_and_of_equals_the_first(context):
    scorer, runtime, box = context.scorer(), context.subject.runtime, context.subject.box
    zero = known_candidates(scorer, {})[0]
    harm = min(
        (context.steepest(zero.pattern, sample) for sample in range(10)),
        key=lambda pattern: runtime.score(box.weights(pattern)).value,
    )
    harmful = replace(zero, stored=harm, origin="harm")
    again = replace(harmful, origin="again")
    score, output, worst = worst_on_all(scorer.problem, [zero, harmful, again])
    assert worst.origin == "harm"
    assert score == runtime.task.score(output)
    assert score.value < runtime.nominal.value


def test_an_attack_that_goes_on_twice_says_once_after_what(context):
    found = context.attack(replace(FULL_ATTACK, onward=12).scaled(0.5), {})
    assert "after after" not in found.origin
    assert _after("smooth accuracy from zero, corner") == "after smooth accuracy from zero"
    assert _after("after smooth accuracy from zero") == "after smooth accuracy from zero"


def test_an_attack_spends_what_its_plan_grants_and_no_more(context):
    plan = FULL_ATTACK.scaled(0.3)
    found = context.attack(plan, {})
    assert found.passes <= plan.passes
    assert len({climb.origin for climb in plan.climbs(context.scorer().problem)}) > 4


def test_without_passes_nothing_is_worse_than_what_is_known(context):
    found = context.attack(AttackPlan(evaluations=8), {"corner": context.subject.box.hi})
    assert found.passes == 0
    assert found.origin in ("no deviation", "corner", "corner, corner")
    assert found.score.value <= context.subject.runtime.nominal.value


def test_a_longer_plan_keeps_what_is_left_out_left_out():
    longer = AttackPlan(known=2, evaluations=10).scaled(0.1)
    assert (longer.known, longer.zero, longer.evaluations) == (1, 0, 1)
