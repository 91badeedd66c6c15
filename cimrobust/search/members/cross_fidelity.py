"""Members that check the gradients.

Patterns made with those of another fidelity of the network, tried on the deployed one.

Searches without gradients are no control: in tens of thousands of dimensions they find nothing,
masked gradients or not. What can be compared is the same climb with other gradients. Two are taken:
with rounding and quantisers left out and leaking activations (*softened*; finds what
straight-through gradients miss where activations saturate), and without straight-through gradients
(*raw*; finds what they miss where rounding cancels, as in a fractional part). Every pattern is
scored on the deployed network. Where such a control leaves fewer decisions correct than all members
before it, their gradients mislead: the search is repeated with the gradients of the control.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from cimrobust.search.climb import climb
from cimrobust.search.losses import CrossEntropy, Loss, RegressionError, SmoothAccuracy
from cimrobust.search.members.gradient_free import CORNER_SEARCH, RANDOM_CORNERS
from cimrobust.search.members.member_protocol import Member
from cimrobust.search.oracle import GradientOracle
from cimrobust.twin.ops.surrogate import SOFTENED, STEPWISE

if TYPE_CHECKING:
    from cimrobust.mapping.box import Pattern
    from cimrobust.search.candidate import Candidate, Earlier
    from cimrobust.search.pass_ledger import PassLedger
    from cimrobust.search.problem import Problem
    from cimrobust.search.scorer import Scorer
    from cimrobust.search.search_budget import Budget

NAME = "cross_fidelity"
REPEAT = "repeat_after_masking"
#: Correct decisions by which a control must be ahead; for a regression, the share of the error.
MASKING_SAMPLES = 2
MASKING_SHARE = 0.01
#: Members that the gradient members are held against.
CONTROLS = frozenset({NAME, CORNER_SEARCH.name, RANDOM_CORNERS.name})
# Passes below which a run is not worth its start.
_FEWEST = 6
_FIRST_STEP = 2.0
_LATER_STEP = 0.5

Fidelity = Callable[[GradientOracle], AbstractContextManager[None]]
_FIDELITIES: tuple[tuple[str, frozenset[str], Fidelity], ...] = (
    ("softened", SOFTENED, GradientOracle.softened),
    ("raw", STEPWISE, GradientOracle.raw_gradients),
)


def masked_by(problem: Problem, earlier: Earlier) -> Candidate | None:
    """Return the best candidate of the controls where it beats all gradient members.

    By more than chance, on the attack set.
    """
    given = {start.member for start in earlier.starts}
    ours = [candidate for candidate in earlier.best if candidate.member not in given | CONTROLS]
    controls = [candidate for candidate in earlier.best if candidate.member in CONTROLS]
    if not ours or not controls:
        return None
    beaten = ours[0].key.score
    least = MASKING_SHARE * abs(beaten) if problem.task.is_regression else MASKING_SAMPLES
    return controls[0] if controls[0].key.score < beaten - least else None


def _run(problem: Problem, scorer: Scorer, budget: Budget, earlier: Earlier) -> list[Candidate]:
    """Climb from zero with the gradients of each other fidelity."""
    kinds = _kinds(problem)
    results: list[Candidate] = []
    for name, fidelity in kinds:
        with _transfer(scorer, fidelity) as other:
            loss, passes = _losses(problem)[0], budget.control // len(kinds)
            back = _back(problem, other, earlier) if name == "softened" else ""
            origin = f"{name} gradients{back}"
            found = climb(other, NAME, loss, start=problem.box.zero(), passes=passes, origin=origin)
        results += [] if found is None else [found]
    return results


def _back(problem: Problem, other: Scorer, earlier: Earlier) -> str:
    """Return what the worst pattern of the gradient members does to the other network.

    Little there hints that they live on rounding.
    """
    ours = [candidate for candidate in earlier.best if candidate.member not in CONTROLS]
    if not ours:
        return ""
    member, here = ours[0].member, ours[0].key.score
    there = other.score([ours[0].pattern], by="twin")[0].score
    if problem.task.is_regression:
        return f" ({member}: error {-here:.4g}, {-there:.4g} on the softened network)"
    return f" ({member}: {here:g} right, {there:g} on the softened network)"


def _repeat(problem: Problem, scorer: Scorer, budget: Budget, earlier: Earlier) -> list[Candidate]:
    """Go on with the gradients that the others were beaten with.

    From the control's pattern, and from zero where the passes allow. A third of the passes stays
    for continuation.
    """
    control = masked_by(problem, earlier)
    assert control is not None
    kinds = [
        kind
        for kind in _kinds(problem)
        if control.member != NAME or control.origin.startswith(kind[0])
    ]
    losses = _losses(problem)
    runs: list[tuple[Loss, Pattern, float, str]] = [
        (losses[0], control.pattern, _LATER_STEP, f"after {control.member}")
    ]
    runs += [(loss, problem.box.zero(), _FIRST_STEP, "from zero") for loss in losses]
    available = scorer.ledger.left - scorer.ledger.left // 3
    if available < _FEWEST * len(kinds) * len(runs):
        runs = runs[:1]
    passes = available // (len(kinds) * len(runs))
    results: list[Candidate] = []
    for name, fidelity in kinds:
        for loss, start, step, where in runs:
            with _transfer(scorer, fidelity) as other:
                origin = f"{name} gradients, {where}"
                found = climb(
                    other, REPEAT, loss, start=start, passes=passes, first_step=step, origin=origin
                )
            results += [] if found is None else [found]
    return results


@contextmanager
def _transfer(scorer: Scorer, fidelity: Fidelity) -> Iterator[Scorer]:
    """Lend a scorer whose gradients are of another fidelity, and which knows nothing found so far.

    What it spends is spent here.
    """
    lent = scorer.ledger.lend()
    try:
        with fidelity(scorer.oracle):
            yield replace(scorer, ledger=lent, is_transfer=True)
    finally:
        scorer.ledger.settle(lent)


def _losses(problem: Problem) -> Sequence[Loss]:
    if problem.task.is_regression:
        return [RegressionError(problem.task.metric)]
    return [SmoothAccuracy(), CrossEntropy()]


def _kinds(problem: Problem) -> list[tuple[str, Fidelity]]:
    """Return the other fidelities that the network has."""
    assert problem.oracle is not None
    present = problem.oracle.operators
    return [(name, fidelity) for name, operators, fidelity in _FIDELITIES if operators & present]


def _applies(problem: Problem, ledger: PassLedger, earlier: Earlier) -> str:
    return (
        ""
        if _kinds(problem)
        else "the network neither rounds nor saturates: there are no other gradients"
    )


def _repeat_applies(problem: Problem, ledger: PassLedger, earlier: Earlier) -> str:
    if masked_by(problem, earlier) is None:
        return "no control found more than the gradients did"
    return _applies(problem, ledger, earlier)


CROSS_FIDELITY = Member(NAME, _run, _applies)
REPEAT_AFTER_MASKING = Member(REPEAT, _repeat, _repeat_applies)
