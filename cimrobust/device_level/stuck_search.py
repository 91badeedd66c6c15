"""Which few devices do the most harm when they are stuck: gain ranking, batches, swaps.

A device's *gain* is the gradient of a loss in its weight times what sticking changes in that
weight: the first-order harm. As in bit-flip attacks (Rakin, He, Fan, "Bit-flip attack", ICCV 2019,
arXiv 1903.12269) the ranking proposes, in every layer and over all of them, and a run of the
network decides. Changed: devices stick, bits do not flip; one pass ranks all devices for several
losses; devices are taken in batches that grow with the budget; and after each budget the least
useful of those taken are exchanged for the best of the rest, as long as that helps.

Without a twin there is no gradient. Then devices are proposed by what they can change (the
significance of their slice), in the columns of layers that probes have shown to matter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64

from cimrobust.device_level.stuck_chip import Choice, StuckChips, nothing_stuck, random_choice
from cimrobust.engine.parallel import map_ordered
from cimrobust.progress import NullProgress, Progress
from cimrobust.search.candidate import Key
from cimrobust.search.losses import (
    Collapse,
    CrossEntropy,
    Hinge,
    Loss,
    PairCollapse,
    RegressionError,
    SmoothAccuracy,
)
from cimrobust.search.problem import Problem, nearest_classes
from cimrobust.search.scorer import Scorer, key_of_output
from cimrobust.search.torch_patterns import array_of, tensors_of

if TYPE_CHECKING:
    from cimrobust.device_level.ranked_devices import DeviceSpace
    from cimrobust.mapping.box import Pattern

# Devices of each layer that are tried one by one while the budget is small: single large changes
# are badly predicted by gradients.
_TRIED_ALONE = 12
_SMALL = 5
# Without a twin: proposals of one round, and rounds for each budget.
_AT_A_TIME = 8


@dataclass(frozen=True)
class StuckEffort:
    """What the search for stuck devices may spend.

    Attributes:
        exchanges: Rounds of exchanges after each budget.
        rounds: Rounds of eight proposals for each budget where there is no twin.
    """

    exchanges: int = 4
    rounds: int = 12


@dataclass
class StuckSearch:
    """One search, from one base pattern.

    Attributes:
        scorer: Counts what chips cost, and gives gradients.
        chips: Makes chips.
        kinds: How devices may be stuck.
        name: Keys the random numbers.
        effort: What may be spent.
        progress: Hears of every budget.
        tried: The best choice so far for every budget asked, with its key.
    """

    scorer: Scorer
    chips: StuckChips
    kinds: tuple[int, ...]
    name: str
    effort: StuckEffort
    progress: Progress = field(default_factory=NullProgress)
    tried: dict[int, tuple[Key, Choice]] = field(default_factory=dict)

    @property
    def problem(self) -> Problem:
        """The network and its attack set."""
        return self.scorer.problem

    @property
    def space(self) -> DeviceSpace:
        """The devices."""
        return self.chips.space

    def run(self, budgets: Sequence[int]) -> dict[int, Choice]:
        """Return the worst choice found of at most so many devices, for ascending budgets."""
        ranked = self._grow if self.problem.oracle is not None else self._grow_blindly
        best = (self.score([nothing_stuck()])[0], nothing_stuck())
        for budget in budgets:
            # Where nothing is correct any more there is nothing to look for.
            if best[0].score != 0 or self.problem.task.is_regression:
                best = ranked(best, min(budget, self.space.size))
            self.tried[budget] = best
            self.progress.advance(1, f"{budget} devices")
        return {budget: choice for budget, (_, choice) in self.tried.items()}

    def score(self, choices: Sequence[Choice]) -> list[Key]:
        """Return the keys of choices, by the deployed engine on the attack set."""
        workers = self.problem.run.workers
        self.scorer.ledger.ran(len(choices) * len(self.problem.attack_set))
        threads = max(workers // max(len(choices), 1), 1)
        return list(
            map_ordered(partial(self._key, threads), choices, workers=min(workers, len(choices)))
        )

    def _key(self, threads: int, choice: Choice) -> Key:
        runtime = self.problem.runtime
        chip = self.chips.chip(choice, as_levels=runtime.converters is not None)
        output = runtime.outputs(chip, subset=self.problem.attack_set, threads=threads)
        return key_of_output(self.problem.task, output)

    def gains(self, loss: Loss, choice: Choice) -> Float32[np.ndarray, "2 devices"]:
        """Return the first-order harm of every device stuck low and high, float32 [2, devices].

        On top of a choice; one pass.
        """
        pattern: Pattern = self.chips.pattern(choice)
        scale = self.scorer.scale_at(pattern, loss)
        evaluation = self.scorer.evaluate(
            tensors_of(pattern, self.scorer.oracle.device), loss, scale
        )
        slope = self.space.of_weights(
            {name: array_of(gradient) for name, gradient in evaluation.gradients.items()}
        )
        gains = (slope * self.chips.change).astype(np.float32)
        for kind in {0, 1} - set(self.kinds):
            gains[kind] = -np.inf
        return gains

    def _losses(self, current: tuple[Key, Choice]) -> list[Loss]:
        """Return what to rank by.

        Once all decisions have become one class, what turns that class too.
        """
        if self.problem.task.is_regression:
            return [RegressionError(self.problem.task.metric)]
        usual: list[Loss] = [
            SmoothAccuracy(0.25),
            Hinge(0.0),
            CrossEntropy(),
            *map(Collapse, nearest_classes(self.problem)[:2]),
        ]
        has_collapsed = self.problem.has_collapsed(current[0].score)
        return [*usual, *self._pairs(current[1])] if has_collapsed else usual

    def _pairs(self, choice: Choice) -> list[Loss]:
        """Return losses that keep all decisions at the class they have become.

        They push those labelled so to the two classes nearest to them.
        """
        logits, labels = self.scorer.logits(self.chips.pattern(choice)), self.scorer.oracle.labels
        target = int(logits.argmax(dim=1).bincount().argmax())
        own = logits[labels == target]
        if not len(own):
            return []
        behind = torch.nan_to_num(own - own[:, target : target + 1]).double().mean(dim=0)
        behind[target] = -torch.inf
        return [
            PairCollapse(target, int(other))
            for other in array_of(behind.argsort(descending=True))[:2]
        ]

    def _grow(self, best: tuple[Key, Choice], budget: int) -> tuple[Key, Choice]:
        """Add devices up to a budget in batches, ranked again for every batch.

        Then exchange some of them.
        """
        current = best
        while current[1].size < budget:
            count = min(max(current[1].size // 2, 1), budget - current[1].size)
            proposals = [
                choice
                for loss in self._losses(current)
                for choice in self._additions(loss, current[1], count)
            ]
            current = self._best_of(proposals, None)
        best = min(best, current, key=lambda entry: entry[0])
        return self._exchange(best if best[1].size == budget else current, budget, best)

    def _additions(self, loss: Loss, choice: Choice, count: int) -> list[Choice]:
        """Return a choice with the most harmful devices added, of all layers and of each.

        One at a time while there are few.
        """
        gains = self.gains(loss, choice)
        gains[:, choice.device] = -np.inf
        kind, gain = gains.argmax(axis=0), gains.max(axis=0)
        found = [choice.with_more(_top(gain, kind, count))]
        if count == 1 and choice.size < _SMALL:
            for start, stop in pairwise(self.space.starts.tolist()):
                alone = _top(gain[start:stop], kind[start:stop], _TRIED_ALONE, start)
                found += [
                    choice.with_more(alone.part(np.array([index]))) for index in range(alone.size)
                ]
        elif len(self.space.names) > 1:
            for start, stop in pairwise(self.space.starts.tolist()):
                within = _top(gain[start:stop], kind[start:stop], count, start)
                found += [choice.with_more(within)] if within.size == count else []
        return found

    def _exchange(
        self, current: tuple[Key, Choice], budget: int, best: tuple[Key, Choice]
    ) -> tuple[Key, Choice]:
        """Exchange the least useful devices for the most harmful of the rest while that helps.

        Fewer at a time when it does not.
        """
        share = 2
        for number in range(self.effort.exchanges):
            proposals = [
                self._exchanged(loss, current[1], max(budget // share, 1))
                for loss in self._losses(current)
            ]
            made = self._best_of(proposals, None)
            if made[0] < current[0]:
                current = made
            else:
                share *= 3
            if budget // share < 1 and number:
                break
        return min(best, current, key=lambda entry: entry[0])

    def _exchanged(self, loss: Loss, choice: Choice, count: int) -> Choice:
        gains = self.gains(loss, choice)
        kept = choice.part(
            np.sort(
                np.argsort(-gains[choice.kind, choice.device], kind="stable")[: choice.size - count]
            )
        )
        gains[:, kept.device] = -np.inf
        return kept.with_more(_top(gains.max(axis=0), gains.argmax(axis=0), count))

    def _best_of(
        self, proposals: list[Choice], known: tuple[Key, Choice] | None
    ) -> tuple[Key, Choice]:
        unique = {(*choice.device.tolist(), *choice.kind.tolist()): choice for choice in proposals}
        entries = list(zip(self.score(list(unique.values())), unique.values(), strict=True))
        return min([*([] if known is None else [known]), *entries], key=lambda entry: entry[0])

    def _grow_blindly(self, best: tuple[Key, Choice], budget: int) -> tuple[Key, Choice]:
        """Try groups of significant devices that share a column; keep what harms most."""
        harm = self._probe(budget)
        for number in range(self.effort.rounds):
            generator = self.problem.random(self.name, "stuck", budget, number)
            proposals = [
                self._blind_proposal(best[1], budget, harm, generator) for _ in range(_AT_A_TIME)
            ]
            best = self._best_of(proposals, best)
        return best

    def _probe(self, budget: int) -> Float64[np.ndarray, "layers"]:
        """Return the share of proposals that every layer gets.

        By the rank of the harm that its most significant devices do.
        """
        probes = [
            _significant(self.chips, self.kinds, start, stop, budget)
            for start, stop in pairwise(self.space.starts.tolist())
        ]
        keys = self.score(probes)
        rank = np.empty(len(keys))
        rank[sorted(range(len(keys)), key=lambda index: keys[index])] = np.arange(1, len(keys) + 1)
        share = 1.0 / rank
        return np.asarray(share / share.sum())

    def _blind_proposal(
        self,
        choice: Choice,
        budget: int,
        harm: Float64[np.ndarray, "layers"],
        generator: np.random.Generator,
    ) -> Choice:
        """Return a choice with a random part exchanged.

        For devices that push one column of one layer the same way.
        """
        layer = int(generator.choice(len(harm), p=harm))
        start, stop = int(self.space.starts[layer]), int(self.space.starts[layer + 1])
        kept = choice.part(
            np.flatnonzero(generator.random(choice.size) < generator.choice([0.0, 0.5, 0.8]))
        )
        change = self.chips.change[:, start:stop].copy()
        change[[kind for kind in (0, 1) if kind not in self.kinds]] = 0.0
        places = self.space.places(np.arange(start, stop)) if generator.random() < 0.8 else None
        push = change * float(generator.choice([-1.0, 1.0]))
        if places is not None:
            column = places.column + places.group * (int(places.column.max(initial=0)) + 1)
            push[:, column != int(generator.choice(column))] *= 1e-3
        push[:, kept.device[(kept.device >= start) & (kept.device < stop)] - start] = -np.inf
        push += (
            generator.random(push.shape, dtype=np.float32)
            * 1e-3
            * np.abs(push).max(initial=0.0, where=np.isfinite(push))
        )
        return kept.with_more(
            _top(push.max(axis=0), push.argmax(axis=0), budget - kept.size, start)
        )


def magnitude_choice(chips: StuckChips, kinds: Sequence[int], count: int) -> Choice:
    """Return the devices that change their weight most, in shares of their layer's largest weight.

    Of equal ones those of larger weights first.
    """
    space = chips.space
    change = np.abs(chips.change[list(kinds)]) / space.largest_weight
    kind = np.asarray(kinds, dtype=np.int64)[change.argmax(axis=0)]
    size = (
        np.abs(
            space.of_weights(
                {name: tensor.nominal for name, tensor in space.placement.tensors.items()}
            )
        )
        / space.largest_weight
    )
    order = np.lexsort((-size, -np.round(change.max(axis=0), 6)))[:count]
    return Choice(order.astype(np.int64), kind[order])


def random_choices(
    chips: StuckChips,
    kinds: Sequence[int],
    count: int,
    draws: int,
    random: Callable[..., np.random.Generator],
) -> list[Choice]:
    """Return draws of so many devices."""
    return [
        random_choice(chips.space.size, count, kinds, random("stuck control", count, draw))
        for draw in range(draws)
    ]


def _top(
    gain: Float32[np.ndarray, "devices"],
    kind: Int64[np.ndarray, "devices"],
    count: int,
    start: int = 0,
) -> Choice:
    """Return the devices with the largest gains, the largest first, equal ones by number."""
    count = min(count, gain.size)
    if count <= 0:
        return nothing_stuck()
    border = np.partition(gain, gain.size - count)[gain.size - count]
    inside = np.flatnonzero(gain > border)
    device = np.concatenate([inside, np.flatnonzero(gain == border)[: count - inside.size]])
    device = device[np.argsort(-gain[device], kind="stable")]
    return Choice((device + start).astype(np.int64), kind[device].astype(np.int64))


def _significant(
    chips: StuckChips, kinds: Sequence[int], start: int, stop: int, count: int
) -> Choice:
    """Return the devices of a layer that change their weight most."""
    change = np.abs(chips.change[list(kinds), start:stop])
    return _top(
        change.max(axis=0),
        np.asarray(kinds, dtype=np.int64)[change.argmax(axis=0)],
        count,
        start,
    )
