"""Member: corners and interior points drawn at random.

A sanity check: what random chips cannot find is not thereby absent.
"""

from __future__ import annotations

from cimrobust.mapping.box import Pattern
from cimrobust.search.problem import Candidate, Problem
from cimrobust.search.search_budget import Budget
from cimrobust.search.search_results import Member

NAME = "random_corners"
_AT_A_TIME = 16


def _run(problem: Problem, budget: Budget) -> list[Candidate]:
    draws = [(f"corner {index + 1}", index) for index in range(budget.random_corners)]
    draws += [(f"interior point {index + 1}", index) for index in range(budget.random_corners // 2)]
    results: list[Candidate] = []
    for first in range(0, len(draws), _AT_A_TIME):
        group = draws[first : first + _AT_A_TIME]
        patterns = [_draw(problem, origin, index) for origin, index in group]
        for (origin, _), pattern, key in zip(
            group, patterns, problem.survey(patterns), strict=True
        ):
            candidate = Candidate(pattern, key, origin, NAME)
            problem.offer(candidate)
            results = sorted([*results, candidate], key=lambda candidate: candidate.key)[:1]
        problem.advance(len(group))
    return results


def _draw(problem: Problem, origin: str, index: int) -> Pattern:
    if origin.startswith("corner"):
        return problem.box.random_corner(problem.random(NAME, "corner", index))
    return problem.box.random_interior(problem.random(NAME, "interior", index))


RANDOM_CORNERS = Member(NAME, _run, needs_gradient=False)
