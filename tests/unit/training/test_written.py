"""The check of a written file: roundings pass, anything else does not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch

from cimrobust.errors import SelfCheckError
from cimrobust.mapping.place import place_layer
from cimrobust.onnx_io.layers import CrossbarLayer
from cimrobust.training.weights_on_devices import LayerDevices
from cimrobust.training.written import check_written
from tests.unit.training.conftest import profile_of


def layer(values: np.ndarray) -> CrossbarLayer:
    column = np.broadcast_to(np.arange(values.shape[1], dtype=np.int32), values.shape)
    return CrossbarLayer(
        "w", (), values.shape, 1, *values.shape, values, np.ascontiguousarray(column)
    )


def trained(values: np.ndarray) -> np.ndarray:
    return (
        LayerDevices(layer(values), profile_of(), None)
        .program(torch.from_numpy(values))
        .nominal.numpy()
    )


def test_a_weight_between_two_levels_may_be_on_either(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(2000, 200)).astype(np.float32)
    nominal, written = trained(values), place_layer(layer(values), profile_of())
    # float32 and float64 do not round all of so many weights alike; nothing of it may end a
    # training.
    assert np.abs(nominal - written.nominal).max() > 0.5 * written.scale[0]
    check_written(values, nominal, written, values.dtype.name, tmp_path)


@pytest.mark.parametrize("kind", [np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("seed", range(4))
def test_half_precision_may_move_the_largest_weight_and_with_it_the_scale(
    tmp_path: Path, kind: type, seed: int
) -> None:
    values = np.random.default_rng(seed).normal(size=(60, 20)).astype(np.float32)
    written = place_layer(layer(values.astype(kind).astype(np.float32)), profile_of())
    check_written(values, trained(values), written, np.dtype(kind).name, tmp_path)


@pytest.mark.parametrize("kind", [np.float32, np.float16])
def test_another_level_is_an_error(tmp_path: Path, kind: type) -> None:
    values = np.random.default_rng(0).normal(size=(60, 20)).astype(np.float32)
    nominal, written = trained(values), place_layer(layer(values), profile_of())
    moved = written.nominal.copy()
    level = np.abs(values) / written.scale[0]
    moved.flat[int(np.argmin(np.abs(level - np.round(level))))] += 1.5 * written.scale[0]
    with pytest.raises(
        SelfCheckError, match=r"must hold what was trained, got a difference of .* in 'w'"
    ):
        check_written(
            values, nominal, replace(written, stored=moved), np.dtype(kind).name, tmp_path
        )
