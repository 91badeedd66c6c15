"""Monte-Carlo: draw chips, run the evaluation set on each."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import onnxruntime as ort
from jaxtyping import Shaped

from cimrobust.data.decision import Score
from cimrobust.engine.open import Runtime
from cimrobust.engine.parallel import map_ordered
from cimrobust.engine.subject import Subject
from cimrobust.errors import UsageError
from cimrobust.mapping.placement import Placement
from cimrobust.montecarlo.chip_memory import within_memory
from cimrobust.montecarlo.stopping import StopRule, Watch
from cimrobust.montecarlo.trial_checkpoint import Checkpoint
from cimrobust.montecarlo.trial_table import TrialTable
from cimrobust.run import Run

Buffers = SimpleQueue[dict[str, Shaped[np.ndarray, "..."]]]


def run_trials(
    subject: Subject,
    run: Run,
    *,
    num_trials: int,
    checkpoint: Path | None = None,
    stop: StopRule | None = None,
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

    Raises:
        UsageError: A setting makes no sense, or the checkpoint cannot be written.
    """
    _check_settings(num_trials, run)
    run = within_memory(run, subject.placement)
    runtime, placement, progress = subject.runtime, subject.placement, run.progress
    scores: dict[int, Score] = {}
    with ExitStack() as stack:
        file = (
            stack.enter_context(Checkpoint(checkpoint, fingerprint(runtime, placement, run.seed)))
            if checkpoint
            else None
        )
        if file is not None:
            scores.update(
                {trial: score for trial, score in file.opened.done.items() if trial < num_trials}
            )
        progress.start("Monte-Carlo trials", num_trials)
        progress.advance(len(scores), file.opened.note if file is not None else "")
        missing = [trial for trial in range(num_trials) if trial not in scores]
        evaluated = stack.enter_context(closing(_evaluate(subject, run, missing)))

        def ordered() -> Iterator[Score]:
            for trial in range(num_trials):
                if trial not in scores:
                    scores[trial] = next(evaluated)[1]
                    if file is not None:
                        file.add(trial, scores[trial])
                    progress.advance(1)
                yield scores[trial]

        used = _until(stop, ordered())
        progress.finish()
    return _table(runtime, used, run.seed, max_trials=None if stop is None else num_trials)


def _until(stop: StopRule | None, scores: Iterator[Score]) -> list[Score]:
    """Take scores until the rule stops them."""
    used: list[Score] = []
    watch = None if stop is None else Watch(stop)
    for score in scores:
        used.append(score)
        if watch is not None and watch.stops_after(score.value):
            break
    return used


def _evaluate(
    subject: Subject, run: Run, trials: list[int]
) -> Generator[tuple[int, Score], None, None]:
    """Yield the score of every trial in order.

    Each worker fills one set of weight arrays over and over.
    """
    buffers: Buffers = SimpleQueue()
    for _ in range(run.workers):
        buffers.put(subject.runtime.engine.buffers(subject.placement))
    yield from map_ordered(partial(_trial, subject, buffers, run.seed), trials, workers=run.workers)


def _trial(subject: Subject, buffers: Buffers, seed: int, trial: int) -> tuple[int, Score]:
    runtime, buffer = subject.runtime, buffers.get()
    try:
        return trial, runtime.score(
            runtime.engine.draw(subject.placement, seed=seed, trial=trial, out=buffer)
        )
    finally:
        buffers.put(buffer)


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
    """Return a digest of everything a trial's score depends on.

    Model, samples, labels, devices, seed, batch plan, runtime version.
    """
    digest = hashlib.sha256()
    dataset = runtime.dataset
    described = {
        "model": [[file.name, file.sha256] for file in runtime.network.files],
        "profile": placement.profile.to_dict(),
        "seed": seed,
        "decision": repr(dataset.decision),
        "labels": repr(dataset.reading),
        "feeding": [runtime.engine.feeding.mode, runtime.engine.feeding.size],
        "onnxruntime": ort.__version__,
        "converters": None if runtime.converters is None else runtime.converters.to_dict(),
    }
    digest.update(json.dumps(described, sort_keys=True, default=str).encode())
    arrays = {
        **dataset.inputs,
        **dataset.constants,
        "labels": runtime.task.labels,
        **placement.nominal(),
    }
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _check_settings(num_trials: int, run: Run) -> None:
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
