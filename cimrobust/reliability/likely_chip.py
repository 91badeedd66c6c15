"""The search for the most probable failing chip: what it may spend, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from cimrobust.engine.latent import LatentChips
from cimrobust.reliability.descent import Spent
from cimrobust.reliability.proof import Proof


@dataclass(frozen=True)
class LikelyPlan:
    """What one search may spend.

    Attributes:
        drawn: Chips drawn for the units of margins and as starts.
        starts: Starts with gradients, given patterns not counted; at least 3.
        given: Given patterns that are started from with gradients.
        descent: Passes of a start on the stand-in, at most.
        refinement: Passes of a start on the event.
        rays: Drawn chips whose rays are followed where there is no twin.
    """

    drawn: int
    starts: int
    given: int
    descent: int
    refinement: int
    rays: int

    @property
    def passes(self) -> int:
        """Passes at most."""
        return (self.starts + self.given) * (self.descent + self.refinement)


PLANS = {
    "quick": LikelyPlan(drawn=12, starts=3, given=1, descent=10, refinement=10, rays=4),
    "standard": LikelyPlan(drawn=24, starts=5, given=2, descent=12, refinement=24, rays=12),
    "thorough": LikelyPlan(drawn=48, starts=12, given=2, descent=20, refinement=80, rays=48),
}


@dataclass(frozen=True)
class Attempt:
    """What one start led to.

    Attributes:
        name: The start.
        latents: The nearest failing chip; None: none was met.
        norm: Its norm.
        passes: Forward-backward passes.
        evaluations: Chips run through the deployed network.
    """

    name: str
    latents: Float32[np.ndarray, "devices"] | None
    norm: float | None
    passes: int
    evaluations: int


@dataclass(frozen=True)
class ProbableChip:
    """The failing chip of smallest norm that was found.

    Attributes:
        latents: Of all devices, float32 [size].
        norm: Their norm: beta, at most.
        proof: Its weights and what they score.
        attempt: Name of the start that led to it.
    """

    latents: Float32[np.ndarray, "devices"]
    norm: float
    proof: Proof
    attempt: str


@dataclass(frozen=True)
class LikelySearch:
    """What came of a search for the most probable failing chip.

    Attributes:
        below: The score that chips miss.
        num_wrong: Wrong decisions that make a chip miss it; None for regression.
        chips: Where devices are among the latents.
        chip: The chip; None: no failing chip was met.
        reason: Why there is none; empty where there is one.
        attempts: All starts, in order.
        has_gradient: Gradients were used.
        gradient_reason: Why not; None where they were.
        crafting_samples: Samples that gradients were taken on; the event is decided on all.
        spent: Passes and evaluations.
        effort: Level of effort.
        seed: Seed.
    """

    below: float
    num_wrong: int | None
    chips: LatentChips
    chip: ProbableChip | None
    reason: str
    attempts: tuple[Attempt, ...]
    has_gradient: bool
    gradient_reason: str | None
    crafting_samples: int
    spent: Spent
    effort: str
    seed: int
