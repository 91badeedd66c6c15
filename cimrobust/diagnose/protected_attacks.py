"""Attacks on a network with some layers protected.

What is known of one choice of layers helps with the next.

A chip of a network with more layers protected is, up to rounding, one of the network with fewer. So
bad chips are kept, and tried on every choice first: most choices fall to a chip that is known
already, and what one choice falls to, every part of it falls to.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32

from cimrobust.attack.attack import attack
from cimrobust.attack.attack_context import AttackContext
from cimrobust.attack.attack_plan import AttackPlan
from cimrobust.cluster.executor import ChangedExecutor
from cimrobust.data.decision import Score
from cimrobust.diagnose.protection import Protection, num_devices
from cimrobust.engine.subject import Subject
from cimrobust.mapping.box import Pattern, box_of
from cimrobust.montecarlo.anytime import Target
from cimrobust.montecarlo.quantile import needed_trials
from cimrobust.montecarlo.trial_table import TrialTable, kpp
from cimrobust.montecarlo.trials import run_trials
from cimrobust.run import Run
from cimrobust.search.pass_ledger import UNLIMITED, PassLedger
from cimrobust.search.scorer import Scorer

if TYPE_CHECKING:
    from cimrobust.certify.bound_summary import Certification
    from cimrobust.cluster.executor import Executor
    from cimrobust.engine.open import Runtime
    from cimrobust.mapping.placement import Placement

Chosen = frozenset[str]

_MOST_CHIPS = 12
#: Known chips that an attack starts from, and by which layers are ranked.
_STARTS = 3
_FEWEST_TRIALS = 300


@dataclass(frozen=True)
class Needs:
    """What is asked of a network.

    Attributes:
        worst_found: Score that no chip found may miss; None: not asked.
        percentiles: What drawn chips have to reach.
        certified: Score that has to be certified; None: not asked.
        higher_is_better: Scores are better when higher.
    """

    worst_found: float | None
    percentiles: tuple[Target, ...]
    certified: float | None
    higher_is_better: bool

    @property
    def least(self) -> float | None:
        """Score that a chip may not miss; what is certified no chip may miss either."""
        asked = [score for score in (self.worst_found, self.certified) if score is not None]
        if not asked:
            return None
        return max(asked) if self.higher_is_better else min(asked)

    def met(self, value: float, required: float) -> bool:
        """Tell whether a score reaches another."""
        return value >= required if self.higher_is_better else value <= required

    @property
    def trials(self) -> int:
        """Chips to draw for the percentiles."""
        needed = (needed_trials(asked.k, asked.confidence) for asked in self.percentiles)
        return max(_FEWEST_TRIALS, *needed, 0)

    def missed_by_chips(self, table: TrialTable) -> str:
        """Return the first percentile that drawn chips do not meet, in words.

        Nothing where they meet all.
        """
        for asked in self.percentiles:
            bound = kpp(table, asked.k, asked.confidence).bound
            if bound is None or not self.met(bound, asked.score):
                return (
                    f"the bound of the {asked.k:g}th percentile is"
                    f" {'none' if bound is None else format(bound, '.4g')}"
                )
        return ""

    def missed_by_proof(self, found: Certification) -> str:
        """Return why a certified bound is not enough, in words.

        Nothing where it is, or none is asked.
        """
        if self.certified is None:
            return ""
        if found.score is None:
            return f"there is no certified bound ({found.refusal})"
        return (
            ""
            if self.met(found.score.value, self.certified)
            else f"the certified score is {found.score.value:.4g}"
        )


@dataclass(frozen=True)
class Tried:
    """One choice of layers that was tried.

    Attributes:
        chosen: Layers protected, in graph order.
        devices: Their devices.
        score: Worst score of a chip that is known; None: none was looked for.
        met: Nothing that was looked at misses what is asked.
        how: What was looked at last: ``known chip``, ``attack``, ``drawn chips`` or ``search``.
        note: How the chip was reached, or what is missed.
    """

    chosen: tuple[str, ...]
    devices: int
    score: Score | None
    met: bool
    how: str
    note: str


@dataclass
class ProtectedAttacks:
    """Tries choices of layers to protect, one after the other.

    Attributes:
        context: The network, opened and stored without any protected.
        protection: How layers are protected.
        needs: What is asked.
        plan: Passes of one attack.
        chips: Bad chips, the one that was of use last first; shared by all protections.
        executor: Where drawn chips are scored; None: in the threads of this process.
        tried: All choices tried, in order.
    """

    context: AttackContext
    protection: Protection
    needs: Needs
    plan: AttackPlan
    chips: list[Pattern]
    executor: Executor | None = None
    tried: list[Tried] = field(default_factory=list)
    attacks: int = 0
    passes: int = 0
    _known: dict[Chosen, Tried] = field(default_factory=dict)

    @property
    def runtime(self) -> Runtime:
        """The network, opened without any protected."""
        return self.context.subject.runtime

    @property
    def placement(self) -> Placement:
        """Where its weights are stored, none protected."""
        return self.context.subject.placement

    def devices(self, chosen: Collection[str]) -> int:
        """Return the devices of layers."""
        return num_devices(self.placement, chosen)

    def value(self, tried: Tried) -> float:
        """Return a score as a number of which more is better."""
        if tried.score is None:
            return 0.0
        return tried.score.value if self.needs.higher_is_better else -tried.score.value

    def is_refuted(self, chosen: Chosen) -> bool:
        """Tell whether a choice, or one that protects all of it and more, misses what is asked."""
        return any(not tried.met and chosen <= known for known, tried in self._known.items())

    def evaluate(self, chosen: Chosen) -> Tried:
        """Try a choice, unless it was tried before."""
        if chosen not in self._known:
            self._remember(chosen, self._evaluate(chosen))
        return self._known[chosen]

    def refute(
        self,
        chosen: Chosen,
        score: Score | None,
        note: str,
        chip: Mapping[str, Float32[np.ndarray, "..."]] | None,
    ) -> None:
        """Take down that a choice misses what is asked after all.

        Args:
            chosen: The choice.
            score: Worst score found.
            note: What is missed.
            chip: Deviations of a chip that misses it, by initializer of the layers that are stored;
                None: there is no single chip.
        """
        if chip is not None:
            still = {
                name: np.zeros(tensor.shape, np.float32)
                for name, tensor in self.placement.tensors.items()
            }
            self._keep({**still, **chip})
        self._remember(
            chosen, Tried(self._ordered(chosen), self.devices(chosen), score, False, "search", note)
        )

    def ranked(self, chosen: Chosen, rest: Sequence[str]) -> list[str]:
        """Return further layers to protect, the most useful first.

        That is the one that takes most harm out of the worst known chips for each device of it.
        """
        scorer = self._scorer(chosen)
        box = scorer.problem.box
        worst = [box.clip(chip) for chip in self.chips[:_STARTS]] or [box.zero()]
        before = self._harm(scorer, worst)
        gains = {}
        for name in rest:
            inside = box_of(self._placed(chosen | {name}))
            after = self._harm(scorer, [{**chip, name: inside.clip(chip)[name]} for chip in worst])
            gains[name] = (before - after) / max(self.devices([name]), 1)
        return sorted(rest, key=lambda name: (-gains[name], self.devices([name])))

    def _harm(self, scorer: Scorer, chips: list[Pattern]) -> float:
        """Return how much harm chips do on the attack set.

        Wrong decisions as a share of all, and the smoothed share to tell equal ones apart.
        """
        task = scorer.problem.task
        scale = 1.0 if task.is_regression else 1.0 / max(task.labels.size, 1)
        keys = scorer.score(chips)
        return -min(key.score * scale + key.smooth_accuracy for key in keys)

    def _placed(self, chosen: Chosen) -> Placement:
        return self.protection.placement(
            self.placement,
            self.context.subject.scan,
            chosen,
            is_float=self.runtime.converters is None,
        )

    def _scorer(self, chosen: Chosen, *, passes: int = UNLIMITED) -> Scorer:
        """Return what scores chips of the network with some layers protected."""
        box, twin = box_of(self._placed(chosen)), self.context.twin
        around = twin.on(self.runtime, twin.attack_set, box)
        problem = around.problem(self.context.subject, self.context.run, box)
        return Scorer(problem, PassLedger(problem.task, passes))

    def _evaluate(self, chosen: Chosen) -> Tried:
        found = self._attacked(chosen) if self.needs.least is not None else None
        if found is not None and not found.met:
            return found
        missed = self._missed_by_chips(chosen)
        if not missed and found is not None:
            return found
        score = None if found is None else found.score
        return Tried(
            self._ordered(chosen),
            self.devices(chosen),
            score,
            not missed,
            "drawn chips",
            missed or "they reach what is asked",
        )

    def _attacked(self, chosen: Chosen) -> Tried:
        required = self.needs.least
        assert required is not None
        scorer = self._scorer(chosen, passes=self.plan.passes)
        box = scorer.problem.box
        order, devices = self._ordered(chosen), self.devices(chosen)
        for chip in list(self.chips):
            score = self.runtime.score(
                box.weights(box.clip(chip)), threads=self.context.run.workers
            )
            if not self.needs.met(score.value, required):
                self._keep(chip)
                return Tried(order, devices, score, False, "known chip", "a chip found before")
        known = {f"chip {number}": chip for number, chip in enumerate(self.chips[:_STARTS])}
        found = attack(scorer, self.plan, known)
        self.attacks, self.passes = self.attacks + 1, self.passes + found.passes
        self._keep(found.pattern)
        return Tried(
            order,
            devices,
            found.score,
            self.needs.met(found.score.value, required),
            "attack",
            found.origin,
        )

    def _missed_by_chips(self, chosen: Chosen) -> str:
        if not self.needs.percentiles:
            return ""
        executor = self.executor and ChangedExecutor(
            self.executor, partial(_protected, self.protection, self._ordered(chosen))
        )
        table = run_trials(
            Subject(self.runtime, self._placed(chosen)),
            Run(self.context.run.seed, self.context.run.workers),
            num_trials=self.needs.trials,
            executor=executor,
        )
        return self.needs.missed_by_chips(table)

    def _remember(self, chosen: Chosen, tried: Tried) -> None:
        self._known[chosen] = tried
        self.tried.append(tried)
        shown = "" if tried.score is None else f"{tried.score.value:.4g}"
        self.context.run.progress.advance(1, f"{len(chosen)} layers: {shown}")

    def _keep(self, chip: Pattern) -> None:
        """Keep a chip in front of all others."""
        others = [other for other in self.chips if other is not chip]
        self.chips[:] = [chip, *others][:_MOST_CHIPS]

    def _ordered(self, chosen: Chosen) -> tuple[str, ...]:
        return tuple(name for name in self.placement.tensors if name in chosen)


#: Confirms a choice: whether it meets all that is asked, and takes it down where it does not.
Confirm = Callable[[Chosen], bool]


def _protected(protection: Protection, chosen: tuple[str, ...], subject: Subject) -> Subject:
    """Return a network with some of its layers protected."""
    runtime = subject.runtime
    placement = protection.placement(
        subject.placement, subject.scan, chosen, is_float=runtime.converters is None
    )
    return Subject(runtime, placement)
