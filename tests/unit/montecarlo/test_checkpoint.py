from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cimrobust.data.decision import Score
from cimrobust.errors import InputRefusedError, UsageError
from cimrobust.montecarlo.trial_checkpoint import Checkpoint, trials_in

SCORES = {0: Score(0.1 + 0.2, 3, 10), 2: Score(1 / 3, None, 10)}


def _write(path: Path) -> None:
    with Checkpoint(path, "run a") as checkpoint:
        for trial, score in SCORES.items():
            checkpoint.add(trial, score)


def test_trials_come_back_bit_for_bit(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    _write(path)
    with Checkpoint(path, "run a") as checkpoint:
        assert checkpoint.opened.done == SCORES
        assert "2 trials were taken" in checkpoint.opened.note


def test_a_kill_at_any_byte_loses_at_most_the_line_being_written(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    _write(path)
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with Checkpoint(path, "run a") as checkpoint:
            assert checkpoint.opened.done.items() <= SCORES.items()
            checkpoint.add(7, Score(0.5, 5, 10))
        with Checkpoint(path, "run a") as checkpoint:
            assert checkpoint.opened.done[7] == Score(0.5, 5, 10)


def test_checkpoint_of_another_run_is_put_aside(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    _write(path)
    content = path.read_bytes()
    with Checkpoint(path, "run b") as checkpoint:
        assert checkpoint.opened.done == {}
        assert "of another run" in checkpoint.opened.note
    assert (tmp_path / "trials.jsonl.old").read_bytes() == content


def test_damaged_line_is_refused_with_its_number(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    _write(path)
    path.write_bytes(path.read_bytes() + b'{"trial": "x"}\n')
    with pytest.raises(
        InputRefusedError,
        match=r"checkpoint must hold one trial a line, got something else .*line 4",
    ):
        Checkpoint(path, "run a")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[:-1], "checkpoint must be whole and of this run, got another or"),
        (lambda content: b"{}\n" + content, "checkpoint must be whole and of this run"),
        (
            lambda content: content + content.split(b"\n")[1] + b"\n",
            "checkpoint must hold every trial once, got 3 lines of 2 trials",
        ),
    ],
)
def test_finished_trials_of_another_run_or_not_whole_are_refused(
    tmp_path: Path, damage: Callable[[bytes], bytes], message: str
) -> None:
    path = tmp_path / "trials.jsonl"
    _write(path)
    assert trials_in(path.read_bytes(), path, "run a") == SCORES
    with pytest.raises(InputRefusedError, match=message):
        trials_in(damage(path.read_bytes()), path, "run a")


def test_folder_that_does_not_exist_is_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="checkpoint must be a writable file, got: No such file"):
        Checkpoint(tmp_path / "none" / "trials.jsonl", "run a")
