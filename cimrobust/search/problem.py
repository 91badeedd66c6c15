"""One search: the network, the box, the crafting samples, what has been found so far and what it cost."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

import numpy as np
from torch import Tensor

from cimrobust.data.task import Task
from cimrobust.engine.open import Runtime
from cimrobust.engine.parallel import map_ordered
from cimrobust.errors import SelfCheckError
from cimrobust.mapping.box import Box, Pattern
from cimrobust.progress import Progress
from cimrobust.search.losses import Loss, margins, smooth_accuracy_of
from cimrobust.search.oracle import Evaluation, GradientOracle
from cimrobust.search.readout import counted_rows, task_readout
from cimrobust.search.search_records import EffortPoint
from cimrobust.search.torch_patterns import array_of, tensors_of
from cimrobust.search.unit import UnitBox, unit_box
from cimrobust.seeds import stream

# Share of right decisions, in shares of one class, below which a state counts as collapsed.
_COLLAPSED = 1.5

#: Passes of a search that has no budget of its own: every run in it states its passes.
UNLIMITED = 10**9

#: Smaller is worse for the network: right decisions, then smoothed accuracy; for regression minus
#: the error.
Key = tuple[float, float]


@dataclass(frozen=True)
class Candidate:
    """A pattern, what it does on the crafting samples, how it was reached and by which member."""

    pattern: Pattern
    key: Key
    origin: str
    member: str


@dataclass
class Board:
    """The best patterns of every member so far, on the crafting samples."""

    by_member: dict[str, Candidate] = field(default_factory=dict)

    def offer(self, candidate: Candidate) -> None:
        """Keep a candidate if it is its member's best."""
        known = self.by_member.get(candidate.member)
        if known is None or candidate.key < known.key:
            self.by_member[candidate.member] = candidate

    def best(self) -> list[Candidate]:
        """Return the best candidate of every member, the worst for the network first.

        Equal ones in the order they were found.
        """
        return sorted(self.by_member.values(), key=lambda candidate: candidate.key)


