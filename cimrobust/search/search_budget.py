"""How much each level of effort may spend.

The user chooses the level; `--passes` and `--attack-samples` make its search shorter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from cimrobust.errors import UsageError

if TYPE_CHECKING:
    from cimrobust.run import Run

#: A backward run costs about two forward runs.
RUNS_PER_PASS = 3


@dataclass(frozen=True)
class Budget:
    """What one search may spend.

    A *pass* is one forward and backward run of the torch twin over the attack set; an *evaluation*
    is one forward run over them, by onnxruntime or the twin.

    Attributes:
        effort: Name of the level.
        max_samples: Samples of the attack set at most.
        smooth: Passes of each run on smoothed accuracy.
        hinge: Passes of each run on the margins of correct decisions.
        entropy: Passes of each run on cross-entropy.
        ratio: Passes of each run on the margin ratio.
        papers: Passes of the papers' method.
        targets: Classes that collapse is tried on.
        probe: Passes for each of them.
        collapse: Passes of each run onto the best of them.
        pair_share: Passes set aside for pairs of classes, beside what earlier members did not need.
        pairs: Pairs of classes that a collapse is tried on which turns the last class too, once the
            decisions have collapsed; as many as the passes allow.
        pair_probe: Passes for each of them.
        pair_runs: Passes of each run on the best of them.
        pair_polish: Passes of each of four losses that go on from the best.
        control: Passes with the gradients of other fidelities, where the network has any.
        continuation: Passes of each continuation from the best patterns so far.
        evaluations: Evaluations of the gradient-free member beside gradient members.
        evaluations_alone: The same where there is no twin.
        random_corners: Corners drawn at random, and half as many interior points.
        max_operations: Floating-point operations of all passes together; large networks get fewer
            samples in the attack set.
        usual_samples: Samples that a costlier network gets all the same; fewer say too little about
            a data set.
        usual_operations: What those may cost; a network that asks for more gets fewer.
        least_samples: Samples of the attack set at least, whatever they cost.
    """

    effort: str
    max_samples: int
    smooth: tuple[int, ...]
    hinge: tuple[int, ...]
    entropy: tuple[int, ...]
    ratio: tuple[int, ...]
    papers: int
    targets: int
    probe: int
    collapse: tuple[int, ...]
    pair_share: int
    pairs: int
    pair_probe: int
    pair_runs: tuple[int, ...]
    pair_polish: int
    control: int
    continuation: tuple[int, ...]
    evaluations: int
    evaluations_alone: int
    random_corners: int
    max_operations: float
    usual_samples: int = 128
    usual_operations: float = math.inf
    least_samples: int = 8

    @property
    def num_passes(self) -> int:
        """Passes of the whole search at most, one for the check of the gradients included."""
        return 1 + sum(self.shares.values())

    @property
    def shares(self) -> dict[str, int]:
        """Passes of each member at most.

        What a member does not need is left to the pairs of classes and to continuation.
        """
        return {
            "smooth_accuracy": sum(self.smooth),
            "margin_hinge": sum(self.hinge),
            "cross_entropy": sum(self.entropy),
            "dlr": sum(self.ratio),
            "carlini_wagner": self.papers,
            "class_collapse": self.targets * self.probe + sum(self.collapse),
            "pair_collapse": self.pair_share,
            "cross_fidelity": self.control,
            "continuation": sum(self.continuation),
        }

    def affordable(self, operations: float) -> int:
        """Return the samples of the attack set of a network.

        Args:
            operations: Floating-point operations of one sample's forward run.
        """
        if operations == 0:
            return self.max_samples
        a_sample = RUNS_PER_PASS * self.num_passes * operations
        count = int(self.max_operations / a_sample)
        if count < self.usual_samples:
            most = self.usual_samples
            count = (
                most
                if most * a_sample <= self.usual_operations
                else int(self.usual_operations / a_sample)
            )
        return min(max(count, self.least_samples), self.max_samples)


_LEVELS = {
    "quick": Budget(
        effort="quick",
        max_samples=1000,
        smooth=(24,),
        hinge=(6,),
        entropy=(10,),
        ratio=(10,),
        papers=6,
        targets=4,
        probe=3,
        collapse=(4,),
        pair_share=0,
        pairs=3,
        pair_probe=4,
        pair_runs=(24,),
        pair_polish=4,
        control=8,
        continuation=(18,),
        evaluations=40,
        evaluations_alone=400,
        random_corners=16,
        max_operations=3e12,
        usual_operations=3e13,
    ),
    "standard": Budget(
        effort="standard",
        max_samples=1000,
        smooth=(40, 40),
        hinge=(20,),
        entropy=(20,),
        ratio=(20,),
        papers=40,
        targets=6,
        probe=4,
        collapse=(20,),
        pair_share=280,
        pairs=16,
        pair_probe=4,
        pair_runs=(40, 40, 40, 40, 40, 40),
        pair_polish=10,
        control=24,
        continuation=(36, 30),
        evaluations=80,
        evaluations_alone=2000,
        random_corners=100,
        max_operations=1e14,
    ),
    "thorough": Budget(
        effort="thorough",
        max_samples=1000,
        smooth=(160, 160, 120, 120, 120),
        hinge=(100, 100, 60),
        entropy=(80, 60),
        ratio=(60, 40),
        papers=400,
        targets=20,
        probe=10,
        collapse=(60, 60, 60),
        pair_share=960,
        pairs=40,
        pair_probe=15,
        pair_runs=(60, 60, 60, 60),
        pair_polish=30,
        control=100,
        continuation=(80, 80, 80, 80),
        evaluations=400,
        evaluations_alone=10000,
        random_corners=1000,
        max_operations=1e15,
    ),
}

EFFORTS = tuple(_LEVELS)
# What a shorter search has fewer of.
_LENGTHS = (
    "smooth",
    "hinge",
    "entropy",
    "ratio",
    "papers",
    "targets",
    "probe",
    "collapse",
    "pair_share",
    "pairs",
    "pair_probe",
    "pair_runs",
    "pair_polish",
    "control",
    "continuation",
    "evaluations",
    "evaluations_alone",
    "random_corners",
)
# Lengths that are tried between none and all.
_GRAIN = 1000


def papers_budget(passes: int) -> Budget:
    """Return a budget for the papers' method alone, with the attack set of ``standard``."""
    standard = _LEVELS["standard"]
    alone = replace(
        standard,
        smooth=(),
        hinge=(),
        entropy=(),
        ratio=(),
        papers=passes,
        targets=0,
        collapse=(),
        pair_share=0,
        control=0,
        continuation=(),
        evaluations=0,
        random_corners=0,
    )
    return replace(
        alone, max_operations=standard.max_operations * alone.num_passes / standard.num_passes
    )


