"""How fast this machine is at one network: about a second of measurement.

Nothing that is measured goes into a result.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cimrobust.certify.bound_summary import EFFORTS
from cimrobust.certify.bounded_network import open_bounds
from cimrobust.certify.bounds import certify
from cimrobust.certify.octaves import OCTAVES
from cimrobust.certify.refusal import Refusal
from cimrobust.engine.torch_threads import one_torch_thread
from cimrobust.progress import NullProgress
from cimrobust.search.climb import climb
from cimrobust.search.gradients import TwinStatus, open_gradients
from cimrobust.search.losses import Loss, RegressionError, SmoothAccuracy
from cimrobust.search.pass_ledger import PassLedger
from cimrobust.search.scorer import Scorer

if TYPE_CHECKING:
    from cimrobust.engine.subject import Subject
    from cimrobust.run import Run

# Seconds that one measurement should take.
_SECONDS = 1.0
# Passes that show whether a network breaks at once, and samples that show it.
_PASSES, _SAMPLES = 10, 64
# A forward-backward pass of the twin in forward runs of onnxruntime (measured, docs/lab-book).
_RUNS = 4.0
# Forward run of a sample, in seconds, from which bounds are not tried, and how many such runs they
# were measured to take all the same: interval bounds of a ResNet-18 at 224 x 224.
_SLOW_RUN, _RUNS_OF_BOUNDS = 0.02, 1500
# Samples that a bound is tried on, as `certify_run` does first.
_BOUNDED = 3
# How much longer a sample is branched on than at effort quick.
_LONGER = {"quick": 1.0, "standard": 4.0, "thorough": 16.0}


@dataclass(frozen=True)
class ChipSpeed:
    """What it takes to score a chip, by one thread.

    Attributes:
        fixed: Seconds of drawing it and opening a session for it.
        sample: Seconds a sample.
    """

    fixed: float
    sample: float

    def seconds(self, samples: float) -> float:
        """Return the seconds of a chip that is scored on so many samples."""
        return self.fixed + samples * self.sample


@dataclass(frozen=True)
class PassSpeed:
    """What it takes to search, by one thread.

    Attributes:
        opening: Seconds of opening the twin.
        sample: Seconds of a pass over one sample, and of scoring what it leads to.
        fixed: Seconds of a pass that do not depend on the samples.
        operations: Floating-point operations of one sample's forward run.
        saved_bytes: What one sample keeps for the backward run.
        ends_after: Passes after which nothing was correct any more; None: something still was.
        reason: Why there are no gradients; empty where there are.
    """

    opening: float
    sample: float
    fixed: float
    operations: float
    saved_bytes: int
    ends_after: int | None
    reason: str


@dataclass(frozen=True)
class BoundSpeed:
    """What it takes to certify, with the workers of the run.

    Attributes:
        opening: Seconds of making the network ready to be bounded.
        held: Seconds of a sample in the smallest box; 0 where there is no bound.
        broken: Seconds of a sample in the stated box, where it is branched on most often.
        hopeful: Whether a sample was certified in the smallest.
        reason: Why nothing is bounded, or that it was not tried.
    """

    opening: float
    held: float
    broken: float
    hopeful: bool
    reason: str


@dataclass(frozen=True)
class Speed:
    """How fast this machine is at one network."""

    chip: ChipSpeed
    search: PassSpeed
    bound: BoundSpeed


def measure(subject: Subject, run: Run) -> Speed:
    """Measure how fast this machine is at a network.

    Args:
        subject: The network, its data, and where its weights are stored.
        run: How it will be computed.
    """
    run = replace(run, progress=NullProgress())
    chip = measure_chip(subject, run)
    search = _measure_search(subject, run, chip)
    return Speed(chip, search, _measure_bound(subject, run, chip))


def measure_chip(subject: Subject, run: Run) -> ChipSpeed:
    """Draw a chip and score it on a few samples, and on a few more."""
    runtime, size = subject.runtime, max(subject.runtime.engine.feeding.size, 1)
    count = runtime.dataset.num_samples
    buffer = runtime.engine.buffers(subject.placement)

    def chip(samples: int) -> float:
        def scored() -> None:
            drawn = runtime.engine.draw(subject.placement, seed=run.seed, trial=0, out=buffer)
            runtime.score(drawn, subset=np.arange(samples))

        return _seconds(scored)[0]

    few = min(size, count) if subject.runtime.engine.feeding.mode == "fixed" else 1
    chip(few)  # The first run of all pays for what later ones find in place.
    least = chip(few)
    more = min(max(few, int(16 * size * min(_SECONDS / max(least, 1e-6), 1.0) / 4)), count)
    if more <= few:
        return ChipSpeed(0.0, least / few)
    sample = max(min(chip(more), chip(more)) - least, 0.0) / (more - few)
    return ChipSpeed(max(least - few * sample, 0.0), sample)


def _measure_search(subject: Subject, run: Run, chip: ChipSpeed) -> PassSpeed:
    """Climb for a few passes on a few samples, as the search will."""
    affordable = _SECONDS / (_RUNS * max(chip.sample, 1e-7))
    passes = int(min(max(affordable / 8, 2), _PASSES))
    count = int(min(max(affordable / passes, 2), _SAMPLES, subject.runtime.dataset.num_samples))
    # One thread, so that what many make of it can be told for every number of them.
    alone = replace(run, workers=1, passes=None, attack_samples=count)
    seconds, opened = _seconds(lambda: open_gradients(subject, alone, with_bit_lines=True))
    if opened.oracle is None:
        return PassSpeed(seconds, 0.0, 0.0, opened.operations, 0, None, opened.reason or "")
    full, ends = _climbed(subject, alone, opened, passes)
    fixed, sample = 0.0, full / count
    if count > 1:
        one = opened.on(subject.runtime, opened.attack_set[:1])
        fixed = max(_climbed(subject, alone, one, 2)[0] - sample, 0.0)
        sample = max(full - fixed, 0.1 * full) / count
    return PassSpeed(
        opening=seconds,
        sample=sample,
        fixed=fixed,
        operations=opened.operations,
        saved_bytes=_saved_bytes(subject, alone, opened) // count,
        ends_after=ends if passes == _PASSES and count >= min(_SAMPLES, 32) else None,
        reason="",
    )


def _climbed(
    subject: Subject, run: Run, opened: TwinStatus, passes: int
) -> tuple[float, int | None]:
    """Return the seconds of a pass, and the passes after which nothing was correct any more."""
    problem, loss = opened.problem(subject, run), _loss(subject)

    def climbed(passes: int) -> PassLedger:
        scorer = Scorer(problem, PassLedger(problem.task))
        with one_torch_thread():
            climb(scorer, "plan", loss, start=problem.box.zero(), passes=passes, origin="from zero")
        return scorer.ledger

    climbed(1)  # What the first pass alone pays for.
    seconds, ledger = _seconds(lambda: climbed(passes))
    return seconds / max(ledger.passes, 1), ledger.passes if ledger.nothing_left else None


def _loss(subject: Subject) -> Loss:
    task = subject.runtime.task
    return RegressionError(task.metric) if task.is_regression else SmoothAccuracy(0.5)


def _saved_bytes(subject: Subject, run: Run, opened: TwinStatus) -> int:
    """Return the bytes of the activations that a pass keeps for its way back."""
    problem, held = opened.problem(subject, run), dict[int, int]()
    assert opened.oracle is not None

    def note(tensor: Any) -> Any:
        held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    zero = problem.space.pattern(problem.space.unit(problem.box.zero()))
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        opened.oracle.evaluate(zero, _loss(subject), 1.0)
    return sum(held.values())


def _measure_bound(subject: Subject, run: Run, chip: ChipSpeed) -> BoundSpeed:
    """Bound a few samples in the smallest box, as certifying begins."""
    if chip.sample > _SLOW_RUN:
        note = f"not tried on so large a network: {_RUNS_OF_BOUNDS} forward runs, as a ResNet-18"
        return BoundSpeed(_RUNS_OF_BOUNDS * chip.sample, 0.0, 0.0, False, note)
    opening, network = _seconds(lambda: open_bounds(subject.runtime, subject.placement))
    if isinstance(network, Refusal):
        return BoundSpeed(opening, 0.0, 0.0, False, "no bound for this network")

    def bounded(scale: float, count: int) -> tuple[float, bool]:
        samples = np.arange(min(count, network.num_decisions))
        narrowing, branching = EFFORTS["quick"]
        seconds, bounds = _seconds(
            lambda: certify(
                network,
                scale=scale,
                samples=samples,
                effort=narrowing,
                branching=branching,
                workers=run.workers,
            )
        )
        return seconds / len(samples), bool(bounds.certified.any())

    held, hopeful = bounded(2.0 ** OCTAVES[0], _BOUNDED)
    broken = bounded(1.0, 1)[0] if hopeful and held < _SECONDS else held
    return BoundSpeed(opening, held, _LONGER[run.effort] * broken, hopeful, "")


def _seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    begin = time.perf_counter()
    made = work()
    return time.perf_counter() - begin, made
