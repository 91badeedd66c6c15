"""Monte-Carlo: draw chips, run the evaluation set on each."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Shaped

from cimrobust.cluster.executor import Executor, Threads
from cimrobust.errors import UsageError
from cimrobust.montecarlo.chip_memory import within_memory
from cimrobust.montecarlo.stopping import StopRule, Watch
from cimrobust.montecarlo.trial_checkpoint import Checkpoint
from cimrobust.montecarlo.trial_identity import identity_of
from cimrobust.montecarlo.trial_table import TrialTable

if TYPE_CHECKING:
    from cimrobust.data.decision import Score
    from cimrobust.engine.open import Runtime
    from cimrobust.engine.subject import Subject
    from cimrobust.mapping.placement import Placement
    from cimrobust.run import Run

Buffer = dict[str, Shaped[np.ndarray, "..."]]
_NONE_KNOWN: Mapping[int, Score] = MappingProxyType({})


@dataclass(frozen=True)
class ScoreTrials:
    """The task of scoring drawn chips; its items are the numbers of trials.

    Attributes:
        seed: Seed of the run.
    """

    seed: int

    def on(self, subject: Subject) -> Callable[[int], Score]:
        """Return what scores one trial, from many threads at once.

        As many sets of weight arrays are made as trials are scored at the same time, and filled
        over and over.
        """
        runtime, placement = subject.runtime, subject.placement
        buffers: SimpleQueue[Buffer] = SimpleQueue()

        def scored(trial: int) -> Score:
            try:
                buffer = buffers.get_nowait()
            except Empty:
                buffer = runtime.engine.buffers(placement)
            try:
                return runtime.score(
                    runtime.engine.draw(placement, seed=self.seed, trial=trial, out=buffer)
                )
            finally:
                buffers.put(buffer)

        return scored


def run_trials(
    subject: Subject,
    run: Run,
    *,
    num_trials: int,
    checkpoint: Path | None = None,
    stop: StopRule | None = None,
    known: Mapping[int, Score] = _NONE_KNOWN,
    executor: Executor | None = None,
) -> TrialTable:
    """Draw chips and score each on all samples.

    Trial t is a function of the seed and t alone, so more trials extend a run, and neither the
    number of workers nor an interruption changes any of them. Memory is that of as many chips as
    there are workers, whatever the number of trials.

    Args:
        subject: The network with its data, and the devices that are drawn.
        run: How to compute: its seed draws, and as many chips as it has workers are evaluated at
            the same time, one thread each.
        num_trials: Number of chips, at least 1; the most of them where the run may stop early.
        checkpoint: File that trials are appended to and taken from; None: no file.
        stop: When to stop early; decided after every trial in the order of trials, so it does not
            depend on the number of workers. None: never.
        known: Scores of trials that were drawn before, as those of shards.
        executor: Where chips are scored; None: in the threads of this process.

    Raises:
        UsageError: A setting makes no sense, or the checkpoint cannot be written.
    """
    check_trials(num_trials, run)
    run = within_memory(run, subject.placement)
    with closing(
        trials_done(
            subject, run, range(num_trials), checkpoint=checkpoint, known=known, executor=executor
        )
    ) as scores:
        used = _until(stop, scores)
    run.progress.finish()
    return _table(subject.runtime, used, run.seed, max_trials=None if stop is None else num_trials)


def trials_done(
    subject: Subject,
    run: Run,
    trials: range,
    *,
    checkpoint: Path | None,
    known: Mapping[int, Score] = _NONE_KNOWN,
    executor: Executor | None = None,
) -> Generator[Score, None, None]:
    """Yield the scores of some trials in their order, appending new ones to the checkpoint.

    Arguments as for `run_trials`.
    """
    progress = run.progress
    with ExitStack() as stack:
        scores, note, file = dict(known), "", None
        if checkpoint is not None:
            digest = fingerprint(subject.runtime, subject.placement, run.seed)
            file = stack.enter_context(Checkpoint(checkpoint, digest))
            scores |= {trial: score for trial, score in file.opened.done.items() if trial in trials}
            note = file.opened.note
        progress.start("Monte-Carlo trials", len(trials))
        progress.advance(len(scores), note)
        missing = [trial for trial in trials if trial not in scores]
        evaluated = stack.enter_context(
            closing(
                (executor or Threads(subject, run.workers)).map_ordered(
                    ScoreTrials(run.seed), missing
                )
            )
        )
        for trial in trials:
            if trial not in scores:
                scores[trial] = next(evaluated)
                if file is not None:
                    file.add(trial, scores[trial])
                progress.advance(1)
            yield scores[trial]


def _until(stop: StopRule | None, scores: Iterator[Score]) -> list[Score]:
    """Take scores until the rule stops them."""
    used: list[Score] = []
    watch = None if stop is None else Watch(stop)
    for score in scores:
        used.append(score)
        if watch is not None and watch.stops_after(score.value):
            break
    return used


def _table(
    runtime: Runtime, scores: list[Score], seed: int, *, max_trials: int | None
) -> TrialTable:
    counts = [score.count for score in scores if score.count is not None]
    return TrialTable(
        trial=np.arange(len(scores), dtype=np.int64),
        value=np.array([score.value for score in scores], dtype=np.float64),
        count=np.array(counts, dtype=np.int64) if len(counts) == len(scores) else None,
        num_samples=scores[0].num_samples,
        seed=seed,
        metric=runtime.task.metric,
        higher_is_better=runtime.task.higher_is_better,
        max_trials=max_trials,
    )


def fingerprint(runtime: Runtime, placement: Placement, seed: int) -> str:
    """Return a digest of everything that the score of a trial depends on; see `identity_of`."""
    return identity_of(runtime, placement, seed).digest


def check_trials(num_trials: int, run: Run) -> None:
    """Raise UsageError for a number of trials, workers or a seed that makes no sense."""
    if num_trials < 1:
        raise UsageError(
            f"number of trials must be at least 1, got {num_trials} (option --trials); 300 give a"
            " bound of the 1st percentile"
        )
    if run.workers < 1:
        raise UsageError(
            f"number of workers must be at least 1, got {run.workers} (option --workers); use the"
            " number of cores"
        )
    if not -(2**63) <= run.seed < 2**63:
        raise UsageError(
            f"seed must fit 64 bits, got {run.seed} (option --seed); choose a smaller one"
        )
