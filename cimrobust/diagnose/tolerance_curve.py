"""Diagnostic: the worst score found over the tolerance.

And the largest tolerance at which no chip below the requirement was found.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from cimrobust.attack.attack_context import AttackContext
from cimrobust.attack.attack_plan import AttackPlan
from cimrobust.attack.diagnosis_protocol import DiagnosisRequest, Diagnostic, Finding
from cimrobust.attack.tolerances import at_tolerance, carried, stated_tolerance
from cimrobust.data.decision import Score
from cimrobust.diagnose.curve_grid import FACTORS, STEPS, edges, grid_of
from cimrobust.diagnose.diagnose_records import TolerancePoint
from cimrobust.mapping.box import Box, Pattern

NAME = "tolerance_curve"
#: Attacks at every tolerance, by effort.
CURVE_PLANS = {
    "quick": AttackPlan(known=8, zero=4, evaluations=80),
    "standard": AttackPlan(known=16, zero=8, evaluations=240),
    "thorough": AttackPlan(known=80, zero=80, evaluations=1200),
}
#: Tolerances that are attacked at most, beside the stated one.
MOST_TOLERANCES = len(FACTORS) - 1 + STEPS


@dataclass(frozen=True)
class ToleranceCurve:
    """Worst scores found over the tolerance.

    Attributes:
        points: Smallest tolerance first; the one at the stated tolerance is the search's.
        tried: What bisection tried beside them.
        required: Score asked of every chip.
        is_policy: Whether a policy asks it; otherwise it is half of the clean accuracy, or twice
            the error.
        unrefuted: Largest tolerance tried at which no chip that misses it was found; 0: at every
            one tried there was.
        refuted: Smallest tolerance tried at which one was found; None: at none.
        passes_each: Passes of every attack at most.
    """

    points: tuple[TolerancePoint, ...]
    tried: tuple[TolerancePoint, ...]
    required: float
    is_policy: bool
    unrefuted: float
    refuted: float | None
    passes_each: int


@dataclass
class _Known:
    """The worst pattern known at every tolerance tried, and what that cost."""

    request: DiagnosisRequest
    plan: AttackPlan
    found: dict[float, tuple[Box, Pattern, Score, str]]
    passes: int = 0
    evaluations: int = 0

    def attack(self, tolerance: float) -> None:
        """Attack at one tolerance from the patterns of its neighbours."""
        own = self.request.context
        subject = at_tolerance(own.subject, tolerance, workers=own.run.workers)
        below = max((known for known in self.found if known < tolerance), default=None)
        above = min((known for known in self.found if known > tolerance), default=None)
        starts = {}
        for near in (below, above):
            if near is not None:
                box, pattern, _, _ = self.found[near]
                starts.update(
                    {
                        f"the pattern at {100 * near:.4g} %, {how}": start
                        for how, start in carried(pattern, box, subject.box).items()
                    }
                )
        attack = AttackContext(subject, own.run, own.twin, own.parts).attack(self.plan, starts)
        self.passes += attack.passes
        self.evaluations += attack.runs
        self.found[tolerance] = (subject.box, attack.pattern, attack.score, attack.origin)

    def carry_up(self) -> None:
        """Let every tolerance know the worst pattern of smaller ones, which its box holds too."""
        ordered = sorted(self.found)
        for smaller, larger in pairwise(ordered):
            _, pattern, score, _ = self.found[smaller]
            box, _, there, _ = self.found[larger]
            inside = box.clip(pattern)
            same = all((inside[name] == pattern[name]).all() for name in pattern)
            if same and self.request.runtime.task.is_worse(score, there):
                self.found[larger] = (box, pattern, score, f"the pattern at {100 * smaller:.4g} %")

    def point(self, tolerance: float) -> TolerancePoint:
        """Return what is known at a tolerance."""
        _, _, score, origin = self.found[tolerance]
        return TolerancePoint(
            tolerance=tolerance, score=score.value, correct=score.count, origin=origin
        )


def _run(request: DiagnosisRequest) -> Finding:
    stated = stated_tolerance(request.subject.placement.profile)
    start = (
        request.box,
        dict(request.found.deviations),
        request.found.engine_score,
        f"search, {request.found.member}",
    )
    known = _Known(request, CURVE_PLANS[request.run.effort], {stated: start})
    request.run.progress.start(TOLERANCE_CURVE.title, MOST_TOLERANCES)
    grid = grid_of(stated)
    for tolerance in sorted(grid, key=lambda value: (value > stated, abs(value - stated))):
        if tolerance != stated:
            known.attack(tolerance)
            request.run.progress.advance(
                1, f"{100 * tolerance:.3g} %: {known.found[tolerance][2].value:.4g}"
            )
    known.carry_up()
    required, is_policy = _required(request)
    unrefuted, refuted = _unrefuted(known, required, grid)
    known.carry_up()
    curve = ToleranceCurve(
        points=tuple(known.point(tolerance) for tolerance in grid),
        tried=tuple(
            known.point(tolerance) for tolerance in sorted(known.found) if tolerance not in grid
        ),
        required=required,
        is_policy=is_policy,
        unrefuted=unrefuted,
        refuted=refuted,
        passes_each=known.plan.passes,
    )
    return Finding(
        curve, known.passes, known.evaluations, {"tolerance curve": known.found[stated][1]}
    )


def _required(request: DiagnosisRequest) -> tuple[float, bool]:
    if request.required is not None:
        return request.required, True
    clean = request.runtime.nominal.value
    return (clean / 2 if request.runtime.task.higher_is_better else 2 * clean), False


def _unrefuted(known: _Known, required: float, grid: list[float]) -> tuple[float, float | None]:
    """Return the edges of the requirement.

    The largest tolerance at which nothing misses it, and the smallest at which something does.
    """
    higher = known.request.runtime.task.higher_is_better

    def holds(tolerance: float) -> bool:
        if tolerance not in known.found:
            known.attack(tolerance)
            known.request.run.progress.advance(
                1, f"{100 * tolerance:.3g} %: {known.found[tolerance][2].value:.4g}"
            )
        value = known.found[tolerance][2].value
        return value >= required if higher else value <= required

    return edges(holds, grid)


def _applies(request: DiagnosisRequest) -> str:
    if stated_tolerance(request.subject.placement.profile) > 0:
        return ""
    if any(stated_tolerance(profile) > 0 for profile in request.subject.placement.profiles):
        return (
            "the tolerance of the profile is 0, and layers with a tolerance of their own have no"
            " ratio to it"
        )
    return "the tolerance is 0: there is one chip only"


TOLERANCE_CURVE = Diagnostic(
    NAME, "Accuracy over tolerance", _run, applies=_applies, gives=ToleranceCurve
)
