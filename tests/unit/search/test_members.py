"""Members are functions: they return patterns and write into nothing but the ledger."""

from __future__ import annotations

import numpy as np
import pytest

from cimrobust.engine.open import Runtime
from cimrobust.engine.subject import Subject
from cimrobust.mapping.placement import Placement
from cimrobust.run import Run
from cimrobust.search.candidate import Candidate, Earlier
from cimrobust.search.ensemble import search
from cimrobust.search.gradients import open_gradients
from cimrobust.search.members import gradient_free
from cimrobust.search.members.member_list import MEMBERS
from cimrobust.search.members.member_protocol import Member
from cimrobust.search.pass_ledger import PassLedger
from cimrobust.search.problem import Problem
from cimrobust.search.scorer import Scorer
from cimrobust.search.search_budget import budget_of

_BY_NAME = {member.name: member for member in MEMBERS}


@pytest.fixture
def problem(small: tuple[Runtime, Placement]) -> Problem:
    subject, run = Subject(*small), Run(effort="quick")
    return open_gradients(subject, run).problem(subject, run)


def found_by(problem: Problem, member: Member, earlier: Earlier) -> list[Candidate]:
    budget = budget_of("quick")
    scorer = Scorer(problem, PassLedger(problem.task, budget.num_passes))
    return member.run(problem, scorer, budget, earlier)


def test_the_members_run_in_the_order_of_the_certificate() -> None:
    assert list(_BY_NAME) == [
        "random_corners",
        "corner_search",
        "cross_entropy",
        "smooth_accuracy",
        "margin_hinge",
        "dlr",
        "regression_error",
        "carlini_wagner",
        "class_collapse",
        "pair_collapse",
        "cross_fidelity",
        "repeat_after_masking",
        "continuation",
        "fast_run",
    ]


@pytest.mark.parametrize("name", ["random_corners", "smooth_accuracy", "dlr", "class_collapse"])
def test_a_member_run_alone_twice_finds_the_same(problem: Problem, name: str) -> None:
    earlier = Earlier()
    first, second = (found_by(problem, _BY_NAME[name], earlier) for _ in range(2))
    assert earlier == Earlier()
    assert [(c.key, c.origin, c.member) for c in first] == [
        (c.key, c.origin, c.member) for c in second
    ]
    for one, other in zip(first, second, strict=True):
        assert all(np.array_equal(one.pattern[key], other.pattern[key]) for key in one.pattern)
        problem.box.check(one.pattern, origin=name)


def test_continuation_goes_on_from_what_it_is_handed(problem: Problem) -> None:
    earlier = Earlier().and_found(found_by(problem, _BY_NAME["margin_hinge"], Earlier()))
    found = found_by(problem, _BY_NAME["continuation"], earlier)
    assert found[0].origin.startswith("after margin_hinge")
    assert min(candidate.key for candidate in found) <= earlier.best[0].key


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("regression_error", "only for regressions"),
        ("pair_collapse", "no member has collapsed the decisions onto one class"),
        ("repeat_after_masking", "no control found more than the gradients did"),
    ],
)
def test_members_say_why_they_do_not_apply(problem: Problem, name: str, reason: str) -> None:
    assert _BY_NAME[name].applies(problem, PassLedger(problem.task), Earlier()) == reason


@pytest.mark.parametrize("name", ["random_corners", "corner_search"])
def test_patterns_held_one_at_a_time_lead_to_the_same(
    problem: Problem, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (whole,) = found_by(problem, _BY_NAME[name], Earlier())
    monkeypatch.setattr(gradient_free, "_HELD_BYTES", 1)
    (single,) = found_by(problem, _BY_NAME[name], Earlier())
    assert (single.key, single.origin) == (whole.key, whole.origin)
    for layer, deviation in whole.pattern.items():
        np.testing.assert_array_equal(single.pattern[layer], deviation)


def test_smoothed_accuracy_goes_on_from_cross_entropy(small: tuple[Runtime, Placement]) -> None:
    result = search(Subject(*small), Run(seed=1, effort="quick"))
    notes = {member.name: member.note for member in result.members}
    assert notes["cross_entropy"].startswith("from zero")
    assert notes["smooth_accuracy"].startswith("after cross_entropy")
