"""How much an analysis is asked to do: counts, before anything is known of its cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cimrobust.search.search_budget import Budget

if TYPE_CHECKING:
    from cimrobust.engine.subject import Subject


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What an analysis is asked to do.

    Attributes:
        effort: Level of effort.
        budget: What the search may spend.
        workers: Threads.
        samples: Samples that every chip is scored on.
        attack_samples: Samples that the search makes chips on.
        trials: Chips to draw.
        effect_chips: Chips of every row of the table of effects.
        diagnostics: Names of the diagnostics.
        layers: Stored tensors.
        weights: Stored weights.
        effects: Rows of the table of effects that draw chips.
        classes: Classes with samples; 0 for a regression.
        rare_chips: Chips that are scored to tell how likely rare failures are.
        skipped: Stages that are left out on request.
    """

    effort: str
    budget: Budget
    workers: int
    samples: int
    attack_samples: int
    trials: int
    effect_chips: int
    diagnostics: tuple[str, ...]
    layers: int
    weights: int
    effects: int
    classes: int
    rare_chips: int = 0
    skipped: tuple[str, ...] = ()


def num_effects(subject: Subject) -> int:
    """Return the rows of the table of effects that draw chips."""
    profile = subject.placement.profile
    return 1 + sum(part is not None for part in (profile.faults, profile.relaxation, profile.drift))
