"""What one attack may spend, and the climbs that it consists of."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from cimrobust.search.losses import (
    Collapse,
    CrossEntropy,
    Hinge,
    Loss,
    RegressionError,
    SmoothAccuracy,
)
from cimrobust.search.problem import Problem, nearest_classes

# First steps in half-widths of the box: from no deviation, and from a pattern that is bad already.
_FIRST_STEP, _LATER_STEP = 2.0, 0.5
# Classes that collapse is tried on.
_TARGETS = 2


@dataclass(frozen=True)
class Climb:
    """One climb of an attack.

    Attributes:
        losses: Each goes on from where the one before ended, with equal shares of the passes.
        passes: Passes of all together.
        start: ``zero``: no deviation; ``known``: the best known pattern; ``best``: the best pattern
            so far.
        origin: How its patterns were reached, where it begins at no deviation.
        keeps_all: The best pattern after every loss counts; False: only the last.
    """

    losses: tuple[Loss, ...]
    passes: int
    start: Literal["zero", "known", "best"] = "zero"
    origin: str = ""
    keeps_all: bool = False

    @property
    def first_step(self) -> float:
        """First step, in half-widths of the box."""
        return _FIRST_STEP if self.start == "zero" else _LATER_STEP


@dataclass(frozen=True)
class AttackPlan:
    """Passes of one attack, by what it climbs on; 0: not at all.

    Attributes:
        known: From the best known pattern on smoothed accuracy, then on margins.
        zero: From zero on smoothed accuracy.
        cooling: From zero on smoothed accuracy, its edge getting sharper.
        hinge: From zero on the margins of correct decisions.
        entropy: From zero on cross-entropy.
        collapse: From zero onto each of the two nearest classes.
        onward: From the best pattern so far.
        evaluations: Evaluations of the gradient-free search that takes their place where there is
            no twin.
        scores_zero: No deviation is scored on all samples too, so that no attack ends better than
            it began.
    """

    known: int = 0
    zero: int = 0
    cooling: int = 0
    hinge: int = 0
    entropy: int = 0
    collapse: int = 0
    onward: int = 0
    evaluations: int = 240
    scores_zero: bool = True

    @property
    def passes(self) -> int:
        """Passes at most."""
        return (
            self.known
            + self.zero
            + self.cooling
            + self.hinge
            + self.entropy
            + _TARGETS * self.collapse
            + self.onward
        )

    def scaled(self, factor: float) -> AttackPlan:
        """Return a plan of another length; what is tried at all keeps a pass."""
        counts = {
            field.name: max(round(factor * count), 1)
            for field in fields(self)
            if (count := getattr(self, field.name)) and not isinstance(count, bool)
        }
        return AttackPlan(**counts, scores_zero=self.scores_zero)

    def climbs(self, problem: Problem) -> list[Climb]:
        """Return the climbs on a problem with gradients, in order."""
        if problem.task.is_regression:
            return self._climbs_on_error(problem.task.metric)
        wide, narrow, sharp = SmoothAccuracy(0.5), SmoothAccuracy(0.25), SmoothAccuracy(0.2)
        found = [
            Climb((narrow, Hinge(0.0)), self.known, "known", keeps_all=True),
            Climb((wide, narrow), self.zero, origin="from zero", keeps_all=True),
            Climb((wide, sharp), self.cooling, origin="smooth accuracy from zero"),
            Climb((Hinge(0.0),), self.hinge, origin="hinge from zero"),
            Climb((CrossEntropy(),), self.entropy, origin="cross-entropy from zero"),
        ]
        if self.collapse:
            found += [
                Climb((Collapse(target),), self.collapse, origin=f"onto class {target}")
                for target in nearest_classes(problem)[:_TARGETS]
            ]
        later: tuple[Loss, ...] = (SmoothAccuracy(0.1), Hinge(0.0))
        return [*found, *(Climb((loss,), self.onward // len(later), "best") for loss in later)]

    def _climbs_on_error(self, metric: str) -> list[Climb]:
        error = (RegressionError(metric),)
        long = self.cooling + self.hinge + self.entropy + _TARGETS * self.collapse
        return [
            Climb(error, self.known, "known"),
            Climb(error, self.zero, origin="from zero"),
            Climb(error, long, origin="error from zero"),
            Climb(error, self.onward, "best"),
        ]


#: An attack from scratch that takes the place of a search.
FULL_ATTACK = AttackPlan(
    cooling=20, hinge=10, entropy=6, collapse=6, onward=16, evaluations=240, scores_zero=False
)
