"""Members that check the gradients.

Patterns made with those of another fidelity of the network, tried on the deployed one.

Searches without gradients are no control: in tens of thousands of dimensions they find nothing,
masked gradients or not. What can be
compared is the same climb with other gradients. Two are taken: with rounding and quantisers left
out and leaking activations (*softened*;
finds what straight-through gradients miss where activations saturate), and without straight-through
gradients (*raw*; finds what they miss
where rounding cancels, as in a fractional part). Every pattern is measured on the deployed network.
Where such a control leaves fewer
decisions right than all members before it, their gradients mislead: the search is repeated with the
gradients of the control.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace

from cimrobust.mapping.box import Pattern
from cimrobust.search.climb import climb
from cimrobust.search.losses import CrossEntropy, Loss, RegressionError, SmoothAccuracy
from cimrobust.search.members import corner_search, random_corners
from cimrobust.search.oracle import GradientOracle
from cimrobust.search.problem import Board, Candidate, Problem
from cimrobust.search.search_budget import Budget
from cimrobust.search.search_results import Member
from cimrobust.search.starts import most_promising
from cimrobust.twin.ops.surrogate import SOFTENED, STEPWISE

NAME = "cross_fidelity"
REPEAT = "repeat_after_masking"
#: Right decisions by which a control must be ahead; for a regression, the share of the error.
MASKING_SAMPLES = 2
MASKING_SHARE = 0.01
#: Members that the gradient members are held against.
CONTROLS = frozenset({NAME, corner_search.NAME, random_corners.NAME})
# Passes below which a run is not worth its start.
_FEWEST = 6
_FIRST_STEP = 2.0
_LATER_STEP = 0.5

Fidelity = Callable[[GradientOracle], AbstractContextManager[None]]
_FIDELITIES: tuple[tuple[str, frozenset[str], Fidelity], ...] = (
    ("softened", SOFTENED, GradientOracle.softened),
    ("raw", STEPWISE, GradientOracle.raw_gradients),
)


def masked_by(problem: Problem) -> Candidate | None:
    """Return the best candidate of the controls where it beats all gradient members.

    It must do so by more than chance, on the attack set.
    """
    given = {start.member for start in problem.starts}
    ours = [
        candidate for candidate in problem.board.best() if candidate.member not in given | CONTROLS
    ]
    controls = [candidate for candidate in problem.board.best() if candidate.member in CONTROLS]
    if not ours or not controls:
        return None
    beaten = ours[0].key[0]
    margin = MASKING_SHARE * abs(beaten) if problem.task.is_regression else MASKING_SAMPLES
    return controls[0] if controls[0].key[0] < beaten - margin else None


def _run(problem: Problem, budget: Budget) -> list[Candidate]:
    """Climb from zero with the gradients of each other fidelity."""
    kinds = _kinds(problem)
    results: list[Candidate] = []
    for name, fidelity in kinds:
        with _transfer(problem, fidelity) as other:
            loss, passes = _losses(problem)[0], budget.control // len(kinds)
            origin = f"{name} gradients{_back(problem, other) if name == 'softened' else ''}"
            found = climb(other, NAME, loss, start=problem.box.zero(), passes=passes, origin=origin)
        results += [] if found is None else [found]
    return _offered(problem, results)


def _back(problem: Problem, other: Problem) -> str:
    """Return what the worst pattern of the gradient members does to the other network.

    Little there hints that they live on rounding.
    """
    ours = [candidate for candidate in problem.board.best() if candidate.member not in CONTROLS]
    if not ours:
        return ""
    here, there = ours[0].key[0], other.foresee(ours[0].pattern)[0]
    if problem.task.is_regression:
        return f" ({ours[0].member}: error {-here:.4g}, {-there:.4g} on the softened network)"
    return f" ({ours[0].member}: {here:g} right, {there:g} on the softened network)"


def _repeat(problem: Problem, budget: Budget) -> list[Candidate]:
    """Go on with the gradients that the others were beaten with.

    It goes on from the control's pattern, and from zero where the passes allow.

    A third of the passes stays for continuation.
    """
    control = masked_by(problem)
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
    available = problem.left - problem.left // 3
    if available < _FEWEST * len(kinds) * len(runs):
        runs = runs[:1]
    passes = available // (len(kinds) * len(runs))
    results: list[Candidate] = []
    for name, fidelity in kinds:
        for loss, start, step, where in runs:
            with _transfer(problem, fidelity) as other:
                origin = f"{name} gradients, {where}"
                found = climb(
                    other, REPEAT, loss, start=start, passes=passes, first_step=step, origin=origin
                )
            results += [] if found is None else [found]
    return _offered(problem, results)


def _offered(problem: Problem, results: list[Candidate]) -> list[Candidate]:
    for candidate in results:
        problem.offer(candidate)
    return most_promising(results)


@contextmanager
def _transfer(problem: Problem, fidelity: Fidelity) -> Iterator[Problem]:
    """Lend a problem whose gradients are of another fidelity, with a board of its own.

    What it spends is spent here.
    """
    assert problem.oracle is not None
    other = replace(problem, board=Board(), starts=[], trace=[], is_transfer=True)
    try:
        with fidelity(problem.oracle):
            yield other
    finally:
        problem.passes, problem.forward_samples = other.passes, other.forward_samples


def _losses(problem: Problem) -> Sequence[Loss]:
    if problem.task.is_regression:
        return [RegressionError(problem.task.metric)]
    return [SmoothAccuracy(), CrossEntropy()]


def _kinds(problem: Problem) -> list[tuple[str, Fidelity]]:
    """Return the other fidelities that the network has."""
    assert problem.oracle is not None
    present = problem.oracle.operators
    return [(name, fidelity) for name, operators, fidelity in _FIDELITIES if operators & present]


def _applies(problem: Problem) -> str:
    return (
        ""
        if _kinds(problem)
        else "the network neither rounds nor saturates: there are no other gradients"
    )


def _repeat_applies(problem: Problem) -> str:
    if masked_by(problem) is None:
        return "no control found more than the gradients did"
    return _applies(problem)


CROSS_FIDELITY = Member(NAME, _run, applies=_applies)
REPEAT_AFTER_MASKING = Member(REPEAT, _repeat, applies=_repeat_applies)
