"""What a search has spent and how good it has become: the only value of a search that changes."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from cimrobust.data.task import Task
from cimrobust.errors import SelfCheckError
from cimrobust.progress import NullProgress, Progress
from cimrobust.search.search_records import EffortPoint

if TYPE_CHECKING:
    from cimrobust.search.candidate import Key

#: Passes of a search that has no budget of its own: every run in it states its passes.
UNLIMITED = 10**9


@dataclass(frozen=True)
class LedgerState:
    """What a ledger holds at one moment.

    Attributes as those of `PassLedger`; `seconds` are those since the search began.
    """

    passes: int
    spare: int
    forward_samples: int
    runs: int
    best: float
    trace: tuple[EffortPoint, ...]
    seconds: float

    @property
    def spent(self) -> tuple[int, int, int, int, float]:
        """What later runs depend on."""
        return self.passes, self.spare, self.forward_samples, self.runs, self.best


@dataclass
class PassLedger:
    """Passes made and left.

    Attributes:
        task: The task on the attack set.
        most_passes: Passes that may be made at all; members ask for what is left.
        progress: Hears of every pass and evaluation.
        passes: Forward-backward passes so far.
        spare: Passes that earlier members were given and did not need.
        forward_samples: Samples of all forward runs so far, by onnxruntime or the twin.
        runs: Runs so far that can be kept on disk; numbers them.
        best: Smallest score of a key so far; infinite before the first.
        best_of_lender: Smallest score that was known where this ledger was lent; only shown.
        trace: The score on the attack set whenever it became worse.
    """

    task: Task
    most_passes: int = UNLIMITED
    progress: Progress = field(default_factory=NullProgress)
    passes: int = 0
    spare: int = 0
    forward_samples: int = 0
    runs: int = 0
    best: float = np.inf
    best_of_lender: float = np.inf
    trace: list[EffortPoint] = field(default_factory=list)
    started: float = field(default_factory=time.perf_counter)

    @property
    def left(self) -> int:
        """Passes that may still be made."""
        return max(self.most_passes - self.passes, 0)

    @property
    def evaluations(self) -> int:
        """Forward runs over the attack set so far; those that stopped early by their samples."""
        return -(-self.forward_samples // max(len(self.task.labels), 1))

    @property
    def nothing_left(self) -> bool:
        """Whether a pattern breaks every decision of the attack set: no search on it finds more."""
        return not self.task.is_regression and self.best == 0

    def spend_pass(self, purpose: str) -> None:
        """Count a pass.

        Raises:
            SelfCheckError: None is left.
        """
        if not self.left:
            raise SelfCheckError(
                f"search must keep to {self.most_passes} passes, got one more asked for"
                f" ({purpose}); report this"
            )
        self.passes += 1

    def ran(self, num_samples: int) -> None:
        """Count a forward run."""
        self.forward_samples += num_samples

    def record(self, key: Key) -> None:
        """Note what a pattern does, and trace it if nothing so far does more."""
        if key.score < self.best:
            self.best = key.score
            self.trace.append(
                EffortPoint(
                    passes=self.passes,
                    seconds=time.perf_counter() - self.started,
                    score=self._value(self.best),
                )
            )

    def advance(self, steps: int) -> None:
        """Report evaluations that were planned."""
        self.progress.advance(steps, self._state())

    def lend(self) -> PassLedger:
        """Return a ledger with the same passes to go on with, and nothing found; see `settle`."""
        return replace(self, best=np.inf, best_of_lender=self._best_known(), trace=[])

    def settle(self, lent: PassLedger) -> None:
        """Take over what was spent on a ledger that was lent."""
        self.passes, self.forward_samples = lent.passes, lent.forward_samples
        self.runs, self.started = lent.runs, lent.started

    def state(self) -> LedgerState:
        """Return what the ledger holds."""
        return LedgerState(
            self.passes,
            self.spare,
            self.forward_samples,
            self.runs,
            self.best,
            tuple(self.trace),
            time.perf_counter() - self.started,
        )

    def go_on(self, state: LedgerState) -> None:
        """Take over what a ledger of the same search held when it was interrupted."""
        self.passes, self.spare, self.forward_samples = (
            state.passes,
            state.spare,
            state.forward_samples,
        )
        self.runs, self.best, self.trace = state.runs, state.best, list(state.trace)
        self.started = time.perf_counter() - state.seconds

    def _best_known(self) -> float:
        return min(self.best, self.best_of_lender)

    def _value(self, score: float) -> float:
        if self.task.is_regression:
            return -score
        return score / max(self.task.num_decisions, 1)

    def _state(self) -> str:
        if self._best_known() == np.inf:
            return ""
        value = self._value(self._best_known())
        return f"worst {value:.4g}" if self.task.is_regression else f"worst {100 * value:.1f} %"