def budget_for(run: Run) -> Budget:
    """Return the budget of a run: that of its effort, with passes and samples that it states.

    Raises:
        UsageError: There is no such effort, or it has no search of so many passes.
    """
    budget = budget_of(run.effort)
    if run.passes is not None:
        budget = _with_passes(budget, run.passes)
    if run.attack_samples is None:
        return budget
    return replace(
        budget,
        max_samples=run.attack_samples,
        usual_samples=run.attack_samples,
        usual_operations=math.inf,
    )


def least_passes(effort: str) -> int:
    """Return the passes of the shortest search that still tries all that an effort tries."""
    return _scaled(budget_of(effort), 0.0).num_passes


def _with_passes(budget: Budget, passes: int) -> Budget:
    """Return the longest search of an effort that makes at most so many passes."""
    least, most = _scaled(budget, 0.0).num_passes, budget.num_passes
    if not least <= passes <= most:
        raise UsageError(
            f"passes must be from {least} to {most} at effort {budget.effort}, got {passes}"
            " (option --passes); choose a number in this range, or another --effort"
        )
    if passes == most:
        return budget
    steps = (_scaled(budget, step / _GRAIN) for step in range(_GRAIN, -1, -1))
    return next(scaled for scaled in steps if scaled.num_passes <= passes)


def _scaled(budget: Budget, factor: float) -> Budget:
    """Return a search of another length on as many samples; what is tried at all keeps a pass."""

    def shorter(count: int | tuple[int, ...]) -> Any:
        if isinstance(count, tuple):
            return tuple(shorter(entry) for entry in count)
        return max(int(factor * count), min(count, 1))

    found = replace(budget, **{name: shorter(getattr(budget, name)) for name in _LENGTHS})
    share = found.num_passes / budget.num_passes
    return replace(
        found,
        max_operations=share * budget.max_operations,
        usual_operations=share * budget.usual_operations,
    )


def budget_of(effort: str) -> Budget:
    """Return the budget of a level of effort.

    Raises:
        UsageError: There is no such level.
    """
    if effort not in _LEVELS:
        raise UsageError(
            f"effort must be one of {', '.join(EFFORTS)}, got '{effort}' (option --effort); choose"
            " one of them"
        )
    return _LEVELS[effort]
