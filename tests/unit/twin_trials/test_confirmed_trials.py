"""Chips scored on a device: the table is that of the processor, and what is in doubt is confirmed.

The device is the processor here; what an accelerator may do is played by changed outputs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cimrobust.engine.kernel import program_chip
from cimrobust.engine.open import Runtime
from cimrobust.engine.subject import Subject
from cimrobust.finished_parts import FinishedParts
from cimrobust.montecarlo.trial_table import TrialTable
from cimrobust.montecarlo.trials import run_trials
from cimrobust.progress import NullProgress
from cimrobust.run import Run
from cimrobust.twin_trials import chip_scoring, confirmed_trials
from cimrobust.twin_trials.chip_scoring import ConfirmedScores, DeviceScores
from cimrobust.twin_trials.confirmed_trials import decisive, run_trials_on_device, sample_of
from cimrobust.twin_trials.twin_outputs import TwinOutputs

RUN = Run(seed=3, workers=2)
USUAL = ((1.0, 0.95), (5.0, 0.95), (10.0, 0.95))
NUM_TRIALS = 150
Chip = Mapping[str, np.ndarray]


def on_device(subject: Subject, run: Run = RUN, **other: FinishedParts) -> TrialTable:
    """Draw chips on the device."""
    return run_trials_on_device(subject, run, num_trials=NUM_TRIALS, percentages=USUAL, **other)


def confirmed(table: TrialTable) -> int:
    """Return how many chips a table says were confirmed."""
    found = re.search(r"(\d+) of \d+ were scored again", table.note)
    assert found is not None
    return int(found.group(1))


@pytest.fixture(scope="module")
def by_processor(digits: Subject) -> TrialTable:
    """The table of onnxruntime alone."""
    return run_trials(digits, RUN, num_trials=NUM_TRIALS)


def changed(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[Chip, np.ndarray], np.ndarray]
) -> None:
    """Let the device give other outputs."""
    of = TwinOutputs.of
    monkeypatch.setattr(TwinOutputs, "of", lambda self, chip: change(chip, of(self, chip)))


@pytest.mark.parametrize("workers", [1, 2])
def test_the_table_is_that_of_the_processor(
    digits: Subject, by_processor: TrialTable, workers: int
) -> None:
    table = on_device(digits, replace(RUN, workers=workers))
    assert table.value.tolist() == by_processor.value.tolist()
    assert table.count is not None
    assert by_processor.count is not None
    assert table.count.tolist() == by_processor.count.tolist()
    assert replace(
        by_processor, value=table.value, count=table.count, trial=table.trial
    ) == replace(table, note="")
    # 15 up to the 10th percentile of 150, a sample of 20, and those near a tie.
    assert 15 + 20 <= confirmed(table) < 60
    assert "by the torch twin on cpu" in table.note
    assert "no decision differed" in table.note


def test_decisions_by_a_threshold_too(tumours: Subject) -> None:
    table = on_device(tumours)
    assert table.value.tolist() == run_trials(tumours, RUN, num_trials=NUM_TRIALS).value.tolist()
    assert len(set(table.value.tolist())) > 1


def test_a_device_that_rounds_coarsely_changes_no_score(
    digits: Subject, by_processor: TrialTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As much as half of what is refused when the twin is opened.
    def coarse(_: Chip, output: np.ndarray) -> np.ndarray:
        noise = np.sin(1e4 * output.astype(np.float64))
        return (output + 5e-4 * np.abs(output).max() * noise).astype(np.float32)

    changed(monkeypatch, coarse)
    table = on_device(digits)
    assert re.search(r"differed by at most 0.0005 .*, and [1-9]\d* decisions differed", table.note)
    assert table.value.tolist() == by_processor.value.tolist()


@pytest.mark.parametrize("place", ["worst", "sampled"])
def test_a_device_that_is_wrong_on_one_confirmed_chip_is_believed_on_none(
    digits: Subject, by_processor: TrialTable, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    others = np.flatnonzero(~decisive(by_processor.value, USUAL))
    trial = by_processor.worst_trial if place == "worst" else int(sample_of(others, 3)[-1])
    name, known = next(iter(program_chip(digits.placement, seed=3, trial=trial).items()))

    def wrong(chip: Chip, output: np.ndarray) -> np.ndarray:
        is_it = np.array_equal(chip[name], known)
        # The worst chip stays among the worst; the other one seems worse than it is.
        return np.roll(output, 1, axis=1) if is_it else output

    changed(monkeypatch, wrong)
    table = on_device(digits)
    assert table.value.tolist() == by_processor.value.tolist()
    assert confirmed(table) == NUM_TRIALS
    assert "and the score of 1 chip." in table.note
    assert "(all)" in table.note


class _Scripted:
    """Onnxruntime finds the chips better that the device put last."""

    run = RUN

    def __init__(self) -> None:
        self.turns: list[list[int]] = []

    def confirmed(self, trials: np.ndarray, turn: int) -> ConfirmedScores:
        """Return 0.95 for the first ten trials, and for others what the device gives them."""
        assert turn == len(self.turns)
        self.turns.append(trials.tolist())
        value = np.where(trials < 10, 0.95, 0.5 + trials / 400)
        differing = (trials < 10).astype(np.int64)
        return ConfirmedScores(
            value, np.rint(400 * value).astype(np.int64), np.full(trials.size, 1e-5), differing
        )


def scripted(nearest: float) -> tuple[_Scripted, confirmed_trials._Books]:
    """Confirm 200 chips of which ten seem bad, with a decision so close to a tie."""
    trials = np.arange(200)
    value = np.where(trials < 10, 0.1, 0.5 + trials / 400)
    device = DeviceScores(
        value, np.rint(400 * value).astype(np.int64), np.where(trials < 10, nearest, 1.0)
    )
    work = _Scripted()
    books = confirmed_trials._confirmed(work, device, [(5.0, 0.95)])  # type: ignore[arg-type]
    return work, books


def test_where_confirming_moves_a_percentile_more_is_confirmed() -> None:
    work, books = scripted(nearest=1e-6)
    assert set(range(10)) <= set(work.turns[0])
    assert set(range(10, 20)) <= {trial for turn in work.turns for trial in turn}
    assert [len(turn) for turn in work.turns[1:]] == [
        10 - len(set(work.turns[0]) & set(range(10, 20)))
    ]
    assert (books.value[:10] == 0.95).all()
    assert (books.differing_chips, books.differing_decisions) == (10, 10)


def test_scores_that_no_near_tie_explains_let_all_be_confirmed() -> None:
    work, books = scripted(nearest=1.0)
    assert books.confirmed.all()
    assert sorted(trial for turn in work.turns for trial in turn) == list(range(200))


def test_every_confirmed_chip_was_run_by_onnxruntime(
    digits: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[int] = []
    outputs = Runtime.outputs

    def counted(self: Runtime, weights: object, **given: object) -> np.ndarray:
        runs.append(1)
        return outputs(self, weights, **given)  # type: ignore[arg-type]

    monkeypatch.setattr(Runtime, "outputs", counted)
    # And the quantised weights, when the twin is opened.
    assert len(runs) == 0
    assert confirmed(on_device(digits)) == len(runs) - 1


def test_the_worst_chips_decide_down_to_the_largest_rank() -> None:
    values = np.array([0.9, 0.5, 0.7, 0.7, 0.8, 1.0, 1.0, 1.0, 1.0, 1.0])
    assert np.flatnonzero(decisive(values, [(10.0, 0.95)])).tolist() == [1]
    assert np.flatnonzero(decisive(values, [(20.0, 0.95)])).tolist() == [1, 2]
    assert np.flatnonzero(decisive(values, [(5.0, 0.95), (40.0, 0.95)])).tolist() == [1, 2, 3, 4]
    # At a low confidence, a bound lies above its percentile.
    assert decisive(values, [(20.0, 0.01)]).sum() > 2
    assert np.flatnonzero(decisive(values, [])).tolist() == [1]


def test_the_sample_is_of_the_seed_and_no_other_thing() -> None:
    others = np.arange(10, 1010)
    chosen = sample_of(others, 3)
    assert chosen.size == len(set(chosen.tolist())) == 50
    assert set(chosen.tolist()) <= set(others.tolist())
    assert chosen.tolist() == sample_of(others, 3).tolist() != sample_of(others, 4).tolist()
    assert sample_of(others[:100], 3).size == 20
    assert sample_of(others[:7], 3).tolist() == others[:7].tolist()


class _Interrupting(NullProgress):
    """Interrupts after a number of steps."""

    def __init__(self, after: int) -> None:
        self.left = after

    def advance(self, steps: int = 1, note: str = "") -> None:
        self.left -= steps
        if self.left < 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("after", [100, NUM_TRIALS + 20])
def test_an_interrupted_run_goes_on_to_the_same_table(
    digits: Subject,
    by_processor: TrialTable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    after: int,
) -> None:
    parts = FinishedParts(tmp_path, "a run")
    with pytest.raises(KeyboardInterrupt):
        on_device(digits, replace(RUN, progress=_Interrupting(after)), parts=parts)
    scored: list[int] = []
    score = chip_scoring.ChipScoring._score

    def counted(self: chip_scoring.ChipScoring, trials: range) -> DeviceScores:
        scored.extend(trials)
        return score(self, trials)

    monkeypatch.setattr(chip_scoring.ChipScoring, "_score", counted)
    table = on_device(digits, parts=parts)
    assert table.value.tolist() == by_processor.value.tolist()
    assert scored == ([*range(64, NUM_TRIALS)] if after == 100 else [])
    assert ("confirmed" in " ".join(parts.taken)) == (after > NUM_TRIALS)
    assert table.note == on_device(digits).note


def test_what_another_device_scored_is_not_taken_over(
    digits: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_device(digits, parts=FinishedParts(tmp_path, "a run"))
    parts = FinishedParts(tmp_path, "a run")
    monkeypatch.setattr(TwinOutputs, "where", "cuda (another)")
    on_device(digits, parts=parts)
    assert parts.taken == []
    assert any("of another run" in note for note in parts.notes)
