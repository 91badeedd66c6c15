"""Members: the method of the papers, which the others have to beat, and a fast run of it.

Additive noise N on every weight, in units of max|W| of its layer, minimises by Adam

    c * sum_k max(Z_k[label] - max_{i != label} Z_k[i], -kappa) + max|N|,   kappa = 0,

and c is searched for: smaller where the noise reaches the bound, larger where it does not (Yan, Hu,
Shi, ICCAD 2022, arXiv 2207.07626; the loss is that of Carlini, Wagner, S&P 2017, equation 6, and
its f_6). Changed, each time in favour of the method: the runner-up is the true one (the published
code takes 0 where all wrong scores are negative), the noise is projected to the box after every
step (it is a soft penalty there, so that results at a bound are not within it), c may also grow (it
stands still there), every step sees all samples, learning rates are tried in a grid, and the best
of all iterates counts, not the last.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from cimrobust.search.adam import Adam
from cimrobust.search.candidate import Candidate, Earlier
from cimrobust.search.kept_runs import kept_run
from cimrobust.search.losses import Hinge, margins, median_scale
from cimrobust.search.members.member_protocol import Member, needs_classes, needs_collapse
from cimrobust.search.torch_patterns import array_of

if TYPE_CHECKING:
    from cimrobust.search.pass_ledger import PassLedger
    from cimrobust.search.problem import Problem
    from cimrobust.search.scorer import Scorer
    from cimrobust.search.search_budget import Budget

_NAME, _FAST = "carlini_wagner", "fast_run"
_LOSS = Hinge(0.0)
# First c: the hinge term of the quantised weights is this many times the largest distance.
_FIRST_WEIGHT = 100.0
# Share of its bound that noise must come to, somewhere, to have reached it.
_REACHED = 0.999
# The grid of the papers' method alone: learning rates (see `Grid`), values of c, and steps of a run
# at least.
_FASTEST = 20.0
_SPEEDS, _ROUNDS, _LEAST = (2.0, 6.0, _FASTEST), 10, 30
# Steps from which on the fastest of them pays, and the learning rate below.
_SETTLED, _SHORT = 20, 3.0
# Passes after which a fast run has gone where it goes.
_MOST = 80


@dataclass(frozen=True)
class Grid:
    """How the passes are spent: learning rates times values of c times Adam steps.

    Attributes:
        speeds: Learning rates, as bounds crossed in one run by a weight that always moves the same
            way.
        rounds: Values of c, one search each learning rate.
        steps: Adam steps of a run.
    """

    speeds: tuple[float, ...]
    rounds: int
    steps: int


def grid_of(passes: int) -> Grid:
    """Return how so many passes are spent.

    Ten values of c as in the papers and three learning rates where that leaves enough steps; else
    one run, fast where it has the steps to settle: below a plateau it
    leads further than several slow ones with as many passes together (docs/lab-book/search.md).
    """
    if passes >= len(_SPEEDS) * _ROUNDS * _LEAST:
        return Grid(_SPEEDS, _ROUNDS, passes // (len(_SPEEDS) * _ROUNDS))
    return Grid((_FASTEST if passes >= _SETTLED else _SHORT,), 1, passes)


def _run(problem: Problem, scorer: Scorer, budget: Budget, earlier: Earlier) -> list[Candidate]:
    grid = grid_of(budget.papers // (2 if problem.has_collapsed(scorer.ledger.best) else 1))
    if grid.steps == 0:
        return []
    results: list[Candidate] = []
    for speed in grid.speeds:
        for weight in (search := _Weights(_FIRST_WEIGHT)).values(grid.rounds):
            if scorer.ledger.nothing_left or not scorer.ledger.left:
                break
            candidate, share = _kept(scorer, _NAME, weight, speed, grid.steps)
            search.report(reached=share >= _REACHED)
            results.append(candidate)
    return results


class _Weights:
    """Bisection, in the logarithm, for the smallest c whose noise reaches the bound."""

    def __init__(self, first: float) -> None:
        self._next, self._reached, self._missed = first, math.inf, 0.0

    def values(self, count: int) -> Iterator[float]:
        """Yield the values to try; each must be reported on before the next."""
        for _ in range(count):
            yield self._next

    def report(self, *, reached: bool) -> None:
        """Say whether the noise of the last value reached the bound."""
        if reached:
            self._reached = self._next
            self._next = math.sqrt(self._next * self._missed) if self._missed else self._next / 10
        else:
            self._missed = self._next
            self._next = (
                math.sqrt(self._next * self._reached)
                if self._reached < math.inf
                else self._next * 10
            )


def _fast_run(
    problem: Problem, scorer: Scorer, budget: Budget, earlier: Earlier
) -> list[Candidate]:
    """Run once, fast, with the passes that the others left, once decisions have collapsed.

    Small steps from zero lead to "everything is one class" and stay there. Adam with steps of a
    quarter of the box, which the sum of margins of the decisions that are still correct steers,
    crosses that plateau: on CIFAR networks at 0.5 % it left nothing correct after 55 to 75 passes,
    where the other members stopped with two decisions of 128 (docs/lab-book/search.md).
    """
    passes = min(scorer.ledger.left, _MOST)
    return [_kept(scorer, _FAST, _FIRST_WEIGHT, _FASTEST, passes)[0]]


def _fast_run_applies(problem: Problem, ledger: PassLedger, earlier: Earlier) -> str:
    reason = needs_collapse(problem, ledger, earlier)
    return reason or ("" if ledger.left >= _SETTLED else f"fewer than {_SETTLED} passes are left")


def _kept(
    scorer: Scorer, member: str, weight: float, speed: float, steps: int
) -> tuple[Candidate, float]:
    """Return what `_minimise` does, from disk where it is known."""
    found, share = kept_run(scorer, partial(_minimise, scorer, member, weight, speed, steps))
    assert found is not None  # a run makes at least one step
    return found, share


def _minimise(
    scorer: Scorer, member: str, weight: float, speed: float, steps: int
) -> tuple[Candidate, float]:
    """Run Adam from zero.

    Return the best iterate and how much of the bound its last noise uses, at the weight that uses
    most.

    Args:
        scorer: Scores patterns.
        member: Name of the member that runs it.
        weight: c, as the hinge term of the quantised weights over the largest distance.
        speed: Learning rate, see `Grid`.
        steps: Adam steps, one pass each; fewer where passes or decisions run out.
    """
    problem, labels = scorer.problem, scorer.oracle.labels
    space, sizes = problem.space, _sizes(problem)
    bound = max(
        float((torch.maximum(space.hi[name], -space.lo[name]) / size).max())
        for name, size in sizes.items()
    )
    noise = {name: torch.zeros_like(lo, requires_grad=True) for name, lo in space.lo.items()}
    adam = Adam(list(noise.values()), max(speed * bound / steps, 1e-30))
    factor = weight * bound / median_scale(margins(problem.nominal_logits, labels))
    origin = f"c {factor / len(labels):.2g}, learning rate {speed * bound / steps:.2g}"
    best: Candidate | None = None
    for _ in range(steps):
        pattern = _inside(problem, {name: n.detach() * sizes[name] for name, n in noise.items()})
        evaluation = scorer.evaluate(pattern, _LOSS, 1.0)
        deviations = {name: array_of(d) for name, d in pattern.items()}
        candidate = Candidate(deviations, scorer.key_of(evaluation, deviations), origin, member)
        scorer.ledger.record(candidate.key)
        best = candidate if best is None or candidate.key < best.key else best
        if scorer.ledger.nothing_left or not scorer.ledger.left:
            break
        slopes = torch.autograd.grad(_distance(noise), list(noise.values()))
        with torch.no_grad():
            adam.step(
                [
                    slope - factor * sizes[name] * evaluation.gradients[name]
                    for name, slope in zip(noise, slopes, strict=True)
                ]
            )
            for name, n in noise.items():
                n.copy_(
                    torch.minimum(
                        torch.maximum(n, space.lo[name] / sizes[name]), space.hi[name] / sizes[name]
                    )
                )
    assert best is not None
    return best, float(_distance(noise).detach()) / bound if bound > 0 else 1.0


def _sizes(problem: Problem) -> dict[str, float]:
    """Return max|W| of every layer, the unit of its noise; 1 where all weights are 0."""
    return {
        name: float(abs(nominal).max(initial=0.0)) or 1.0
        for name, nominal in problem.box.nominal.items()
    }


def _inside(
    problem: Problem, deviations: dict[str, Float[Tensor, "..."]]
) -> dict[str, Float[Tensor, "..."]]:
    """Return the nearest deviations inside the box.

    Noise in other units may miss the border by a rounding.
    """
    lo, hi = problem.space.lo, problem.space.hi
    return {
        name: torch.minimum(torch.maximum(d, lo[name]), hi[name]) for name, d in deviations.items()
    }


def _distance(noise: dict[str, Float[Tensor, "..."]]) -> Float[Tensor, ""]:
    """Return the largest magnitude of all noise."""
    return torch.stack([n.abs().amax() for n in noise.values() if n.numel()]).amax()


CARLINI_WAGNER = Member(_NAME, _run, needs_classes)
FAST_RUN = Member(_FAST, _fast_run, _fast_run_applies)
