from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cimrobust.errors import InputRefusedError
from cimrobust.montecarlo.trial_table import TrialTable, failure_rate, from_parquet, kpp, to_parquet

TABLE = TrialTable(
    trial=np.arange(4),
    value=np.array([3, 1, 4, 1]) / 10,
    count=np.array([3, 1, 4, 1]),
    num_samples=10,
    seed=7,
    metric="accuracy",
    higher_is_better=True,
)
ERRORS = replace(TABLE, count=None, metric="rmse", higher_is_better=False)


@pytest.mark.parametrize("table", [TABLE, ERRORS])
def test_table_survives_the_file(tmp_path: Path, table: TrialTable) -> None:
    to_parquet(table, tmp_path / "trials.parquet")
    read = from_parquet(tmp_path / "trials.parquet")
    np.testing.assert_array_equal(read.value, table.value)
    np.testing.assert_array_equal(read.trial, table.trial)
    assert (read.count is None) == (table.count is None)
    assert (read.seed, read.num_samples, read.metric, read.higher_is_better) == (
        7,
        10,
        table.metric,
        table.higher_is_better,
    )
    assert [path.name for path in tmp_path.iterdir()] == ["trials.parquet"]


def test_a_table_remembers_that_its_run_could_stop(tmp_path: Path) -> None:
    to_parquet(replace(TABLE, max_trials=50), tmp_path / "trials.parquet")
    read = from_parquet(tmp_path / "trials.parquet")
    assert (read.max_trials, read.is_sequential) == (50, True)
    fixed, sequential = failure_rate(TABLE, 0.3, 0.95), failure_rate(read, 0.3, 0.95, aim=0.1)
    assert fixed.upper < sequential.upper
    assert sequential.lower < fixed.lower


def test_columns_are_the_published_ones_and_bytes_repeat(tmp_path: Path) -> None:
    for name in ("a", "b"):
        to_parquet(TABLE, tmp_path / name)
    assert pq.read_table(tmp_path / "a").column_names == [
        "trial",
        "seed",
        "accuracy",
        "correct",
        "samples",
    ]
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_statistics_follow_the_direction_of_the_metric() -> None:
    assert (TABLE.worst_trial, TABLE.worst_value) == (1, 0.1)
    assert (ERRORS.worst_trial, ERRORS.worst_value) == (2, 0.4)
    assert (kpp(TABLE, 1.0, 0.95).score, kpp(ERRORS, 1.0, 0.95).score) == (0.1, 0.4)
    assert (
        failure_rate(TABLE, 0.3, 0.95).num_failures,
        failure_rate(ERRORS, 0.3, 0.95).num_failures,
    ) == (2, 1)
    assert TABLE.mean == pytest.approx(0.225)
    assert TABLE.std == pytest.approx(0.15), "squares of 0.075, 0.125, 0.175, 0.125 over n - 1"
    assert replace(TABLE, trial=np.arange(1), value=np.ones(1), count=None).std == 0.0


@pytest.mark.parametrize("content", [b"", b"PAR1 nothing", None])
def test_broken_file_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "trials.parquet"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputRefusedError, match="trial table"):
        from_parquet(path)


def test_table_without_a_score_is_refused(tmp_path: Path) -> None:
    to_parquet(TABLE, tmp_path / "whole")
    table = pq.read_table(tmp_path / "whole")
    place = table.column_names.index("trial")
    gaps = pa.array([None] * table.num_rows, pa.int64())
    pq.write_table(table.set_column(place, "trial", gaps), tmp_path / "gaps")
    with pytest.raises(
        InputRefusedError, match="rows without a trial, seed, score or number of samples"
    ):
        from_parquet(tmp_path / "gaps")


@pytest.mark.parametrize("name", ["seed", "samples"])
def test_chips_of_two_runs_in_one_table_are_refused(tmp_path: Path, name: str) -> None:
    to_parquet(TABLE, tmp_path / "whole")
    table = pq.read_table(tmp_path / "whole")
    place = table.column_names.index(name)
    mixed = pa.array([1, 1, 1, 2], table.schema.field(name).type)
    pq.write_table(table.set_column(place, name, mixed), tmp_path / "mixed")
    with pytest.raises(InputRefusedError, match=r"\d seeds and \d sample counts"):
        from_parquet(tmp_path / "mixed")


def test_file_of_something_else_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1]}), tmp_path / "other")
    with pytest.raises(
        InputRefusedError, match=r"trial table must be a Parquet file of trials, got: .*metric"
    ):
        from_parquet(tmp_path / "other")
