"""What all attacks on one network share: how to compute, and its twin, opened once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int64, Shaped

from cimrobust.attack.attack import Attack, attack
from cimrobust.attack.subject_parts import part_of
from cimrobust.data.decision import Score
from cimrobust.engine.subject import Subject
from cimrobust.finished_parts import NOTHING_KEPT, FinishedParts, digest_of
from cimrobust.run import Run
from cimrobust.search.attack_set import attack_subset
from cimrobust.search.gradients import TwinStatus, open_gradients
from cimrobust.search.losses import Hinge
from cimrobust.search.packed_pattern import PackedPattern, pack, unpack
from cimrobust.search.pass_ledger import UNLIMITED, PassLedger
from cimrobust.search.scorer import Scorer
from cimrobust.search.torch_patterns import array_of

if TYPE_CHECKING:
    from cimrobust.attack.attack_plan import AttackPlan
    from cimrobust.mapping.box import Box, Pattern


@dataclass(frozen=True)
class AttackContext:
    """A network that is attacked, and its twin.

    Attributes:
        subject: The network, its data, and where its weights are stored.
        run: How to compute; its effort gives the size of the attack set.
        opened: Its twin, or that of the same stored weights with another box; None: it is opened
            when it is first needed.
        parts: Where finished attacks are kept and taken from.
    """

    subject: Subject
    run: Run
    opened: TwinStatus | None = None
    parts: FinishedParts = NOTHING_KEPT

    @cached_property
    def twin(self) -> TwinStatus:
        """The twin, or why there is none."""
        return open_gradients(self.subject, self.run) if self.opened is None else self.opened

    @property
    def has_gradient(self) -> bool:
        """Whether attacks follow gradients."""
        return self.twin.oracle is not None

    def scorer(
        self,
        box: Box | None = None,
        *,
        part: Int64[np.ndarray, "some"] | None = None,
        passes: int = UNLIMITED,
    ) -> Scorer:
        """Return what scores the patterns of a box, with a ledger of its own.

        Args:
            box: Where patterns may lie; None: the whole tolerance box.
            part: Indices of the samples that count, int64; None: all.
            passes: Passes that may be made.
        """
        subject, twin = self.subject, self.twin
        if part is not None:
            subject = part_of(subject, part, workers=self.run.workers)
            task = subject.runtime.task
            attack_set = attack_subset(
                task.labels,
                count=len(twin.attack_set),
                seed=self.run.seed,
                is_regression=task.is_regression,
            )
            twin = twin.on(subject.runtime, attack_set)
        problem = twin.problem(subject, self.run, box or self.subject.box)
        return Scorer(problem, PassLedger(problem.task, passes))

    def steepest(self, pattern: Pattern, sample: int) -> Pattern:
        """Return the corner that lowers the margin of one sample fastest, seen from a pattern.

        One pass over that sample.
        """
        scorer = self.scorer(part=np.array([sample]), passes=1)
        space = scorer.problem.space
        evaluation = scorer.evaluate(space.pattern(space.unit(pattern)), Hinge(np.inf), 1.0)
        return self.subject.box.corner(
            {name: array_of(gradient) for name, gradient in evaluation.gradients.items()}
        )

    def attack(
        self,
        plan: AttackPlan,
        known: Mapping[str, Pattern],
        *,
        box: Box | None = None,
        part: Int64[np.ndarray, "some"] | None = None,
    ) -> Attack:
        """Look for a pattern of a box that is as bad as possible, from known ones and from scratch.

        Args:
            plan: What may be spent.
            known: Known patterns by origin, brought into the box.
            box: Where patterns may lie; None: the whole tolerance box.
            part: Indices of the samples that count, int64; None: all.
        """
        inside = self.subject.box if box is None else box

        def make() -> Attack:
            return attack(self.scorer(box, part=part, passes=plan.passes), plan, known)

        if not self.parts.keeps:
            return make()
        given = digest_of([plan, known, [inside.nominal, inside.lo, inside.hi], part])
        return kept_attack(self.parts.within("attack"), given[:32], inside, make)


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
