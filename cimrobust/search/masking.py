"""Telling from all scored patterns whether gradients misled the search."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

from cimrobust.search.members import cross_fidelity
from cimrobust.search.scored import Scored, worst_of
from cimrobust.search.search_records import Warned

if TYPE_CHECKING:
    from cimrobust.search.problem import Problem
    from cimrobust.search.search_results import MemberResult

_ON_ATTACK_SET = (
    "On the crafting samples, a control found more than the members that use the network's"
    " gradients"
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
