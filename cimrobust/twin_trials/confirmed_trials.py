"""Monte-Carlo with the torch twin: a device scores all chips, onnxruntime those that decide.

Chips are those of `montecarlo.trials.run_trials`: drawn by the kernel, on the processor, from seed
and trial alone. The device scores every chip, and notes how close the closest of its decisions was
to a tie. Then onnxruntime scores on the processor, again and again until nothing is left to do:

- the worst chips, as many as the rank of the largest percentile that is reported or of its bound,
  in the order in which they were drawn where scores are equal;
- a random sample of the others, chosen by the seed;
- of all others, the samples with a decision near a tie: its margin is less than `FACTOR` times what
  the engines may do to it, which is twice the largest difference of any score that both gave;
- every chip, if the score of one differs that no such decision explains.

What onnxruntime gives takes the place of what the device gave.

Why bounds hold. A bound of a percentile is the score of the r-th worst of n exchangeable chips, all
scored by one function. That function is onnxruntime's. Its score differs from the device's only
where a decision differs, and a decision is the same where its margin exceeds what two scores can be
off together. So if no score that onnxruntime did not give differs by more than `FACTOR` times the
largest difference seen, the table is, number by number, the one that onnxruntime alone would have
given, and so is every bound, mean and rate. That is tested, not assumed, wherever both have scored:
with every decision of the random sample among it. A fault that shows in a fraction f of the
unconfirmed chips stays unseen by a sample of m with a probability of at most (1 - f)^m. And
whatever the device does, the worst chip and every percentile and bound reported are scores that
onnxruntime gave to chips that were drawn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64

from cimrobust.engine.torch_device import repeatable_convolutions
from cimrobust.engine.torch_threads import one_torch_thread
from cimrobust.finished_parts import NOTHING_KEPT, FinishedParts
from cimrobust.montecarlo.chip_memory import within_memory
from cimrobust.montecarlo.quantile import bound_rank
from cimrobust.montecarlo.trial_table import TrialTable
from cimrobust.montecarlo.trials import check_trials
from cimrobust.seeds import stream
from cimrobust.twin_trials.chip_scoring import ChipScoring, ConfirmedScores, DeviceScores
from cimrobust.twin_trials.twin_outputs import open_twin_outputs

if TYPE_CHECKING:
    from cimrobust.engine.subject import Subject
    from cimrobust.run import Run

#: Name of the warning that says what was confirmed.
TRIALS_ON_DEVICE = "TRIALS_ON_DEVICE"
#: How many times the largest difference seen the engines may differ by on other chips.
FACTOR = 4.0
# Share of the other chips that is scored again, and the fewest of them.
_SAMPLED, _LEAST_SAMPLED = 0.05, 20
# Decisions are run ahead that come near a tie where the largest difference doubles.
_AHEAD = 2.0
# No difference below the rounding of one float32 number is believed.
_LEAST_DIFFERENCE = float(np.finfo(np.float32).eps)

#: Percentiles in percent, each with its confidence.
Percentages = Sequence[tuple[float, float]]


@dataclass
class _Books:
    """The table as far as it is confirmed, and what that showed.

    Attributes:
        value: Score of every trial.
        count: Right decisions.
        confirmed: Trials that onnxruntime ran on all samples.
        settled: How close to a tie decisions are of which onnxruntime ran all; 0: none.
        differing: Decisions that differ.
        difference: Largest difference of any score that both engines gave.
        sampled: Trials of the random sample.
        is_unexplained: A score differed without a decision near a tie.
    """

    value: Float64[np.ndarray, "trials"]
    count: Int64[np.ndarray, "trials"]
    confirmed: Bool[np.ndarray, "trials"]
    settled: Float64[np.ndarray, "trials"]
    differing: Int64[np.ndarray, "trials"]
    difference: float = _LEAST_DIFFERENCE
    sampled: int = 0
    is_unexplained: bool = False

    @property
    def reach(self) -> float:
        """How close to a tie a decision is that the engines may decide differently."""
        return 2.0 * FACTOR * self.difference


def run_trials_on_device(
    subject: Subject,
    run: Run,
    *,
    num_trials: int,
    percentages: Percentages,
    parts: FinishedParts = NOTHING_KEPT,
) -> TrialTable:
    """Draw chips, score each on a device, and confirm what decides on the processor.

    Args:
        subject: The network with its data, and the devices that are drawn.
        run: How to compute: its device type says where, its workers draw and confirm.
        num_trials: Number of chips, at least 1.
        percentages: Percentiles that will be reported, in percent, each with its confidence.
        parts: Where finished trials are kept and taken from; none changes the result.

    Returns:
        The table, whose note says what was confirmed.

    Raises:
        UsageError: A setting makes no sense, or the network has no twin that can do this.
        MemoryShortError: The device does not hold the network.
    """
    check_trials(num_trials, run)
    run = within_memory(run, subject.placement)
    with one_torch_thread():
        twin = open_twin_outputs(subject, run)
        work = ChipScoring(subject, run, twin, parts.within("device_trials", twin.where, _cuda()))
        with repeatable_convolutions(twin.device):
            scored = work.scored(num_trials)
            books = _confirmed(work, scored, percentages)
    task = subject.runtime.task
    return TrialTable(
        trial=np.arange(num_trials, dtype=np.int64),
        value=books.value,
        count=books.count,
        num_samples=task.num_decisions,
        seed=run.seed,
        metric=task.metric,
        higher_is_better=task.higher_is_better,
        note=_note(books, scored, percentages, twin.where),
    )


def _confirmed(work: ChipScoring, scored: DeviceScores, percentages: Percentages) -> _Books:
    """Score on the processor, round by round, whatever decides or is in doubt."""
    count = scored.value.size
    books = _Books(
        value=scored.value.copy(),
        count=scored.count.copy(),
        confirmed=np.zeros(count, dtype=bool),
        settled=np.zeros(count),
        differing=np.zeros(count, dtype=np.int64),
    )
    sampled = sample_of(np.flatnonzero(~decisive(books.value, percentages)), work.run.seed)
    books.sampled = sampled.size
    asked = np.isin(np.arange(count), sampled)
    turn = 0
    while True:
        whole = (decisive(books.value, percentages) | asked | books.is_unexplained) & (
            ~books.confirmed
        )
        # Whole chips first: they say how far the engines differ.
        reach = np.inf if whole.any() else books.reach
        doubtful = (scored.nearest <= reach) & (books.settled < reach) & ~books.confirmed
        trials = np.flatnonzero(whole if whole.any() else doubtful)
        if trials.size == 0:
            return books
        reach *= _AHEAD
        _enter(books, scored, trials, work.confirmed(trials, turn, reach=reach), reach)
        turn += 1


def _enter(
    books: _Books,
    scored: DeviceScores,
    trials: Int64[np.ndarray, "some"],
    found: ConfirmedScores,
    reach: float,
) -> None:
    """Let what onnxruntime gave take the place of what the device gave."""
    books.value[trials], books.count[trials] = found.value, found.count
    books.differing[trials] = found.differing
    books.settled[trials] = reach
    books.confirmed[trials] = np.isinf(reach)
    books.difference = max(books.difference, float(found.difference.max()))
    differs = found.count != scored.count[trials]
    books.is_unexplained |= bool((scored.nearest[trials][differs] > books.reach).any())


def decisive(
    values: Float64[np.ndarray, "trials"], percentages: Percentages
) -> Bool[np.ndarray, "trials"]:
    """Return which trials are the worst ones, down to the last that is reported by its rank.

    Of equal ones the first; the very worst is always among them.

    Args:
        values: Score of every trial; higher is better.
        percentages: Percentiles in percent, each with its confidence.
    """
    count = values.size
    ranks = [
        rank
        for k, confidence in percentages
        for rank in (
            math.ceil(count * k / 100.0 - 1e-9),
            bound_rank(count, k / 100.0, confidence),
        )
    ]
    found = np.zeros(count, dtype=bool)
    found[np.argsort(values, kind="stable")[: max([1, *ranks])]] = True
    return found


def sample_of(others: Int64[np.ndarray, "others"], seed: int) -> Int64[np.ndarray, "sampled"]:
    """Return a random sample of trials, in their order: 5 % of them, 20 at least.

    Args:
        others: Trials that are not confirmed anyway.
        seed: Seed of the run.
    """
    size = min(max(math.ceil(_SAMPLED * others.size), _LEAST_SAMPLED), others.size)
    chosen = stream(seed, "confirmed trials").choice(others, size, replace=False)
    return np.asarray(np.sort(chosen), dtype=np.int64)


def _cuda() -> str:
    """Return the version of CUDA that torch was built for, on which sums depend."""
    return str(torch.version.cuda)


def _note(books: _Books, scored: DeviceScores, percentages: Percentages, where: str) -> str:
    """Say where chips were scored, and what was confirmed."""
    count, confirmed = books.value.size, int(books.confirmed.sum())
    begin = f"{TRIALS_ON_DEVICE}: Drawn chips were scored by the torch twin on {where}. onnxruntime"
    differing = (
        f"{int(books.differing.sum())} decisions and the scores of"
        f" {int((books.count != scored.count).sum())} chips differed"
    )
    far = f"Scores differed by at most {books.difference:.2g} of a chip's largest"
    if confirmed == count:
        return (
            f"{begin} scored all {count} again on the processor, and its scores stand in the table."
            f" {far}; {differing}."
        )
    settled = int(((books.settled > 0) & ~books.confirmed).sum())
    largest = max((k for k, _ in percentages), default=0.0)
    return (
        f"{begin} scored {confirmed} of {count} again on the processor (the worst down to the"
        f" percentile of {largest:g} %, and a random sample of {books.sampled} of the others), and"
        f" of {settled} others the samples with a decision near a tie; what it gave stands in the"
        f" table. {far}; {differing}. A decision is near a tie where its margin is less than"
        f" {FACTOR:g} times what that difference may do to it; all others are onnxruntime's too,"
        " unless it differs there by more."
    )
