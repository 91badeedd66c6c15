"""Members that need no gradients: corners at random, and a search over corners.

What random chips cannot find is not thereby absent; they are a sanity check. The search is the only
member that searches where there is no twin. Flipping single weights at random goes nowhere in tens
of thousands of dimensions. What a corner can do is mostly done by whole rows and columns: behind a
ReLU all inputs of a unit are positive, so that one sign for a whole row moves the unit as far as
any corner does. So the search begins at zero and sets rows, columns and random parts of layers to
one bound or the other, keeping what lowers the key; late layers are tried more often, since fewer
weights do more there.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from cimrobust.search.candidate import Candidate, Earlier, Key
from cimrobust.search.kept_runs import kept_run
from cimrobust.search.members.member_protocol import Member

if TYPE_CHECKING:
    from cimrobust.array_shapes import Float32
    from cimrobust.mapping.box import Box, Pattern
    from cimrobust.search.problem import Problem
    from cimrobust.search.scorer import Scorer
    from cimrobust.search.search_budget import Budget

_RANDOM, _SEARCH = "random_corners", "corner_search"
_DRAWN_AT_A_TIME = 16
# Proposals of one round. A constant, so that the result does not depend on the number of workers.
_PROPOSED_AT_A_TIME = 8
# Bytes of the patterns that are drawn or proposed at a time. It changes no result.
_HELD_BYTES = 2**28
# Rounds after which what was found is kept, so that an interrupted search goes on from there.
_ROUNDS_AT_A_TIME = 16


def _draw_corners(
    problem: Problem, scorer: Scorer, budget: Budget, earlier: Earlier
) -> list[Candidate]:
    """Return the best of some corners and interior points drawn uniformly."""
    draws = [(f"corner {index + 1}", index) for index in range(budget.random_corners)]
    draws += [(f"interior point {index + 1}", index) for index in range(budget.random_corners // 2)]
    best: list[Candidate] = []
    size = _at_a_time(problem, _DRAWN_AT_A_TIME)
    for first in range(0, len(draws), size):
        group = draws[first : first + size]
        patterns = [_draw(problem, origin, index) for origin, index in group]
        keys = scorer.score(patterns, by="fastest")
        for (origin, _), pattern, key in zip(group, patterns, keys, strict=True):
            scorer.ledger.record(key)
            if not best or key < best[0].key:
                best = [Candidate(pattern, key, origin, _RANDOM).shelved(problem.box)]
        scorer.ledger.advance(len(group))
    return best


def _at_a_time(problem: Problem, most: int) -> int:
    """Return how many patterns are held at a time: one a thread where each is large."""
    fitting = _HELD_BYTES // (4 * problem.box.num_weights)
    return min(max(fitting, problem.run.workers), most)


def _draw(problem: Problem, origin: str, index: int) -> Pattern:
    if origin.startswith("corner"):
        return problem.box.random_corner(problem.random(_RANDOM, "corner", index))
    return problem.box.random_interior(problem.random(_RANDOM, "interior", index))


def _search(problem: Problem, scorer: Scorer, budget: Budget, earlier: Earlier) -> list[Candidate]:
    """Search as deep as the budget allows, beside gradient members or alone."""
    if problem.oracle is not None:
        # This one is their control, and has to find what it finds by itself.
        return [search_corners(scorer, budget.evaluations)]
    return [search_corners(scorer, budget.evaluations_alone, earlier)]


def search_corners(scorer: Scorer, evaluations: int, earlier: Earlier | None = None) -> Candidate:
    """Try some changes of the best pattern in every round; keep the best of them if it is better.

    Args:
        scorer: Scores patterns.
        evaluations: Patterns to try.
        earlier: Holds patterns to begin at where they are worse than no deviation; None: none.
    """
    zero = scorer.problem.box.zero()
    key = scorer.score([zero], by="fastest")[0]
    best = Candidate(zero, key, "no change", _SEARCH, is_new=False)
    for start in () if earlier is None else earlier.starts:
        if start.key < best.key:
            origin = f"after {start.member}"
            best = Candidate(start.pattern, start.key, origin, _SEARCH, is_new=False)
    accepted, rounds = 0, max(evaluations // _PROPOSED_AT_A_TIME, 1)
    for first in range(0, rounds, _ROUNDS_AT_A_TIME):
        some = range(first, min(first + _ROUNDS_AT_A_TIME, rounds))
        found, count = kept_run(scorer, partial(_try_changes, scorer, best, accepted, some))
        best, accepted = found or best, int(count)
    return best


def _try_changes(
    scorer: Scorer, best: Candidate, accepted: int, rounds: range
) -> tuple[Candidate, float]:
    """Try changes for some rounds; return the best pattern and how many changes led to it."""
    problem = scorer.problem
    pattern = best.pattern
    for number in rounds:
        key, proposal = _best_proposal(scorer, pattern, problem.random(_SEARCH, number))
        if key < best.key:
            accepted, pattern = accepted + 1, proposal
            best = Candidate(pattern, key, f"{accepted} changes", _SEARCH)
            scorer.ledger.record(best.key)
    return best, float(accepted)


def _best_proposal(
    scorer: Scorer, pattern: Pattern, generator: np.random.Generator
) -> tuple[Key, Pattern]:
    """Propose changes of a pattern, and return the best of them; of equal ones the first."""
    best: tuple[Key, Pattern] | None = None
    left = _PROPOSED_AT_A_TIME
    while left:
        count = min(left, _at_a_time(scorer.problem, _PROPOSED_AT_A_TIME))
        left -= count
        proposals = [_propose(scorer.problem.box, pattern, generator) for _ in range(count)]
        for key, proposal in zip(scorer.score(proposals, by="fastest"), proposals, strict=True):
            if best is None or key < best[0]:
                best = (key, proposal)
        scorer.ledger.advance(count)
    assert best is not None
    return best


def _propose(box: Box, pattern: Pattern, generator: np.random.Generator) -> Pattern:
    """Return the pattern with part of one layer, or of every layer, set to one of its bounds."""
    names = box.names
    changed = dict(pattern)
    if generator.random() < 0.1:
        chosen = list(names)
    else:
        ranks = np.arange(1, len(names) + 1, dtype=np.float64)
        chosen = [names[int(generator.choice(len(names), p=ranks / ranks.sum()))]]
    for name in chosen:
        changed[name] = _change(pattern[name], box.lo[name], box.hi[name], generator)
    return changed


def _change(
    deviation: Float32[np.ndarray, "*weight"],
    lo: Float32[np.ndarray, "*weight"],
    hi: Float32[np.ndarray, "*weight"],
    generator: np.random.Generator,
) -> Float32[np.ndarray, "*weight"]:
    kind = generator.random()
    bound = hi if generator.random() < 0.5 else lo
    if deviation.ndim == 0 or kind < 0.2:
        share = float(generator.choice([0.02, 0.1, 0.5]))
        where = generator.random(deviation.shape) < share
        drawn = np.where(generator.random(deviation.shape) < 0.5, lo, hi)
        return np.where(where, drawn, deviation)
    axis = (
        int(generator.integers(deviation.ndim))
        if kind < 0.3
        else min(int(kind < 0.65), deviation.ndim - 1)
    )
    size = deviation.shape[axis]
    share = float(generator.choice([0.0, 0.1, 0.5]))
    lines = np.asarray(generator.random(size) < share)
    lines[int(generator.integers(size))] = True
    shape = [1] * deviation.ndim
    shape[axis] = size
    part = np.broadcast_to(lines.reshape(shape), deviation.shape)
    if (
        generator.random() < 0.3
    ):  # one line against all others: what tips a last layer over to one class
        other = lo if bound is hi else hi
        single = np.zeros(size, dtype=bool)
        single[int(generator.integers(size))] = True
        return np.where(np.broadcast_to(single.reshape(shape), deviation.shape), bound, other)
    return np.where(part, bound, deviation)


RANDOM_CORNERS = Member(_RANDOM, _draw_corners, needs_gradient=False)
CORNER_SEARCH = Member(_SEARCH, _search, needs_gradient=False)
