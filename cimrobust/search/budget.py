"""How much each level of effort may spend. The user chooses the level; nothing else is adjustable."""

from __future__ import annotations

from dataclasses import dataclass

from cimrobust.errors import UsageError


@dataclass(frozen=True)
class Budget:
    """What one search may spend.

    A *pass* is one forward and backward run of the torch twin over all crafting samples; an *evaluation* is one forward run of onnxruntime
    over them.

    Attributes:
        effort: Name of the level.
        max_samples: Crafting samples at most.
        smooth: Passes of each run on smoothed accuracy.
        entropy: Passes of each run on cross-entropy.
        ratio: Passes of each run on the margin ratio.
        targets: Classes that collapse is tried on.
        probe: Passes for each of them.
        collapse: Passes of each run onto the best of them.
        continuation: Passes of each continuation from the best patterns so far.
        evaluations: Evaluations of the gradient-free member beside gradient members.
        evaluations_alone: The same where there is no twin.
        random_corners: Corners drawn at random, and half as many interior points.
        max_operations: Floating-point operations of all passes together; large networks get fewer crafting samples.
    """

    effort: str
    max_samples: int
    smooth: tuple[int, ...]
    entropy: tuple[int, ...]
    ratio: tuple[int, ...]
    targets: int
    probe: int
    collapse: tuple[int, ...]
    continuation: tuple[int, ...]
    evaluations: int
    evaluations_alone: int
    random_corners: int
    max_operations: float

    @property
    def num_passes(self) -> int:
        """Passes of the whole search at most, one for the check of the gradients included."""
        runs = (*self.smooth, *self.entropy, *self.ratio, *self.collapse, *self.continuation)
        return 1 + sum(runs) + self.targets * self.probe


_LEVELS = {
    "quick": Budget(
        effort="quick",
        max_samples=500,
        smooth=(32,),
        entropy=(14,),
        ratio=(10,),
        targets=4,
        probe=4,
        collapse=(8,),
        continuation=(18,),
        evaluations=40,
        evaluations_alone=400,
        random_corners=16,
        max_operations=4e12,
    ),
    "standard": Budget(
        effort="standard",
        max_samples=1000,
        smooth=(100, 50, 30),
        entropy=(60, 30),
        ratio=(50,),
        targets=10,
        probe=8,
        collapse=(40, 30),
        continuation=(60, 40, 28),
        evaluations=80,
        evaluations_alone=2000,
        random_corners=100,
        max_operations=1e14,
    ),
    "thorough": Budget(
        effort="thorough",
        max_samples=1000,
        smooth=(200, 200, 100, 100, 100),
        entropy=(100, 100),
        ratio=(100, 100),
        targets=20,
        probe=15,
        collapse=(100, 100, 100),
        continuation=(100, 100, 100, 100),
        evaluations=400,
        evaluations_alone=10000,
        random_corners=1000,
        max_operations=1e15,
    ),
}

EFFORTS = tuple(_LEVELS)


def budget_of(effort: str) -> Budget:
    """Return the budget of a level of effort.

    Raises:
        UsageError: There is no such level.
    """
    if effort not in _LEVELS:
        raise UsageError(f"effort must be one of {', '.join(EFFORTS)}, got '{effort}' (option --effort); choose one of them")
    return _LEVELS[effort]
