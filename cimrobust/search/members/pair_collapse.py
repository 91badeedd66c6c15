"""Member: make every decision one class, and the decisions of that class another one.

The way below the plateau of class collapse.

A network that says "class c" to everything is still correct on class c. Which pair of classes can
be told apart and turned round is found by trying: a few passes for each pair, judged by how far the
decisions that are left are from turning, since all have the same number of them left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from cimrobust.search.candidate import Candidate, Earlier, most_promising
from cimrobust.search.climb import CORNER, climb
from cimrobust.search.losses import Hinge, Loss, PairCollapse, SmoothAccuracy, margins, median_scale
from cimrobust.search.members.member_protocol import Member, needs_collapse

if TYPE_CHECKING:
    from cimrobust.search.problem import Problem
    from cimrobust.search.scorer import Scorer
    from cimrobust.search.search_budget import Budget

_NAME = "pair_collapse"
# Small steps: a first step across the whole box ends in a state that tells no classes apart any
# more.
_FIRST_STEP = 0.2
_POLISH: tuple[tuple[Loss, float], ...] = (
    (SmoothAccuracy(0.1), 0.3),
    (SmoothAccuracy(0.05), 0.1),
    (SmoothAccuracy(0.25), 0.2),
    (Hinge(0.05), 0.1),
)


def _run(problem: Problem, scorer: Scorer, budget: Budget, earlier: Earlier) -> list[Candidate]:
    """Probe pairs, run the most promising again from zero for longer, and polish the best."""
    probed: list[tuple[float, PairCollapse]] = []
    results: list[Candidate] = []
    granted = budget.pair_share + scorer.ledger.spare
    last = scorer.ledger.passes + granted
    # Of few passes, half go into probing.
    for loss in _pairs(problem, min(budget.pairs, granted // (2 * budget.pair_probe))):
        found = climb(
            scorer,
            _NAME,
            loss,
            start=problem.box.zero(),
            passes=budget.pair_probe,
            first_step=_FIRST_STEP,
            origin=_origin(loss),
        )
        if found is not None:
            results.append(found)
            probed.append((_left_over(scorer, found), loss))
    probed.sort(key=lambda entry: entry[0])
    for (_, loss), wanted in zip(probed, budget.pair_runs, strict=False):
        passes = min(wanted, last - scorer.ledger.passes)
        found = climb(
            scorer,
            _NAME,
            loss,
            start=problem.box.zero(),
            passes=passes,
            first_step=_FIRST_STEP,
            origin=_origin(loss),
        )
        results += [] if found is None else [found]
    results = most_promising(results)
    for polish, step in _POLISH if results else ():
        best = results[0]
        passes = min(budget.pair_polish, last - scorer.ledger.passes)
        found = climb(
            scorer,
            _NAME,
            polish,
            start=best.pattern,
            passes=passes,
            first_step=step,
            origin=best.origin.removesuffix(CORNER),
        )
        results = most_promising([*results, *([] if found is None else [found])])
    return results


def _pairs(problem: Problem, count: int) -> list[PairCollapse]:
    """Return pairs of classes.

    For every class the one its samples are nearest to, then the second nearest; near pairs first in
    each.
    """
    assert problem.oracle is not None
    logits, labels = problem.nominal_logits, problem.oracle.labels
    scale = median_scale(margins(logits, labels))
    near: list[list[tuple[float, PairCollapse]]] = [[], []]
    for target in torch.unique(labels).tolist():
        own = logits[labels == target]
        behind = (
            torch.nan_to_num(own - own[:, target : target + 1], nan=-1e30, neginf=-1e30)
            .double()
            .mean(dim=0)
            / scale
        )
        behind[target] = -torch.inf
        best = behind.topk(min(2, len(behind) - 1))
        for rank, (value, other) in enumerate(
            zip(best.values.tolist(), best.indices.tolist(), strict=True)
        ):
            near[rank].append((-value, PairCollapse(int(target), int(other))))
    ordered = [loss for group in near for _, loss in sorted(group, key=lambda entry: entry[0])]
    return ordered[:count]


def _left_over(scorer: Scorer, found: Candidate) -> float:
    """Return how far the decisions that are still correct are from turning, in median margins."""
    margin = margins(scorer.logits(found.pattern), scorer.oracle.labels)
    correct = margin[margin > 0]
    return float(correct.double().mean()) / median_scale(margin) if len(correct) else 0.0


def _origin(loss: PairCollapse) -> str:
    return f"onto class {loss.target}, which becomes {loss.other}"


PAIR_COLLAPSE = Member(_NAME, _run, needs_collapse)
