"""The worst-case search.

Every member runs, every member's best pattern is scored on all samples, the worst one is replayed.

Minimise over all patterns in the tolerance box the score of the whole evaluation set under one
pattern. Members are not believed: the box
is checked again here, and scores come from onnxruntime.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from cimrobust.engine.open import Runtime
from cimrobust.engine.torch_device import open_device
from cimrobust.engine.torch_threads import one_torch_thread
from cimrobust.errors import CimrobustError, SelfCheckError
from cimrobust.mapping.box import box_of
from cimrobust.mapping.placement import Placement
from cimrobust.progress import NullProgress, Progress
from cimrobust.search.given_patterns import Given, check_given, score_known, take_start
from cimrobust.search.gradients import check_gradients, open_gradients
from cimrobust.search.masking import masking_warnings
from cimrobust.search.members.carlini_wagner import CARLINI_WAGNER
from cimrobust.search.members.member_list import MEMBERS
from cimrobust.search.problem import Problem
from cimrobust.search.scored import Scored, score_candidate, worst_of
from cimrobust.search.search_budget import Budget, budget_of, papers_budget
from cimrobust.search.search_records import Warned
from cimrobust.search.search_results import Member, MemberResult, SearchResult
from cimrobust.search.trace import effort_curve
from cimrobust.search.witness_replay import confirm

NOMINAL = "no_deviation"


def search(
    runtime: Runtime,
    placement: Placement,
    *,
    effort: str = "quick",
    seed: int = 0,
    workers: int = 1,
    progress: Progress | None = None,
    known: Given | None = None,
    starts: Given | None = None,
    device_type: str = "cpu",
) -> SearchResult:
    """Search the tolerance box for the pattern with the worst score.

    Args:
        runtime: The network and its data.
        placement: Where its weights are stored.
        effort: ``quick``, ``standard`` or ``thorough``.
        seed: Seed of the run.
        workers: Threads; no result depends on it.
        progress: Told of every planned step.
        known: Further patterns to score with the others, by where they come from, e.g. the worst
            Monte-Carlo trial; deviations by
            initializer. Those outside the box are brought to its border.
        starts: Further patterns, likewise, that the search goes on from: what was found at another
            tolerance (see `unit.rescaled`) or by another search.
        device_type: Where gradients are computed, ``cpu`` or ``cuda``; all scores are
            onnxruntime's, on the processor.

    Raises:
        UsageError: There is no such effort or device type, or a given pattern is of another network
            or has the name of a member.
        SelfCheckError: The witness does not replay, or a member left the box.
    """
    settings = _Settings(seed, workers, progress or NullProgress(), open_device(device_type))
    return _search(
        runtime, placement, budget_of(effort), MEMBERS, settings, known or {}, starts or {}
    )


def search_by_papers(
    runtime: Runtime,
    placement: Placement,
    *,
    passes: int,
    seed: int = 0,
    workers: int = 1,
    progress: Progress | None = None,
    device_type: str = "cpu",
) -> SearchResult:
    """Search with the papers' method alone, on the crafting samples of effort ``standard``, for comparison.

    Args:
        runtime: The network and its data.
        placement: Where its weights are stored.
        passes: Forward-backward passes, spread over its grid of learning rates and values of c.
        seed: Seed of the run.
        workers: Threads; no result depends on it.
        progress: Told of every planned step.
        device_type: Where gradients are computed, ``cpu`` or ``cuda``.

    Raises:
        UsageError: There is no such device type.
        SelfCheckError: The witness does not replay.
    """
    settings = _Settings(seed, workers, progress or NullProgress(), open_device(device_type))
    return _search(runtime, placement, papers_budget(passes), (CARLINI_WAGNER,), settings, {}, {})


@dataclass(frozen=True)
class _Settings:
    seed: int
    workers: int
    progress: Progress
    device: torch.device


def _search(
    runtime: Runtime,
    placement: Placement,
    budget: Budget,
    members: Sequence[Member],
    settings: _Settings,
    known: Given,
    starts: Given,
) -> SearchResult:
    box = box_of(placement)
    check_given(box, {**known, **starts}, taken=(NOMINAL, *(member.name for member in MEMBERS)))
    seed, workers, progress = settings.seed, settings.workers, settings.progress
    opened = open_gradients(
        runtime, placement, budget, seed=seed, workers=workers, device=settings.device
    )
    problem = Problem(
        runtime,
        box,
        opened.crafting,
        opened.oracle,
        seed,
        workers,
        progress,
        known=frozenset(known),
        most_passes=budget.num_passes,
    )
    progress.start("worst-case search", _planned(budget, problem))
    warnings = list(opened.warnings)
    if opened.oracle is not None:
        warnings += check_gradients(problem, runtime.checks.dead)
    entries = [Scored(NOMINAL, runtime.nominal, np.inf, box.zero())]
    results: list[MemberResult] = []
    for origin, deviations in starts.items():
        _enter(take_start(origin, deviations, problem), entries, results)
    # Steps on vectors are too short to share: more torch threads only wait for each other, and on a
    # busy machine for long.
    with one_torch_thread():
        _run_members(members, problem, budget, entries, results, warnings)
    for origin, deviations in known.items():
        _enter(score_known(origin, deviations, problem), entries, results)
    progress.finish()
    with_gradient = [member.name for member in MEMBERS if member.needs_gradient]
    warnings += masking_warnings(problem, entries, results, gradient_members=with_gradient)
    worst = worst_of(runtime, entries)
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
        effort=budget.effort,
        seed=seed,
        crafting_samples=len(opened.crafting),
        passes=problem.passes,
        evaluations=problem.evaluations,
        engine_score=worst.score,
        replay_note=note,
        curve=effort_curve(problem.trace, higher_is_better=runtime.task.higher_is_better),
    )


def _enter(
    found: tuple[Scored, MemberResult], entries: list[Scored], results: list[MemberResult]
) -> None:
    entries.append(found[0])
    results.append(found[1])


def _planned(budget: Budget, problem: Problem) -> int:
    corners = budget.random_corners + budget.random_corners // 2
    if problem.oracle is None:
        return budget.evaluations_alone + corners
    return budget.num_passes + budget.evaluations + corners


def _run_members(
    members: Sequence[Member],
    problem: Problem,
    budget: Budget,
    entries: list[Scored],
    results: list[MemberResult],
    warnings: list[Warned],
) -> None:
    """Run every member that applies, in order; list the others with the reason."""
    for member in members:
        without = _without(member, problem)
        before, granted = problem.passes, budget.shares.get(member.name, 0)
        if without:
            results.append(MemberResult(member.name, None, 0.0, 0, 0, without))
        else:
            _run_member(member, problem, budget, entries, results, warnings)
            results[-1] = _with_plateau(results[-1], granted)
        problem.spare += granted - (problem.passes - before)


def _without(member: Member, problem: Problem) -> str:
    """Return why a member does not run, or nothing."""
    if member.needs_gradient and problem.oracle is None:
        return "there is no differentiable twin"
    if member.needs_gradient and problem.nothing_left:
        return (
            "no decision of the crafting samples is right any more: nothing is left to search for"
        )
    return member.applies(problem)


def _with_plateau(result: MemberResult, granted: int) -> MemberResult:
    """Add to a member's note how many of its passes it left to others."""
    if result.score is None or result.passes >= granted:
        return result
    return replace(
        result,
        note=f"{result.note}; stopped after {result.passes} of {granted} passes: more did not help",
    )


def _run_member(
    member: Member,
    problem: Problem,
    budget: Budget,
    entries: list[Scored],
    results: list[MemberResult],
    warnings: list[Warned],
) -> None:
    """Run one member and score its best pattern on all samples."""
    begin, passes, evaluations = time.perf_counter(), problem.passes, problem.evaluations
    score, note = None, "no passes were left for it"
    try:
        for candidate in member.run(problem, budget):
            entry = score_candidate(candidate, problem)
            entries.append(entry)
            if score is None or problem.task.is_worse(entry.score, score):
                score, note = entry.score, candidate.origin
    except SelfCheckError:
        raise
    except (CimrobustError, RuntimeError) as err:
        note = f"gave up: {err}"
        warnings.append(
            Warned(code="MEMBER_FAILED", text=f"Search member {member.name} gave up: {err}.")
        )
    seconds = time.perf_counter() - begin
    spent = (problem.passes - passes, problem.evaluations - evaluations)
    results.append(MemberResult(member.name, score, seconds, *spent, note))
