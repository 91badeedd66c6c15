"""Member: gradient-free search over corners, the only one that searches where there is no twin.

Flipping single weights at random goes nowhere in tens of thousands of dimensions. What a corner can
do is mostly done by whole rows and
columns: behind a ReLU all inputs of a unit are positive, so that one sign for a whole row moves the
unit as far as any corner does. So the
search begins at zero and sets rows, columns and random parts of layers to one bound or the other,
keeping what lowers the key; late layers
are tried more often, since fewer weights do more there.
"""

from __future__ import annotations

import numpy as np

from cimrobust.mapping.box import Box, Pattern
from cimrobust.search.problem import Candidate, Problem
from cimrobust.search.search_budget import Budget
from cimrobust.search.search_results import Member

NAME = "corner_search"
# Proposals of one round. A constant, so that the result does not depend on the number of workers.
_AT_A_TIME = 8


def _run(problem: Problem, budget: Budget) -> list[Candidate]:
    """Try some changes of the best pattern so far in every round.

    The best change is kept if it is better.
    """
    count = budget.evaluations if problem.oracle is not None else budget.evaluations_alone
    zero = problem.box.zero()
    best = Candidate(zero, problem.survey([zero])[0], "no change", NAME)
    # Beside gradient members this one is their control, and has to find what it finds by itself.
    for start in problem.starts if problem.oracle is None else ():
        if start.key < best.key:
            best = Candidate(start.pattern, start.key, f"after {start.member}", NAME)
    accepted = 0
    for number in range(max(count // _AT_A_TIME, 1)):
        generator = problem.random(NAME, number)
        proposals = [_propose(problem.box, best.pattern, generator) for _ in range(_AT_A_TIME)]
        keys = problem.survey(proposals)
        problem.advance(len(proposals))
        first = min(range(len(keys)), key=lambda index: keys[index])
        if keys[first] < best.key:
            accepted += 1
            best = Candidate(proposals[first], keys[first], f"{accepted} changes", NAME)
            problem.offer(best)
    return [best]


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
    deviation: np.ndarray, lo: np.ndarray, hi: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
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


CORNER_SEARCH = Member(NAME, _run, needs_gradient=False)