@dataclass
class Problem:
    """What a member works on.

    Attributes:
        runtime: The network and its data.
        box: The tolerance box.
        crafting: Indices of the crafting samples.
        oracle: Gradients; None where there is no twin.
        seed: Seed of the run.
        workers: Threads; no result depends on it.
        progress: Told of every pass and evaluation.
        board: Best patterns so far.
        starts: Patterns given to go on from.
        ends: Where runs of a regression ended, to go on from.
        known: Names of the patterns given to be scored only.
        is_transfer: Gradients are those of another network, so that keys come from the deployed
            one.
        most_passes: Passes that may be made at all; members ask for what is left.
        passes: Forward-backward passes so far.
        spare: Passes that earlier members were given and did not need.
        forward_samples: Samples of all forward runs so far, by onnxruntime or the twin.
        trace: Best value on the crafting samples so far, whenever it changed.
    """

    runtime: Runtime
    box: Box
    crafting: np.ndarray
    oracle: GradientOracle | None
    seed: int
    workers: int
    progress: Progress
    board: Board = field(default_factory=Board)
    starts: list[Candidate] = field(default_factory=list)
    ends: list[Candidate] = field(default_factory=list)
    known: frozenset[str] = frozenset()
    is_transfer: bool = False
    most_passes: int = 0
    passes: int = 0
    spare: int = 0
    forward_samples: int = 0
    trace: list[EffortPoint] = field(default_factory=list)
    started: float = field(default_factory=time.perf_counter)

    @property
    def evaluations(self) -> int:
        """Forward runs over the crafting set so far.

        Runs that stopped early count by their samples.
        """
        return -(-self.forward_samples // max(len(self.crafting), 1))

    @property
    def left(self) -> int:
        """Passes that may still be made."""
        return max(self.most_passes - self.passes, 0)

    @property
    def nothing_left(self) -> bool:
        """Whether some pattern breaks every decision of the crafting samples, so that no search on them can find more."""
        return not self.task.is_regression and any(
            candidate.key[0] == 0 for candidate in self.board.by_member.values()
        )

    def has_collapsed(self, candidate: Candidate | None = None) -> bool:
        """Tell whether little more is right than one class, at a candidate or at the best one so far."""
        earlier = self.board.best()
        if self.task.is_regression or (candidate is None and not earlier):
            return False
        share = (candidate or earlier[0]).key[0] / self.task.num_decisions
        return share <= _COLLAPSED * self.task.decision.k / self.num_classes

    def offer(self, candidate: Candidate) -> None:
        """Offer a candidate to the board, and trace the best value."""
        best = min((known.key[0] for known in self.board.by_member.values()), default=np.inf)
        self.board.offer(candidate)
        if candidate.key[0] < best:
            value = (
                -candidate.key[0]
                if self.task.is_regression
                else candidate.key[0] / max(self.task.num_decisions, 1)
            )
            self.trace.append(
                EffortPoint(
                    passes=self.passes, seconds=time.perf_counter() - self.started, score=value
                )
            )

    @cached_property
    def nominal_rows(self) -> Tensor:
        """Rows of the crafting samples without deviation, by the twin."""
        assert self.oracle is not None
        return self.oracle.rows(self.box.weights(self.box.zero()))

    @property
    def sees_all(self) -> bool:
        """Whether patterns are made on all samples, so that nothing can be learnt that does not count."""
        return len(self.crafting) == self.runtime.dataset.num_samples

    @cached_property
    def space(self) -> UnitBox:
        """The box stretched to [-1, 1]."""
        return unit_box(self.box, None if self.oracle is None else self.oracle.device)

    @property
    def num_classes(self) -> int:
        """Classes of a decision, by the twin."""
        return int(self.nominal_rows.shape[1])

    @cached_property
    def task(self) -> Task:
        """The task on the crafting samples."""
        return replace(self.runtime.task, labels=self.runtime.task.labels[self.crafting])

    def random(self, *names: str | int) -> np.random.Generator:
        """Return the random stream of a name."""
        return stream(self.seed, "search", *names)

    def step(self, pattern: Mapping[str, Tensor], loss: Loss, scale: float) -> Evaluation:
        """Make one pass."""
        assert self.oracle is not None
        if not self.left:
            raise SelfCheckError(
                f"search must keep to {self.most_passes} passes, got one more asked for (loss"
                f" {loss.name}); report this"
            )
        self.passes += 1
        evaluation = self.oracle.evaluate(pattern, loss, scale)
        self.advance(1)
        return evaluation

    def key_of(self, evaluation: Evaluation, pattern: Pattern) -> Key:
        """Return the key of a pass at a pattern."""
        if self.is_transfer:
            return self.measure([pattern])[0]
        if self.runtime.task.is_regression:
            return _error_key(self.runtime.task.metric, array_of(evaluation.margins.double()))
        return float(evaluation.right.sum()), smooth_accuracy_of(evaluation.margins)

    def scale_at(self, pattern: Pattern, loss: Loss) -> float:
        """Return the scale of a loss at a pattern: one forward run of the twin."""
        assert self.oracle is not None
        self.forward_samples += len(self.crafting)
        return loss.scale_of(
            loss.spread(self.oracle.rows(self.box.weights(pattern)), self.oracle.labels)
        )

    def screen(self, pattern: Pattern, beside: Evaluation, best: Key) -> Key | None:
        """Return the key of a pattern, by the twin, or None where it cannot be better than the best.

        Samples are run in an order in which that shows early. With converters, of which the twin
        has a part, patterns are measured on the chip.

        Args:
            pattern: The pattern.
            beside: A pass nearby, whose margins give the order.
            best: Key to beat.
        """
        assert self.oracle is not None
        if self.task.is_regression or self.is_transfer or self.runtime.converters is not None:
            return self.survey([pattern])[0]
        order = self.oracle.safest_first(beside.margins)
        found, count = self.oracle.promising(
            tensors_of(pattern, self.oracle.device), order=order, most_right=best[0]
        )
        self.forward_samples += count
        if found is None:
            return None
        return float(found[0]), smooth_accuracy_of(found[1])

    def survey(self, patterns: Sequence[Pattern]) -> list[Key]:
        """Return the keys of many patterns of which few will matter.

        By the twin where an accelerator runs it, else as `measure`.
        """
        oracle = self.oracle
        if (
            oracle is None
            or oracle.device.type == "cpu"
            or self.is_transfer
            or self.runtime.converters is not None
        ):
            return self.measure(patterns)
        return [self.foresee(pattern) for pattern in patterns]

    def foresee(self, pattern: Pattern) -> Key:
        """Return the key of a pattern by the twin: one forward run."""
        assert self.oracle is not None
        self.forward_samples += len(self.crafting)
        rows, labels = self.oracle.rows(self.box.weights(pattern)), self.oracle.labels
        if self.task.is_regression:
            return _error_key(self.task.metric, array_of((rows[:, 0] - labels).double()))
        return float(self.oracle.right(rows, labels).sum()), smooth_accuracy_of(
            margins(rows, labels)
        )

    def measure(self, patterns: Sequence[Pattern]) -> list[Key]:
        """Return the keys of patterns, by onnxruntime on the crafting samples; one evaluation each."""
        self.forward_samples += len(patterns) * len(self.crafting)
        threads = max(self.workers // max(len(patterns), 1), 1)
        work = partial(_measure, self.runtime, self.task, self.box, self.crafting, threads)
        return list(map_ordered(work, patterns, workers=min(self.workers, len(patterns))))

    def advance(self, steps: int) -> None:
        """Report evaluations that were planned."""
        self.progress.advance(steps, self._state())

    def _state(self) -> str:
        best = min((candidate.key[0] for candidate in self.board.by_member.values()), default=None)
        if best is None:
            return ""
        if self.runtime.task.is_regression:
            return f"worst {-best:.4g}"
        return f"worst {100 * best / max(self.task.num_decisions, 1):.1f} %"


def _measure(
    runtime: Runtime, task: Task, box: Box, crafting: np.ndarray, threads: int, pattern: Pattern
) -> Key:
    return key_of_output(
        task, runtime.outputs(box.weights(pattern), subset=crafting, threads=threads)
    )


def key_of_output(task: Task, output: np.ndarray) -> Key:
    """Return the key of a decision output of the task's samples."""
    if task.is_regression:
        return _error_key(
            task.metric,
            np.asarray(output, dtype=np.float64).reshape(task.labels.shape) - task.labels,
        )
    right = float(task.right(output).sum())
    readout = task_readout(task, "")
    if readout is None or not np.issubdtype(output.dtype, np.floating):
        return right, right / task.num_decisions
    return right, smooth_accuracy_of(margins(*counted_rows(task, readout, output)))


def _error_key(metric: str, errors: np.ndarray) -> Key:
    sizes = np.abs(errors)
    if not np.isfinite(sizes).all():
        return -np.inf, 0.0
    if metric == "mae":
        return -float(sizes.mean()), 0.0
    return -float(sizes.max() if metric == "max_error" else np.sqrt((sizes**2).mean())), 0.0
