"""Calibration samples are never evaluation samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cimrobust.data.calibration import CALIBRATION_SAMPLES, load_samples
from cimrobust.errors import UsageError
from cimrobust.onnx_io.network import TensorSpec

ROW = (TensorSpec("row", "float32", ("batch", 1)),)


def _write(path: Path, first: int, count: int) -> Path:
    np.savez(
        path, x=np.arange(first, first + count, dtype=np.float32)[:, None], y=np.zeros(count, int)
    )
    return path


def _numbers(dataset) -> set[float]:
    return set(dataset.inputs["row"].ravel().tolist())


@pytest.mark.parametrize(
    ("count", "limit", "apart", "evaluated"),
    [(40, None, 10, 30), (40, 5, 10, 5), (40, 35, 10, 30), (4000, None, CALIBRATION_SAMPLES, 3744)],
)
def test_without_other_data_the_end_is_set_apart(tmp_path, count, limit, apart, evaluated):
    data, calibration = load_samples(
        _write(tmp_path / "d.npz", 0, count), None, inputs=ROW, limit=limit, needs_calibration=True
    )
    assert (data.num_samples, calibration.num_samples) == (evaluated, apart)
    assert _numbers(calibration) == set(range(count - apart, count))
    assert not _numbers(data) & _numbers(calibration)


def test_the_training_file_is_used_where_there_is_one(tmp_path):
    _write(tmp_path / "d.npz", 0, 20)
    _write(tmp_path / "t.npz", 100, 400)
    (tmp_path / "d.toml").write_text('schema = 1\nfile = "d.npz"\ntrain_file = "t.npz"\n')
    data, calibration = load_samples(
        tmp_path / "d.toml", None, inputs=ROW, limit=None, needs_calibration=True
    )
    assert (data.num_samples, calibration.num_samples) == (20, CALIBRATION_SAMPLES)
    assert min(_numbers(calibration)) == 100


def test_given_calibration_data_are_used(tmp_path):
    given = str(_write(tmp_path / "c.npz", 50, 8))
    data, calibration = load_samples(
        _write(tmp_path / "d.npz", 0, 20), given, inputs=ROW, limit=None, needs_calibration=True
    )
    assert data.num_samples == 20
    assert _numbers(calibration) == set(range(50, 58))


def test_the_evaluated_file_cannot_calibrate(tmp_path):
    data = _write(tmp_path / "d.npz", 0, 20)
    (tmp_path / "copy.npz").write_bytes(data.read_bytes())
    with pytest.raises(
        UsageError,
        match=r"calibration data must not be evaluation data, got the same file, .*--calibration",
    ):
        load_samples(
            data, str(tmp_path / "copy.npz"), inputs=ROW, limit=None, needs_calibration=True
        )


def test_too_few_samples_to_divide(tmp_path):
    with pytest.raises(UsageError, match="at least 4 samples"):
        load_samples(
            _write(tmp_path / "d.npz", 0, 3), None, inputs=ROW, limit=None, needs_calibration=True
        )


def test_nothing_is_set_apart_without_converters(tmp_path):
    data, calibration = load_samples(
        _write(tmp_path / "d.npz", 0, 20), None, inputs=ROW, limit=None, needs_calibration=False
    )
    assert (data.num_samples, calibration) == (20, None)
