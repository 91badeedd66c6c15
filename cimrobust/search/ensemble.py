"""The worst-case search.

Every member runs, the best patterns of each are scored on all samples, the worst one is replayed.

Minimise over all patterns in the tolerance box the score of the whole evaluation set under one
pattern. Members are not believed: the box is checked again here, and scores come from onnxruntime.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from cimrobust.available_memory import is_about_memory
from cimrobust.engine.torch_threads import one_torch_thread
from cimrobust.errors import CimrobustError, MemoryShortError, SelfCheckError
from cimrobust.finished_parts import NOTHING_KEPT, FinishedParts
from cimrobust.search.candidate import Candidate, Earlier, Key, most_promising
from cimrobust.search.given_patterns import Given, check_given, score_known, take_start
from cimrobust.search.gradients import TwinStatus, open_gradients
from cimrobust.search.kept_runs import find_member, go_on, keep_member
from cimrobust.search.members.carlini_wagner import CARLINI_WAGNER
from cimrobust.search.members.member_list import MEMBERS
from cimrobust.search.pass_ledger import PassLedger
from cimrobust.search.scored import Scored, score_candidate, scored, worst_of
from cimrobust.search.scorer import Scorer
from cimrobust.search.search_budget import Budget, budget_for, papers_budget
from cimrobust.search.search_records import Warned
from cimrobust.search.search_results import MemberResult, SearchResult
from cimrobust.search.search_warnings import (
    check_gradients,
    falling_warnings,
    masking_warnings,
)
from cimrobust.search.trace import effort_curve
from cimrobust.search.witness_replay import confirm

if TYPE_CHECKING:
    from cimrobust.engine.subject import Subject
    from cimrobust.run import Run
    from cimrobust.search.members.member_protocol import Member
    from cimrobust.search.problem import Problem

NOMINAL = "no_deviation"


def search(
    subject: Subject,
    run: Run,
    *,
    known: Given | None = None,
    starts: Given | None = None,
    parts: FinishedParts = NOTHING_KEPT,
) -> SearchResult:
    """Open the twin and search the tolerance box for the pattern with the worst score.

    Arguments and errors as for `search_opened`, and of `open_gradients`.
    """
    twin = open_gradients(subject, run, with_bit_lines=True)
    return search_opened(subject, run, twin, known=known, starts=starts, parts=parts)


def search_opened(
    subject: Subject,
    run: Run,
    twin: TwinStatus,
    *,
    known: Given | None = None,
    starts: Given | None = None,
    parts: FinishedParts = NOTHING_KEPT,
) -> SearchResult:
    """Search the tolerance box for the pattern with the worst score, with a twin that is open.

    Args:
        subject: The network, its data, and where its weights are stored.
        run: How to compute; all scores are onnxruntime's, on the processor.
        twin: Its twin, opened with the bit lines.
        known: Further patterns to score with the others, by where they come from, e.g. the worst
            Monte-Carlo trial; deviations by initializer. Those outside the box are brought to its
            border.
        starts: Further patterns, likewise, that the search goes on from: what was found at another
            tolerance (see `unit.rescaled`) or by another search.
        parts: Where finished members and runs are kept and taken from; none changes the result.

    Raises:
        UsageError: There is no such effort, or a given pattern is of another network or has the
            name of a member.
        SelfCheckError: The witness does not replay, or a member left the box.
    """
    return _search(subject, run, twin, budget_for(run), MEMBERS, known or {}, starts or {}, parts)


def search_by_papers(subject: Subject, run: Run, *, passes: int) -> SearchResult:
    """Search with the papers' method alone, for comparison.

    On the attack set of effort ``standard``.

    Args:
        subject: The network, its data, and where its weights are stored.
        run: How to compute.
        passes: Forward-backward passes, spread over its grid of learning rates and values of c.

    Raises:
        UsageError: There is no such device type.
        SelfCheckError: The witness does not replay.
    """
    budget = papers_budget(passes)
    twin = open_gradients(subject, run, budget, with_bit_lines=True)
    return _search(subject, run, twin, budget, (CARLINI_WAGNER,), {}, {}, NOTHING_KEPT)


@dataclass
class _Books:
    """What was found so far: patterns scored on all samples, a row a member, warnings."""

    entries: list[Scored]
    rows: list[MemberResult] = field(default_factory=list)
    warnings: list[Warned] = field(default_factory=list)
    earlier: Earlier = field(default_factory=Earlier)


def _search(
    subject: Subject,
    run: Run,
    twin: TwinStatus,
    budget: Budget,
    members: Sequence[Member],
    known: Given,
    starts: Given,
    parts: FinishedParts,
) -> SearchResult:
    runtime, box = subject.runtime, subject.box
    check_given(box, {**known, **starts}, taken=(NOMINAL, *(member.name for member in MEMBERS)))
    problem = twin.problem(subject, run)
    ledger = PassLedger(problem.task, budget.num_passes, run.progress)
    scorer = Scorer(problem, ledger, parts=parts.within("search", run.effort, starts))
    run.progress.start("worst-case search", _planned(budget, problem))
    undisturbed = Candidate(box.zero(), Key(np.inf, np.inf), "", NOMINAL).shelved(box)
    books = _Books([Scored(NOMINAL, runtime.nominal, np.inf, undisturbed)])
    books.warnings += twin.warnings
    if twin.oracle is not None:
        books.warnings += check_gradients(scorer, runtime.checks.dead)
    for origin, deviations in starts.items():
        candidate, entry, row = take_start(scorer, origin, deviations)
        books.earlier = books.earlier.and_start(candidate)
        books.entries.append(entry)
        books.rows.append(row)
    # Steps on vectors are too short to share: more torch threads only wait for each other, and on a
    # busy machine for long.
    with one_torch_thread():
        for member in members:
            _take_turn(member, scorer, budget, books)
    for origin, deviations in known.items():
        entry, row = score_known(problem, origin, deviations)
        books.entries.append(entry)
        books.rows.append(row)
    run.progress.finish()
    if twin.oracle is not None and twin.oracle.memory_note:
        books.warnings.append(Warned(code="SMALL_PIECES", text=twin.oracle.memory_note))
    books.warnings += masking_warnings(
        problem,
        books.entries,
        books.rows,
        gradient_members=[member.name for member in MEMBERS if member.needs_gradient],
        starts=starts,
        known=known,
    )
    if twin.oracle is not None:
        books.warnings += falling_warnings(ledger, budget)
    return _result(scorer, budget, twin, books)


def _result(scorer: Scorer, budget: Budget, twin: TwinStatus, books: _Books) -> SearchResult:
    """Replay the worst pattern and put together what was found."""
    problem, ledger, runtime = scorer.problem, scorer.ledger, scorer.problem.runtime
    worst = worst_of(runtime, books.entries)
    pattern = worst.candidate.pattern
    replayed, note = confirm(
        runtime, problem.box, pattern, worst.score, workers=problem.run.workers
    )
    return SearchResult(
        score=replayed if runtime.converters is None else worst.score,
        file_score=replayed,
        member=worst.member,
        deviations=pattern,
        members=tuple(books.rows),
        has_twin=twin.oracle is not None,
        twin_reason=twin.reason,
        warnings=tuple(books.warnings),
        effort=budget.effort,
        seed=problem.run.seed,
        crafting_samples=len(problem.attack_set),
        passes=ledger.passes,
        evaluations=ledger.evaluations,
        engine_score=worst.score,
        replay_note=note,
        curve=effort_curve(ledger.trace, higher_is_better=runtime.task.higher_is_better),
    )


def _planned(budget: Budget, problem: Problem) -> int:
    corners = budget.random_corners + budget.random_corners // 2
    if problem.oracle is None:
        return budget.evaluations_alone + corners
    return budget.num_passes + budget.evaluations + corners


def _take_turn(member: Member, scorer: Scorer, budget: Budget, books: _Books) -> None:
    """Run a member if it applies, else list it with the reason; passes that it leaves are spare."""
    ledger = scorer.ledger
    without = _without(member, scorer, books.earlier)
    before, granted = ledger.passes, budget.shares.get(member.name, 0)
    if without:
        books.rows.append(MemberResult(member.name, None, 0.0, 0, 0, without))
    else:
        row = _known_member(member, scorer, books) or _run_member(member, scorer, budget, books)
        books.rows.append(_with_plateau(row, granted))
    ledger.spare += granted - (ledger.passes - before)


def _without(member: Member, scorer: Scorer, earlier: Earlier) -> str:
    """Return why a member does not run, or nothing."""
    if member.needs_gradient and scorer.problem.oracle is None:
        return "there is no differentiable twin"
    if member.needs_gradient and scorer.ledger.nothing_left:
        return (
            "no decision of the crafting samples is right any more: nothing is left to search for"
        )
    return member.applies(scorer.problem, scorer.ledger, earlier)


def _with_plateau(result: MemberResult, granted: int) -> MemberResult:
    """Add to a member's note how many of its passes it left to others."""
    if result.score is None or result.passes >= granted:
        return result
    return replace(
        result,
        note=f"{result.note}; stopped after {result.passes} of {granted} passes: more did not help",
    )


