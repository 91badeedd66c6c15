"""A witness carried over to another box: the same fraction of every weight's own interval."""

from __future__ import annotations

import numpy as np
import pytest

from cimrobust.errors import InputRefusedError, UsageError
from cimrobust.mapping.box import box_of
from cimrobust.search.given_patterns import transferred_pattern
from cimrobust.search.witness import write_witness
from tests.unit.search.conftest import MLP, mlp_weights, samples


def test_corner_of_one_box_is_the_same_corner_of_the_other(opened, tmp_path):
    runtime, placement = opened(MLP, mlp_weights(), {"x": samples(20, 6)}, tolerance=0.02)
    box = box_of(placement)
    corner = box.random_corner(np.random.default_rng(0))
    write_witness(tmp_path, runtime, box, corner)
    _other, wider = opened(MLP, mlp_weights(3), {"x": samples(20, 6)}, tolerance=0.08)
    moved = transferred_pattern(tmp_path, wider)
    for name, tensor in wider.tensors.items():
        np.testing.assert_array_equal(moved[name], np.where(corner[name] > 0, tensor.hi, tensor.lo))
    box_of(wider).check(moved, origin="test")


def test_half_of_an_interval_stays_half(opened, tmp_path):
    runtime, placement = opened(MLP, mlp_weights(), {"x": samples(20, 6)})
    box = box_of(placement)
    write_witness(
        tmp_path,
        runtime,
        box,
        {name: (0.5 * array).astype(np.float32) for name, array in box.hi.items()},
    )
    moved = transferred_pattern(tmp_path, placement)
    for name in box.names:
        np.testing.assert_allclose(moved[name], 0.5 * box.hi[name], rtol=1e-6)


def test_other_layers_and_missing_files_are_named(opened, tmp_path):
    runtime, placement = opened(MLP, mlp_weights(), {"x": samples(20, 6)})
    with pytest.raises(
        InputRefusedError,
        match=(
            r"witness must be a readable file, got 'No such file or directory'"
            r" \(.*deviations.safetensors\)"
        ),
    ):
        transferred_pattern(tmp_path, placement)
    write_witness(tmp_path, runtime, box_of(placement), box_of(placement).zero())
    other = MLP.replace("[6, 12]", "[6, 13]").replace("[12]", "[13]").replace("[12, 4]", "[13, 4]")
    weights = {
        "w1": np.ones((6, 13), np.float32),
        "b1": np.ones(13, np.float32),
        "w2": np.ones((13, 4), np.float32),
    }
    _runtime, changed = opened(other, weights, {"x": samples(20, 6)})
    with pytest.raises(UsageError, match=r"got none of shape \(6, 13\) for 'w1'"):
        transferred_pattern(tmp_path, changed)
