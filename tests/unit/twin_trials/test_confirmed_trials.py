"""Chips scored on a device: the table is that of the processor, and what is in doubt is confirmed.

The device is the processor here; what an accelerator may do is played by changed outputs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cimrobust.engine.kernel import program_chip
from cimrobust.engine.ort import OpenNetwork, OrtEngine
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
    found = re.search(r"onnxruntime scored (?:all )?(\d+)", table.note)
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
    # The 10th percentile of 150 and a sample.
    assert confirmed(table) == 15 + 20
    assert "by the torch twin on cpu." in table.note
    assert "0 decisions and the scores of 0 chips differed" in table.note


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
    assert re.search(r"at most 0.0005 .*; [1-9]\d* decisions and the scores of [1-9]", table.note)
    assert re.search(r"of [1-9]\d* others the samples with a decision near a tie", table.note)
    assert confirmed(table) < NUM_TRIALS
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
    assert "and the scores of 1 chips differed" in table.note
    assert settled_samples(monkeypatch, digits, wrong) == NUM_TRIALS * 120


class _Scripted:
    """Onnxruntime finds the chips better that the device put last, and differs more near ties."""

    run = RUN

    def __init__(self, difference: float) -> None:
        self.difference = difference
        self.turns: list[tuple[list[int], float]] = []

    def confirmed(self, trials: np.ndarray, turn: int, *, reach: float) -> ConfirmedScores:
        """Return 0.95 for the first ten trials, and for others what the device gives them."""
        assert turn == len(self.turns)
        self.turns.append((trials.tolist(), reach))
        value = np.where(trials < 10, 0.95, 0.5 + trials / 400)
        return ConfirmedScores(
            value,
            np.rint(400 * value).astype(np.int64),
            np.full(trials.size, self.difference if np.isfinite(reach) else 1e-5),
            (trials < 10).astype(np.int64),
            np.full(trials.size, 400),
        )


def scripted(
    nearest: np.ndarray | float, *, later: float = 1e-5
) -> tuple[_Scripted, confirmed_trials._Books]:
    """Confirm 200 chips, of which the first ten seem bad, that come so close to a tie."""
    trials = np.arange(200)
    value = np.where(trials < 10, 0.1, 0.5 + trials / 400)
    device = DeviceScores(
        value, np.rint(400 * value).astype(np.int64), np.broadcast_to(nearest, 200).copy()
    )
    work = _Scripted(later)
    books = confirmed_trials._confirmed(work, device, [(5.0, 0.95)])  # type: ignore[arg-type]
    return work, books


def near(trials: range) -> np.ndarray:
    """Return that some chips come to a hundred thousandth of a tie, and the others not near."""
    return np.where(np.isin(np.arange(200), trials), 1e-5, 1.0)


@pytest.mark.parametrize(
    ("check", "kind"),
    [
        (chip_scoring._check_device, DeviceScores),
        (chip_scoring._check_confirmed, ConfirmedScores),
    ],
)
def test_kept_scores_of_another_number_of_trials_are_refused(
    check: Callable[[int, Any], None], kind: Any
) -> None:
    part = kind(*(np.zeros(3) for _ in fields(kind)))
    check(3, part)
    with pytest.raises(ValueError, match="it is of other trials"):
        check(4, part)


def test_where_confirming_moves_a_percentile_more_is_confirmed() -> None:
    work, books = scripted(near(range(10)))
    first, second = (set(trials) for trials, _ in work.turns)
    assert set(range(10)) <= first
    assert len(first) == 10 + 20
    assert second == set(range(10, 20)) - first
    assert all(np.isinf(reach) for _, reach in work.turns)
    assert (books.value[:10] == 0.95).all()
    assert books.differing.sum() == 10


def test_chips_near_a_tie_are_settled_once_and_again_where_engines_differ_more() -> None:
    close = near(range(10)) * np.where(np.arange(200) >= 150, 5e-5, 1.0)
    _, books = scripted(close)
    calm = books.settled[150:][~books.confirmed[150:]]
    assert calm.size
    assert (calm == 2.0 * 8.0 * 1e-5).all()
    assert (books.settled[20:150][~books.confirmed[20:150]] == 0.0).all()
    work, books = scripted(close, later=1e-4)
    reaches = [reach for _, reach in work.turns if np.isfinite(reach)]
    assert reaches == [2.0 * 8.0 * 1e-5, 2.0 * 8.0 * 1e-4]
    assert (books.settled[150:] >= 8.0 * 1e-4).all()


def test_scores_that_no_near_tie_explains_let_all_be_confirmed() -> None:
    work, books = scripted(1.0)
    assert books.confirmed.all()
    assert sorted(trial for trials, _ in work.turns for trial in trials) == list(range(200))


def test_every_confirmed_chip_was_run_by_onnxruntime(
    digits: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[int] = []
    real = OrtEngine.open

    def counted(self: OrtEngine, chip: Chip) -> OpenNetwork:
        opened.append(1)
        return real(self, chip)

    monkeypatch.setattr(OrtEngine, "open", counted)
    # And the quantised weights, when the twin is opened.
    assert confirmed(on_device(digits)) == len(opened) - 1


def settled_samples(
    monkeypatch: pytest.MonkeyPatch,
    subject: Subject,
    change: Callable[[Chip, np.ndarray], np.ndarray],
) -> int:
    """Return how many samples onnxruntime runs again, of all chips together."""
    ran: dict[int, int] = {}
    real = chip_scoring.ChipScoring.confirmed

    def counted(
        self: chip_scoring.ChipScoring, trials: np.ndarray, turn: int, *, reach: float
    ) -> ConfirmedScores:
        found = real(self, trials, turn, reach=reach)
        ran.update(zip(trials.tolist(), found.samples.tolist(), strict=True))
        return found

    monkeypatch.setattr(chip_scoring.ChipScoring, "confirmed", counted)
    on_device(subject)
    return sum(ran.values())


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
