"""Samples that stand in the evaluation data more than once are named."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cimrobust.data.copied_samples import num_distinct
from cimrobust.data.dataset import DataSet, DataSource
from cimrobust.data.decision import Decision
from cimrobust.data.findings import check_clean
from cimrobust.data.fitted_task import make_task

_SAMPLES = np.random.default_rng(0).normal(size=(60, 3, 200)).astype(np.float32)


def _data(inputs: dict[str, np.ndarray]) -> DataSet:
    count = len(next(iter(inputs.values())))
    return DataSet(inputs, {}, np.arange(count) % 3, Decision(), DataSource("d", {}, {}, count))


def _warnings(data: DataSet) -> tuple[str, ...]:
    output = np.random.default_rng(1).normal(size=(data.num_samples, 3))
    found = check_clean(make_task(data, output), data, output)
    return tuple(text for text in found if "copies" in text)


@pytest.mark.parametrize(("copies", "is_named"), [(0, False), (9, False), (10, True), (59, True)])
def test_many_copies_are_named(copies: int, is_named: bool) -> None:
    x = _SAMPLES.copy()
    x[:copies] = x[59]
    found = _warnings(_data({"x": x}))
    assert found == () or is_named
    if is_named:
        assert f"{copies} of 60 samples are copies of others." in found[0]


def test_samples_that_differ_in_one_number_are_no_copies() -> None:
    x = np.zeros((60, 1000), np.float32)
    x[:, 997] = np.arange(60)
    assert num_distinct([x], enough=60) == 60
    assert _warnings(_data({"x": x})) == ()


def test_samples_that_differ_in_one_of_two_inputs_are_no_copies() -> None:
    data = _data({"x": np.zeros((60, 4), np.float32), "ids": np.arange(60)[:, None]})
    assert _warnings(data) == ()
    same = replace(data, inputs={**data.inputs, "ids": np.zeros((60, 1), np.int64)})
    assert "59 of 60 samples are copies" in _warnings(same)[0]
