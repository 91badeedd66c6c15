"""The worst-case search: every member runs, every member's best pattern is scored on all samples, the worst one is replayed.

Minimise over all patterns in the tolerance box the score of the whole evaluation set under one pattern. Members are not believed: the box
is checked again here, and scores come from onnxruntime.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cimrobust.data.decision import Score
from cimrobust.engine.open import Runtime
from cimrobust.engine.torch_threads import one_torch_thread
from cimrobust.errors import CimrobustError, SelfCheckError
from cimrobust.mapping.placement import Placement
from cimrobust.progress import NullProgress, Progress
from cimrobust.search.box import Pattern, box_of
from cimrobust.search.budget import Budget, budget_of
from cimrobust.search.gradients import check_gradients, open_gradients
from cimrobust.search.members import MEMBERS
from cimrobust.search.problem import Candidate, Problem
from cimrobust.search.protocol import Member, MemberResult, SearchResult, Warned
from cimrobust.search.replay import confirm

NOMINAL = "no_deviation"
_MASKING_SAMPLES = 2
_MASKING_SHARE = 0.01


@dataclass(frozen=True)
class _Entry:
    """A scored pattern."""

    member: str
    score: Score
    key: float
    pattern: Pattern


def search(
    runtime: Runtime,
    placement: Placement,
    *,
    effort: str = "quick",
    seed: int = 0,
    workers: int = 1,
    progress: Progress | None = None,
    known: Mapping[str, Mapping[str, np.ndarray]] | None = None,
) -> SearchResult:
    """Search the tolerance box for the pattern with the worst score.

    Args:
        runtime: The network and its data.
        placement: Where its weights are stored.
        effort: ``quick``, ``standard`` or ``thorough``.
        seed: Seed of the run.
        workers: Threads; no result depends on it.
        progress: Told of every planned step.
        known: Further patterns to score with the others, by where they come from, e.g. the worst Monte-Carlo trial; deviations by
            initializer. Those outside the box are brought to its border.

    Raises:
        UsageError: There is no such effort.
        SelfCheckError: The witness does not replay, or a member left the box.
    """
    budget = budget_of(effort)
    box = box_of(placement)
    progress = progress or NullProgress()
    opened = open_gradients(runtime, placement, budget, seed=seed, workers=workers)
    problem = Problem(runtime, box, opened.crafting, opened.oracle, seed, workers, progress)
    progress.start("worst-case search", _planned(budget, problem))
    warnings = list(opened.warnings)
    if opened.oracle is not None:
        warnings += check_gradients(problem, runtime.checks.dead)
    entries = [_Entry(NOMINAL, runtime.nominal, np.inf, box.zero())]
    results: list[MemberResult] = []
    # Steps on vectors are too short to share: more torch threads only wait for each other, and on a busy machine for long.
    with one_torch_thread():
        _run_members(problem, budget, entries, results, warnings, has_gradient=opened.oracle is not None)
    for origin, deviations in (known or {}).items():
        _score_known(origin, deviations, problem, entries, results)
    progress.finish()
    warnings += _masking(problem, entries)
    worst = _worst(runtime, entries)
    replayed, note = confirm(runtime, box, worst.pattern, worst.score, workers=workers)
    return SearchResult(
        score=replayed if runtime.converters is None else worst.score,
        file_score=replayed,
        member=worst.member,
        deviations=worst.pattern,
        members=tuple(results),
        has_twin=opened.oracle is not None,
        twin_reason=opened.reason,
        warnings=tuple(warnings),
        effort=effort,
        seed=seed,
        crafting_samples=len(opened.crafting),
        passes=problem.passes,
        evaluations=problem.evaluations,
        engine_score=worst.score,
        replay_note=note,
    )


def _planned(budget: Budget, problem: Problem) -> int:
    corners = budget.random_corners + budget.random_corners // 2
    if problem.oracle is None:
        return budget.evaluations_alone + corners
    return budget.num_passes + budget.evaluations + corners


def _run_members(
    problem: Problem,
    budget: Budget,
    entries: list[_Entry],
    results: list[MemberResult],
    warnings: list[Warned],
    *,
    has_gradient: bool,
) -> None:
    """Run every member that applies, in order; list the others with the reason."""
    for member in MEMBERS:
        without = "there is no differentiable twin" if member.needs_gradient and not has_gradient else member.applies(problem)
        if without:
            results.append(MemberResult(member.name, None, 0.0, 0, 0, without))
        else:
            _run_member(member, problem, budget, entries, results, warnings)


def _run_member(
    member: Member, problem: Problem, budget: Budget, entries: list[_Entry], results: list[MemberResult], warnings: list[Warned]
) -> None:
    """Run one member and score its best pattern on all samples."""
    begin, passes, evaluations = time.perf_counter(), problem.passes, problem.evaluations
    score, note = None, ""
    try:
        for candidate in member.run(problem, budget):
            entry = _score(candidate, problem)
            entries.append(entry)
            if score is None or problem.task.is_worse(entry.score, score):
                score, note = entry.score, candidate.origin
    except SelfCheckError:
        raise
    except (CimrobustError, RuntimeError) as err:
        note = f"gave up: {err}"
        warnings.append(Warned("MEMBER_FAILED", f"Search member {member.name} gave up: {err}."))
    seconds = time.perf_counter() - begin
    spent = (problem.passes - passes, problem.evaluations - evaluations)
    results.append(MemberResult(member.name, score, seconds, *spent, note))


def _score(candidate: Candidate, problem: Problem) -> _Entry:
    """Check that a pattern is in the box and score it on all samples."""
    problem.box.check(candidate.pattern, origin=candidate.member)
    score = problem.runtime.score(problem.box.weights(candidate.pattern), threads=problem.workers)
    return _Entry(candidate.member, score, candidate.key[1], candidate.pattern)


def _score_known(
    origin: str, deviations: Mapping[str, np.ndarray], problem: Problem, entries: list[_Entry], results: list[MemberResult]
) -> None:
    begin = time.perf_counter()
    inside: Pattern = problem.box.clip(deviations)
    moved = any(not np.array_equal(inside[name], deviations[name]) for name in inside)
    note = "brought to the border of the box" if moved else "given"
    entry = _score(Candidate(inside, (np.inf, np.inf), note, origin), problem)
    entries.append(entry)
    results.append(MemberResult(origin, entry.score, time.perf_counter() - begin, 0, 0, note))


def _worst(runtime: Runtime, entries: list[_Entry]) -> _Entry:
    """Return the entry with the worst score; of equal ones that with the smaller smoothed accuracy, then the earlier."""
    sign = 1.0 if runtime.task.higher_is_better else -1.0
    return min(entries, key=lambda entry: (sign * entry.score.value, entry.key))


def _masking(problem: Problem, entries: list[_Entry]) -> list[Warned]:
    """Warn where members without gradients did better than those with."""
    if problem.oracle is None:
        return []
    with_gradient = {member.name for member in MEMBERS if member.needs_gradient}
    groups = [[entry for entry in entries if (entry.member in with_gradient) == side] for side in (True, False)]
    if not all(groups):
        return []
    ours, others = (_worst(problem.runtime, group) for group in groups)
    gain = abs(ours.score.value - others.score.value)
    beyond = _MASKING_SHARE * abs(ours.score.value) if ours.score.count is None else _MASKING_SAMPLES / ours.score.num_samples
    if not problem.task.is_worse(others.score, ours.score) or gain <= beyond:
        return []
    return [
        Warned(
            "GRADIENT_MASKING",
            f"{others.member}, which uses no gradient, found {others.score.value:g} where the gradient members found {ours.score.value:g}: "
            "gradients mislead on this network, and worse patterns may exist.",
        )
    ]
