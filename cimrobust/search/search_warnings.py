"""What a search warns of.

Layers that no gradient reaches, gradients that misled, and passes that ended too early.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

from cimrobust.search.losses import CrossEntropy, Loss, RegressionError
from cimrobust.search.members import cross_fidelity
from cimrobust.search.scored import Scored, worst_of
from cimrobust.search.search_records import Warned
from cimrobust.search.torch_patterns import tensors_of

if TYPE_CHECKING:
    from cimrobust.search.pass_ledger import PassLedger
    from cimrobust.search.problem import Problem
    from cimrobust.search.scorer import Scorer
    from cimrobust.search.search_budget import Budget
    from cimrobust.search.search_results import MemberResult

# Share of the weights of a layer without a gradient that is named.
_ZERO_SHARE = 0.95
_ON_ATTACK_SET = (
    "On the crafting samples, a control found more than the members that use the network's"
    " gradients"
)
# Share of the passes at the end that are looked at, about those of continuation at `quick`, and
# the share of the score that they must have gained: what a round of continuation has to gain for
# another one to follow.
_END = 0.25
_WORTHWHILE = 0.01
# Decisions that they must have turned at least: fewer turn by chance.
_DECISIONS = 3
# Passes that may be left over: shares are whole numbers.
_ROUNDED_OFF = 4


def check_gradients(scorer: Scorer, dead: tuple[str, ...]) -> list[Warned]:
    """Make one pass without straight-through gradients and name the layers that they do not reach.

    Layers on which no output depends are left out. Later passes let rounding and the like pass
    gradients through. Converters round the input of every layer: with them, the pass lets gradients
    through too.
    """
    problem, oracle, zero = scorer.problem, scorer.oracle, scorer.problem.box.zero()
    loss: Loss = (
        RegressionError(problem.task.metric) if problem.task.is_regression else CrossEntropy()
    )
    with nullcontext() if problem.runtime.converters is not None else oracle.raw_gradients():
        evaluation = scorer.evaluate(
            tensors_of(zero, oracle.device), loss, scorer.scale_at(zero, loss)
        )
    shares = {
        name: float((gradient == 0).double().mean())
        for name, gradient in evaluation.gradients.items()
    }
    warnings = [
        Warned(code="ZERO_GRADIENT", text=_zero_text(name, share))
        for name, share in shares.items()
        if share > _ZERO_SHARE and name not in dead
    ]
    estimated = [node.text for node in oracle.outside if node.used]
    return [
        *warnings,
        *(
            [Warned(code="ESTIMATED_GRADIENT", text=_estimated_text(estimated))]
            if estimated
            else []
        ),
    ]


def _estimated_text(nodes: list[str]) -> str:
    some = ", ".join(nodes[:8]) + (f" and {len(nodes) - 8} more" if len(nodes) > 8 else "")
    return (
        "Nodes without a form that can be differentiated run in onnxruntime, and gradients through"
        f" them are estimates: {some}. The gradients of all other nodes are exact; the search may"
        " find less than it would with exact ones throughout."
    )


def _zero_text(name: str, share: float) -> str:
    return (
        f"The gradient is zero for {100 * share:.1f} % of the weights of '{name}' at the quantised"
        " weights; the search takes gradients of steps and rounding from smooth stand-ins, and its"
        " result may be far from the worst."
    )


def masking_warnings(
    problem: Problem,
    entries: Sequence[Scored],
    results: Sequence[MemberResult],
    *,
    gradient_members: Iterable[str],
    starts: Collection[str],
    known: Collection[str],
) -> list[Warned]:
    """Warn where a control did better than the members that use the network's gradients.

    On all samples or on the attack set.

    What was only continued from a control's pattern, or from one that the caller gave, is not the
    gradients' own.

    Args:
        problem: The search.
        entries: All scored patterns.
        results: All members; tells whether the search was repeated.
        gradient_members: Members that use gradients, the controls among them.
        starts: Names of the patterns given to go on from.
        known: Names of the patterns given to be scored only.
    """
    if problem.oracle is None:
        return []
    foreign = {*cross_fidelity.CONTROLS, cross_fidelity.REPEAT, *starts}
    ours = [
        entry
        for entry in entries
        if entry.member in set(gradient_members) - foreign and not _is_after(entry, foreign)
    ]
    controls = [
        entry
        for entry in entries
        if entry.member in cross_fidelity.CONTROLS or entry.member in known
    ]
    if not ours or not controls:
        return []
    best, control = worst_of(problem.runtime, ours), worst_of(problem.runtime, controls)
    repeat = next(
        (
            result
            for result in results
            if result.name == cross_fidelity.REPEAT and result.score is not None
        ),
        None,
    )
    is_ahead = _is_ahead(problem, control, best)
    if repeat is None and not is_ahead:
        return []
    finding = _finding(best, control) if is_ahead else _ON_ATTACK_SET
    return [
        Warned(
            code="GRADIENT_MASKING",
            text=f"{finding}: gradients mislead on this network, and worse patterns may"
            f" exist.{_repetition(repeat)}",
        )
    ]


def _is_after(entry: Scored, names: Iterable[str]) -> bool:
    return any(entry.origin.startswith(f"after {name}") for name in names)


def _is_ahead(problem: Problem, control: Scored, best: Scored) -> bool:
    gain = abs(best.score.value - control.score.value)
    if best.score.count is None:
        beyond = cross_fidelity.MASKING_SHARE * abs(best.score.value)
    else:
        beyond = cross_fidelity.MASKING_SAMPLES / best.score.num_samples
    return problem.task.is_worse(control.score, best.score) and gain > beyond


def _finding(best: Scored, control: Scored) -> str:
    what = "with other gradients" if control.member == cross_fidelity.NAME else "without gradients"
    return (
        f"{control.member}, which searches {what}, found {control.score.value:g} where the members"
        f" that use the network's gradients found {best.score.value:g}"
    )


def _repetition(repeat: MemberResult | None) -> str:
    if repeat is None or repeat.score is None:
        return ""
    return (
        f" The search was repeated with other gradients ({repeat.passes} passes), which found"
        f" {repeat.score.value:g}."
    )


def falling_warnings(ledger: PassLedger, budget: Budget) -> list[Warned]:
    """Warn where the last passes of a search that used all it had still found worse patterns.

    A search that stops early does so since more passes did not help, or nothing is left to break.

    Args:
        ledger: What the search spent and found.
        budget: What it was given.
    """
    trace = ledger.trace
    if ledger.left > _ROUNDED_OFF or ledger.nothing_left or len(trace) < 2:
        return []
    begin = ledger.passes - max(int(_END * ledger.passes), 1)
    before = [point.score for point in trace if point.passes <= begin]
    if not before:
        return []
    first, last = before[-1], trace[-1].score
    gain = abs(first - last)
    if gain < _WORTHWHILE * abs(first):
        return []
    task = ledger.task
    if not task.is_regression and round(gain * task.num_decisions) < _DECISIONS:
        return []
    said = f"{first:.4g} to {last:.4g}" + (
        "" if task.is_regression else " of the decisions correct"
    )
    return [
        Warned(
            code="STILL_FALLING",
            text=(
                f"The search used all of its {ledger.passes} passes (effort {budget.effort}) while"
                f" it still found worse patterns: in the last {ledger.passes - begin} it came from"
                f" {said} on the crafting samples. A higher --effort may find worse ones."
            ),
        )
    ]
