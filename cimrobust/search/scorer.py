"""What patterns do on the attack set: keys, by the deployed network or the twin, and gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Float, Float64, Shaped
from torch import Tensor

from cimrobust.engine.parallel import map_ordered
from cimrobust.finished_parts import NOTHING_KEPT, FinishedParts
from cimrobust.search.candidate import Key
from cimrobust.search.losses import Loss, margins, smooth_accuracy_of
from cimrobust.search.pass_ledger import PassLedger
from cimrobust.search.problem import Problem
from cimrobust.search.readout import counted_logits, task_readout
from cimrobust.search.torch_patterns import array_of, tensors_of

if TYPE_CHECKING:
    from cimrobust.data.task import Task
    from cimrobust.mapping.box import Pattern
    from cimrobust.search.oracle import Evaluation, GradientOracle

#: ``deployed``: the engine that the trials use; ``twin``: the torch twin; ``fastest``: the twin
#: where an accelerator runs it and it is the deployed network, for many patterns of which few will
#: matter.
By = Literal["deployed", "twin", "fastest"]


@dataclass(frozen=True)
class Scorer:
    """Scores patterns of a problem on its attack set, and counts what that costs.

    Attributes:
        problem: What is searched.
        ledger: Where passes and runs are counted.
        is_transfer: Gradients are those of another network, so that keys come from the deployed
            one.
        parts: Where finished runs are kept.
    """

    problem: Problem
    ledger: PassLedger
    is_transfer: bool = False
    parts: FinishedParts = NOTHING_KEPT

    @property
    def oracle(self) -> GradientOracle:
        """Gradients, in a search that has them."""
        assert self.problem.oracle is not None
        return self.problem.oracle

    def evaluate(
        self, pattern: Mapping[str, Float[Tensor, "..."]], loss: Loss, scale: float
    ) -> Evaluation:
        """Return loss and gradients at a pattern: one pass."""
        self.ledger.spend_pass(f"loss {loss.name}")
        evaluation = self.oracle.evaluate(pattern, loss, scale)
        self.ledger.advance(1)
        return evaluation

    def scale_at(self, pattern: Pattern, loss: Loss) -> float:
        """Return the scale of a loss at a pattern: one forward run of the twin."""
        return loss.scale_of(loss.terms(self.logits(pattern), self.oracle.labels))

    def logits(self, pattern: Pattern) -> Float[Tensor, "decisions classes"]:
        """Return the logits of the attack set, [decisions, classes]: a forward run of the twin."""
        self._count(1)
        return self.oracle.logits(self.problem.box.weights(pattern))

    def key_of(self, evaluation: Evaluation, pattern: Pattern) -> Key:
        """Return the key of a pattern at which a pass was made."""
        if self.is_transfer or not self.oracle.follows_chip:
            return self.score([pattern])[0]
        if self.problem.task.is_regression:
            return _error_key(self.problem.task.metric, array_of(evaluation.margins.double()))
        return Key(float(evaluation.correct.sum()), smooth_accuracy_of(evaluation.margins))

    def score(self, patterns: Sequence[Pattern], *, by: By = "deployed") -> list[Key]:
        """Return the keys of patterns, one forward run over the attack set each.

        Args:
            patterns: Inside the box.
            by: What runs them.
        """
        if by == "twin" or (by == "fastest" and self._twin_is_faster):
            return [self._score_by_twin(pattern) for pattern in patterns]
        problem = self.problem
        self._count(len(patterns))
        threads = max(problem.run.workers // max(len(patterns), 1), 1)
        work = partial(_score, problem, threads)
        return list(map_ordered(work, patterns, workers=min(problem.run.workers, len(patterns))))

    def score_if_worse(self, pattern: Pattern, than: Key, *, near: Evaluation) -> Key | None:
        """Return the key of a pattern, by the twin, or None where it cannot be below another.

        Samples are run in an order in which that shows early. Where the twin has a part of the
        converters only, the pattern is scored on the chip.

        Args:
            pattern: The pattern.
            than: Key to fall below.
            near: A pass nearby, whose margins give the order.
        """
        task = self.problem.task
        if task.is_regression or self.is_transfer or not self.oracle.follows_chip:
            return self.score([pattern], by="fastest")[0]
        found, count = self.oracle.promising(
            tensors_of(pattern, self.oracle.device),
            order=self.oracle.decisions.safest_first(near.margins),
            most_correct=than.score,
        )
        self.ledger.ran(count)
        return None if found is None else Key(float(found[0]), smooth_accuracy_of(found[1]))

    @property
    def _twin_is_faster(self) -> bool:
        oracle = self.problem.oracle
        return not (
            oracle is None
            or oracle.device.type == "cpu"
            or self.is_transfer
            or self.problem.runtime.converters is not None
        )

    def _score_by_twin(self, pattern: Pattern) -> Key:
        logits, labels, task = self.logits(pattern), self.oracle.labels, self.problem.task
        if task.is_regression:
            return _error_key(task.metric, array_of((logits[:, 0] - labels).double()))
        correct = float(self.oracle.correct(logits, labels).sum())
        return Key(correct, smooth_accuracy_of(margins(logits, labels)))

    def _count(self, runs: int) -> None:
        self.ledger.ran(runs * len(self.problem.attack_set))


def key_of_output(task: Task, output: Shaped[np.ndarray, "samples ..."]) -> Key:
    """Return the key of a decision output of the task's samples."""
    if task.is_regression:
        values = np.asarray(output, dtype=np.float64).reshape(task.labels.shape)
        return _error_key(task.metric, values - task.labels)
    correct = float(task.right(output).sum())
    readout = task_readout(task, "")
    if readout is None or not np.issubdtype(output.dtype, np.floating):
        return Key(correct, correct / task.num_decisions)
    return Key(correct, smooth_accuracy_of(margins(*counted_logits(task, readout, output))))


def _score(problem: Problem, threads: int, pattern: Pattern) -> Key:
    output = problem.runtime.outputs(
        problem.box.weights(pattern), subset=problem.attack_set, threads=threads
    )
    return key_of_output(problem.task, output)


def _error_key(metric: str, errors: Float64[np.ndarray, "..."]) -> Key:
    sizes = np.abs(errors)
    if not np.isfinite(sizes).all():
        return Key(-np.inf, 0.0)
    if metric == "mae":
        return Key(-float(sizes.mean()), 0.0)
    return Key(-float(sizes.max() if metric == "max_error" else np.sqrt((sizes**2).mean())), 0.0)
