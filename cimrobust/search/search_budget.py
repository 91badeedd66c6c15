"""How much each level of effort may spend.

The user chooses the level; nothing else is adjustable.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from cimrobust.errors import UsageError


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
