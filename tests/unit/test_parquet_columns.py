"""Columns made and read without pandas are those that pyarrow makes."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from cimrobust.parquet_file import column, numbers

VALUES = [
    (np.arange(11), pa.int64()),
    (np.linspace(-1, 1, 9), pa.float64()),
    (np.arange(19) % 3 == 0, pa.bool_()),
]


@pytest.mark.parametrize(("values", "kind"), VALUES)
def test_columns_are_those_of_pyarrow(values, kind):
    missing = np.arange(len(values)) % 4 == 1
    assert column(values).equals(pa.array(values, kind))
    assert column(values, missing=missing).equals(pa.array(values, kind, mask=missing))


def test_numbers_come_back():
    assert numbers(column(np.arange(5))).tolist() == [0, 1, 2, 3, 4]


def test_texts_and_nulls_are_no_numbers():
    for wrong in (pa.array(["a"]), pa.array([1, None])):
        with pytest.raises(TypeError, match="must hold numbers"):
            numbers(wrong)
