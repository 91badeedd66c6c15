"""What is searched: a network, a box of patterns, and the samples that patterns are made on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from cimrobust.search.torch_patterns import array_of
from cimrobust.search.unit import UnitBox, unit_box
from cimrobust.seeds import stream

if TYPE_CHECKING:
    from cimrobust.data.task import Task
    from cimrobust.engine.open import Runtime
    from cimrobust.engine.subject import Subject
    from cimrobust.mapping.box import Box
    from cimrobust.run import Run
    from cimrobust.search.oracle import GradientOracle

# Share of correct decisions, in shares of one class, below which a state counts as collapsed.
_COLLAPSED = 1.5


@dataclass(frozen=True)
class Problem:
    """What is searched.

    Attributes:
        subject: The network, its data, and where its weights are stored.
        box: Where patterns may lie: the tolerance box of the subject or a part of it.
        attack_set: Indices of the samples that patterns are made on, int64, ascending.
        oracle: Gradients on the attack set; None where there is no twin.
        run: How to compute; its seed keys every random number.
    """

    subject: Subject
    box: Box
    attack_set: Int64[np.ndarray, "samples"]
    oracle: GradientOracle | None
    run: Run

    @property
    def runtime(self) -> Runtime:
        """The network with its data."""
        return self.subject.runtime

    @cached_property
    def task(self) -> Task:
        """The task on the attack set."""
        return replace(self.runtime.task, labels=self.runtime.task.labels[self.attack_set])

    @cached_property
    def space(self) -> UnitBox:
        """The box stretched to [-1, 1]."""
        return unit_box(self.box, None if self.oracle is None else self.oracle.device)

    @cached_property
    def nominal_logits(self) -> Float[Tensor, "decisions classes"]:
        """Logits of the attack set without deviation, by the twin, [decisions, classes]."""
        assert self.oracle is not None
        return self.oracle.logits(self.box.weights(self.box.zero()))

    @property
    def num_classes(self) -> int:
        """Classes of a decision, by the twin."""
        return int(self.nominal_logits.shape[1])

    @property
    def sees_all(self) -> bool:
        """Whether patterns are made on all samples, so that all that is learnt counts."""
        return len(self.attack_set) == self.runtime.dataset.num_samples

    def has_collapsed(self, correct: float) -> bool:
        """Tell whether so many correct decisions are little more than those of one class."""
        if self.task.is_regression or not np.isfinite(correct):
            return False
        share = correct / self.task.num_decisions
        return share <= _COLLAPSED * self.task.decision.k / self.num_classes

    def random(self, *names: str | int) -> np.random.Generator:
        """Return the random stream of a name."""
        return stream(self.run.seed, "search", *names)


def nearest_classes(problem: Problem) -> list[int]:
    """Return the classes that are most often just behind the label, nearest first."""
    assert problem.oracle is not None
    logits, labels = problem.nominal_logits, problem.oracle.labels
    behind = torch.nan_to_num(
        logits - logits.gather(1, labels[:, None]), nan=-1e30, neginf=-1e30, posinf=1e30
    )
    scale = float(behind.abs().median()) or 1.0
    nearness = torch.exp(torch.clamp(behind / scale, -50, 0)).double().mean(dim=0)
    return [int(target) for target in np.argsort(-array_of(nearness), kind="stable")]