def _known_member(member: Member, scorer: Scorer, books: _Books) -> MemberResult | None:
    """Take over a member that an interrupted run has finished; None where it has not."""
    known = find_member(scorer, member.name)
    if known is None:
        return None
    kept, found = known
    best = most_promising(found)
    if len(best) != len(kept.scores):
        return None
    _keep(found, scorer.ledger, books)
    go_on(scorer.ledger, kept.after)
    for candidate, score in zip(best, kept.scores, strict=True):
        books.entries.append(scored(candidate, score))
    return kept.row


def _run_member(member: Member, scorer: Scorer, budget: Budget, books: _Books) -> MemberResult:
    """Run one member, keep what it found, and score its best patterns on all samples."""
    problem, ledger = scorer.problem, scorer.ledger
    begin, before = time.perf_counter(), ledger.state()
    passes, evaluations = ledger.passes, ledger.evaluations
    score, note, scores = None, "no passes were left for it", []
    found: list[Candidate] | None = None
    try:
        own = replace(scorer, parts=scorer.parts.within(member.name))
        found = member.run(problem, own, budget, books.earlier)
        _keep(found, ledger, books)
        for candidate in most_promising(found):
            entry = score_candidate(candidate, problem)
            books.entries.append(entry)
            scores.append(entry.score)
            if score is None or problem.task.is_worse(entry.score, score):
                score, note = entry.score, candidate.origin
    except (SelfCheckError, MemoryShortError):
        raise
    except (CimrobustError, RuntimeError, MemoryError) as err:
        if is_about_memory(err):
            raise MemoryShortError(
                f"memory must be enough for search member {member.name}, got {err} (search); free"
                " memory, or use another --device-type"
            ) from err
        # What gave up is not kept: an interrupted run tries again.
        note, found = f"gave up: {err}", None
        books.warnings.append(
            Warned(code="MEMBER_FAILED", text=f"Search member {member.name} gave up: {err}.")
        )
    seconds = time.perf_counter() - begin
    spent = (ledger.passes - passes, ledger.evaluations - evaluations)
    row = MemberResult(member.name, score, seconds, *spent, note)
    if found is not None:
        keep_member(scorer, before, found, scores, row)
    return row


def _keep(found: Sequence[Candidate], ledger: PassLedger, books: _Books) -> None:
    """Let later members know what a member found."""
    books.earlier = books.earlier.and_found(found)
    for candidate in found:
        if candidate.is_new:
            ledger.record(candidate.key)
