"""The table of what is proven of every sample, which somebody may have changed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from cimrobust.certify.bound_summary import Certification
from cimrobust.certify.per_sample import PerSample, from_parquet, per_sample, to_parquet
from cimrobust.certify.refusal import Refusal
from cimrobust.errors import InputRefusedError

TABLE = PerSample(
    np.array([True, False, False]), np.array([True, True, False]), np.array([0.5, 0.0, np.nan])
)


def test_tolerances_are_shares_of_the_stated_one_and_unknown_where_not_asked_for() -> None:
    found = Certification(
        None,
        np.array([True, False, True]),
        None,
        {},
        tried=np.array([True, True, False]),
        largest=np.array([0.5, 0.0]),
    )
    table = per_sample(found, 0.04)
    assert table is not None
    np.testing.assert_array_equal(table.certified, [True, False, True])
    np.testing.assert_array_equal(table.tried, [True, True, False])
    np.testing.assert_array_equal(table.largest, [0.02, 0.0, np.nan])


def test_without_a_bound_nothing_is_proven_of_a_sample() -> None:
    assert per_sample(Certification(None, None, Refusal("a regression"), {}), 0.04) is None


def test_a_table_comes_back(tmp_path: Path) -> None:
    to_parquet(TABLE, tmp_path / "t")
    found = from_parquet(tmp_path / "t")
    np.testing.assert_array_equal(found.certified, TABLE.certified)
    np.testing.assert_array_equal(found.tried, TABLE.tried)
    np.testing.assert_array_equal(found.largest, TABLE.largest)


def test_samples_in_another_order_are_refused(tmp_path: Path) -> None:
    to_parquet(TABLE, tmp_path / "t")
    pq.write_table(pq.read_table(tmp_path / "t").take([1, 0, 2]), tmp_path / "t")
    with pytest.raises(
        InputRefusedError,
        match=r"certified samples must be a table .*samples are not counted from 0",
    ):
        from_parquet(tmp_path / "t")
