"""Selective write-verify: what is asked, and what comes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float64, Int64

from cimrobust.attack.attack_plan import FULL_ATTACK, AttackPlan
from cimrobust.data.decision import Score
from cimrobust.device_level.device_level_records import VerifyRow
from cimrobust.device_level.write_cycles import WriteCycles
from cimrobust.errors import UsageError
from cimrobust.mapping.box import Pattern

SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
#: Rankings in the order in which they are tried.
RANKINGS: Mapping[str, str] = {
    "worst_case": (
        "second derivative at and on the way to attacked points times squared range, attacked again"
        " as devices are taken"
    ),
    "gain": "gradient at attacked points times range",
    "second_derivative": "second derivative at the quantised weights (SWIM) times squared range",
    "magnitude": "magnitude of the weight times range",
    "slice": "range of the device alone, equal ones at random",
    "random": "at random",
}


@dataclass(frozen=True)
class VerifySettings:
    """What is asked.

    Attributes:
        shares: Shares of all devices, ascending, in (0, 1].
        factor: How many times tighter they are verified.
        draws: Random rankings.
        plan: Passes of every attack.
        cycles: Model of the writes that a tolerance takes.
        rankings: Names of the rankings to compare.
    """

    shares: tuple[float, ...] = SHARES
    factor: float = 10.0
    draws: int = 3
    plan: AttackPlan = FULL_ATTACK
    cycles: WriteCycles = field(default_factory=WriteCycles)
    rankings: tuple[str, ...] = tuple(RANKINGS)

    def __post_init__(self) -> None:
        bad = [share for share in self.shares if not 0 < share <= 1]
        if bad or list(self.shares) != sorted(set(self.shares)) or not self.shares:
            raise UsageError(
                "shares of devices must be ascending numbers in (0, 1], got"
                f" {', '.join(f'{share:g}' for share in self.shares)} (--shares); give for example"
                " 0.01,0.05,0.2"
            )


@dataclass(frozen=True)
class Verification:
    """Worst-found score over share and ranking.

    Attributes:
        base: Worst score found without tighter verification: of the search and of all attacks here,
            since tighter boxes lie inside the full one.
        rows: One entry a ranking and share.
        order: Devices by the ranking that did best, as numbers of a `DeviceSpace`, the most urgent
            first.
        gain: Score that the best ranking gives each of them.
        best: Name of that ranking: the one with the best mean score over the shares.
        factor: How many times tighter.
        writes: Mean writes of a device, without and with tighter verification.
        write_sigma: Standard deviation of one write, fraction of the range.
        draws: Random rankings.
        crafting_samples: Samples that attacks were made on.
        passes: Forward-backward passes.
        evaluations: Forward runs over the attack set.
        pattern: The pattern with that score.
    """

    base: Score
    rows: tuple[VerifyRow, ...]
    order: Int64[np.ndarray, "devices"]
    gain: Float64[np.ndarray, "devices"]
    best: str
    factor: float
    writes: tuple[float, float]
    write_sigma: float
    draws: int
    crafting_samples: int
    passes: int
    evaluations: int
    pattern: Pattern
