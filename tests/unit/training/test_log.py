"""Training logs as tables, and settings of training that cannot be."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cimrobust.errors import InputRefusedError, UsageError
from cimrobust.settings.training_settings import TrainingSettings
from cimrobust.training.log import read_log, write_log
from cimrobust.training.state import EpochRow

ROW = EpochRow(
    epoch=1,
    loss=0.5,
    clean=0.9,
    attacked=0.4,
    kpp=0.7,
    mean=0.8,
    proved=0.25,
    learning_rate=1e-3,
    skipped=2,
    eligible=True,
    seconds=3.5,
    training_seconds=2.5,
)


def test_a_log_comes_back_by_role_and_in_order(tmp_path: Path) -> None:
    rows = [ROW, replace(ROW, epoch=2, eligible=False)]
    write_log(tmp_path / "log.parquet", {"method": rows, "control": [ROW]})
    read = read_log(tmp_path / "log.parquet")
    assert read == {"method": [asdict(row) for row in rows], "control": [asdict(ROW)]}
    assert [path.name for path in tmp_path.iterdir()] == ["log.parquet"]


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_what_was_not_measured_is_null(tmp_path: Path, number: float) -> None:
    write_log(tmp_path / "log.parquet", {"method": [replace(ROW, proved=number)]})
    (row,) = read_log(tmp_path / "log.parquet")["method"]
    assert row == {**asdict(ROW), "proved": None}


def test_a_table_of_something_else_is_no_log(tmp_path: Path) -> None:
    pq.write_table(pa.table({"role": ["method"]}), tmp_path / "log.parquet")
    with pytest.raises(InputRefusedError, match="training log must be a table of epochs"):
        read_log(tmp_path / "log.parquet")


PLAIN = TrainingSettings()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (replace(PLAIN, learning_rate=0.0), "learning rate must be positive, got 0.0"),
        (replace(PLAIN, gradient_norm=math.inf), "gradient norm must be positive, got inf"),
        (replace(PLAIN, gradient_norm=math.nan), "gradient norm must be positive, got nan"),
        (replace(PLAIN, weight_decay=-0.1), "weight decay must be 0 or more, got -0.1"),
        (replace(PLAIN, clean_loss=math.inf), "clean loss must be 0 or more, got inf"),
    ],
)
def test_settings_that_cannot_be_are_named(changed: TrainingSettings, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        changed.check()


def test_settings_at_their_edges_are_taken() -> None:
    replace(PLAIN, learning_rate=None, weight_decay=0.0, clean_loss=0.0, draws=0).check()


@pytest.mark.parametrize(
    ("epochs", "patience", "wait"), [(4, None, 10), (60, None, 30), (60, 3, 3)]
)
def test_training_waits_for_half_its_epochs(epochs: int, patience: int | None, wait: int) -> None:
    assert replace(PLAIN, epochs=epochs, patience=patience).longest_wait == wait


def test_a_rate_that_was_not_chosen_is_no_rate() -> None:
    assert replace(PLAIN, learning_rate=0.1).first_rate == 0.1
    with pytest.raises(ValueError, match="learning rate must be chosen before training starts"):
        _ = replace(PLAIN, learning_rate=None).first_rate
