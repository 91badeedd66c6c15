"""Runs and members of a search that are kept on disk.

What a run changes is its result and the ledger. Random streams are named, not advanced, so both
together are all that a search needs to go on from there as if it had never stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cimrobust.data.decision import Score
from cimrobust.search.candidate import Candidate, Key, Shelved
from cimrobust.search.packed_pattern import PackedPattern, unpack
from cimrobust.search.pass_ledger import LedgerState, PassLedger
from cimrobust.search.search_results import MemberResult

if TYPE_CHECKING:
    from cimrobust.mapping.box import Box
    from cimrobust.search.scorer import Scorer


@dataclass(frozen=True)
class KeptCandidate:
    """A candidate in little space; attributes as those of `Candidate` and its key."""

    pattern: PackedPattern
    score: float
    smooth_accuracy: float
    origin: str
    member: str
    is_new: bool


@dataclass(frozen=True)
class KeptRun:
    """One run of a member.

    Attributes:
        before: The ledger that it began with.
        after: The ledger that it left.
        found: Its best pattern; None: it found none.
        state: A number that its member goes on with, whose meaning only that member knows.
    """

    before: LedgerState
    after: LedgerState
    found: KeptCandidate | None
    state: float


@dataclass(frozen=True)
class KeptMember:
    """A whole member.

    Attributes:
        before: The ledger that it began with.
        after: The ledger that it left.
        found: What it found, in the order it was found.
        scores: Scores of the most promising on all samples, in their order.
        row: What is reported of it.
    """

    before: LedgerState
    after: LedgerState
    found: tuple[KeptCandidate, ...]
    scores: tuple[Score, ...]
    row: MemberResult


def kept_run(
    scorer: Scorer, make: Callable[[], tuple[Candidate | None, float]]
) -> tuple[Candidate | None, float]:
    """Return what one run found and the number that its member goes on with.

    From disk where that is known, else made and kept. What is found is in little space.
    """
    parts, ledger, box = scorer.parts, scorer.ledger, scorer.problem.box
    name = f"run-{ledger.runs}"
    before = ledger.state()

    def check(run: KeptRun) -> None:
        _check_same_ledger(run.before, before)
        _candidates(box, () if run.found is None else (run.found,))

    known = parts.find(name, KeptRun, check)
    if known is not None:
        go_on(ledger, known.after)
        return (
            None if known.found is None else _candidate(box, known.found),
            known.state,
        )
    found, state = make()
    found = None if found is None else found.shelved(box)
    ledger.runs += 1
    if parts.keeps:
        kept = None if found is None else kept_candidate(box, found)
        parts.keep(name, KeptRun(before, ledger.state(), kept, state))
    return found, state


def find_member(scorer: Scorer, name: str) -> tuple[KeptMember, tuple[Candidate, ...]] | None:
    """Return a member that is known from disk, and its candidates; None where it is not."""
    before, box = scorer.ledger.state(), scorer.problem.box

    def check(member: KeptMember) -> None:
        _check_same_ledger(member.before, before)
        _candidates(box, member.found)

    known = scorer.parts.find(name, KeptMember, check)
    return None if known is None else (known, _candidates(box, known.found))


def keep_member(
    scorer: Scorer,
    before: LedgerState,
    found: Sequence[Candidate],
    scores: Sequence[Score],
    row: MemberResult,
) -> None:
    """Keep a member that has run; its single runs are not needed any more."""
    parts, box = scorer.parts, scorer.problem.box
    if parts.keeps:
        kept = tuple(kept_candidate(box, candidate) for candidate in found)
        parts.keep(row.name, KeptMember(before, scorer.ledger.state(), kept, tuple(scores), row))
        parts.within(row.name).drop()


def go_on(ledger: PassLedger, state: LedgerState) -> None:
    """Let a ledger go on where another one stood, and report what it had spent as done."""
    done = state.passes - ledger.passes
    ledger.go_on(state)
    ledger.advance(done)


def kept_candidate(box: Box, candidate: Candidate) -> KeptCandidate:
    """Return a candidate in little space."""
    return KeptCandidate(
        candidate.packed(box),
        candidate.key.score,
        candidate.key.smooth_accuracy,
        candidate.origin,
        candidate.member,
        candidate.is_new,
    )


def _candidates(box: Box, kept: Sequence[KeptCandidate]) -> tuple[Candidate, ...]:
    return tuple(_candidate(box, candidate) for candidate in kept)


def _candidate(box: Box, kept: KeptCandidate) -> Candidate:
    key = Key(kept.score, kept.smooth_accuracy)
    if np.isnan(kept.score) or np.isnan(kept.smooth_accuracy):
        raise ValueError("key of a pattern must be a number")
    if len(unpack(box, kept.pattern)) < len(box.names):
        raise ValueError("candidate must deviate every layer")
    return Candidate(Shelved(box, kept.pattern), key, kept.origin, kept.member, kept.is_new)


def _check_same_ledger(stated: LedgerState, now: LedgerState) -> None:
    """Raise ValueError unless a run began with what has been spent and found now."""
    if stated.spent != now.spent:
        raise ValueError("the runs before it were others")
