"""Finished attacks on disk: what diagnostics and sweeps are made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Shaped

from cimrobust.attack.attack import Attack
from cimrobust.data.decision import Score
from cimrobust.search.packed_pattern import PackedPattern, pack, unpack

if TYPE_CHECKING:
    from cimrobust.finished_parts import FinishedParts
    from cimrobust.mapping.box import Box, Pattern


@dataclass(frozen=True)
class KeptAttack:
    """An attack with its patterns in little space; attributes as those of `Attack`."""

    pattern: PackedPattern
    score: Score
    output: Shaped[np.ndarray, "samples ..."]
    origin: str
    points: tuple[PackedPattern, ...]
    passes: int
    evaluations: int
    num_scored: int
    attack_samples: int


def kept_attack(parts: FinishedParts, name: str, box: Box, make: Callable[[], Attack]) -> Attack:
    """Return an attack: from disk where it is known, else made and kept.

    Args:
        parts: Where it is kept, for this very attack.
        name: Its name there.
        box: Where its patterns lie.
        make: Makes it.
    """

    def check(kept: KeptAttack) -> None:
        for pattern in (kept.pattern, *kept.points):
            if len(unpack(box, pattern)) < len(box.names):
                raise ValueError("attack must deviate every layer")

    known = parts.find(name, KeptAttack, check)
    if known is not None:
        return _attack(box, known)
    made = make()
    if parts.keeps:
        parts.keep(name, _kept(box, made))
    return made


def _kept(box: Box, attack: Attack) -> KeptAttack:
    return KeptAttack(
        pack(box, attack.pattern),
        attack.score,
        attack.output,
        attack.origin,
        tuple(pack(box, point) for point in attack.points),
        attack.passes,
        attack.evaluations,
        attack.num_scored,
        attack.attack_samples,
    )


def _attack(box: Box, kept: KeptAttack) -> Attack:
    points: tuple[Pattern, ...] = tuple(unpack(box, point) for point in kept.points)
    return Attack(
        unpack(box, kept.pattern),
        kept.score,
        kept.output,
        kept.origin,
        points,
        kept.passes,
        kept.evaluations,
        kept.num_scored,
        kept.attack_samples,
    )
