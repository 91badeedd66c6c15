"""Arguments of the kernel whose products overflow are refused by name, never used."""

from __future__ import annotations

import numpy as np
import pytest

from cimrobust import _native

HALF = _native.TABLE_HALF_SIZE


def full(size: int, value: float = 0.0) -> np.ndarray:
    return np.full(size, value, np.float32)


def program(num_slices: int, bits: int) -> np.ndarray:
    out = full(4)
    _native.program_weights(
        full(4, 0.1),
        np.zeros(4, np.int32),
        full(1, 0.004),
        full(1, -0.01),
        full(1, 0.01),
        full(2 * HALF),
        full(2 * HALF),
        key=1,
        trial=0,
        num_slices=num_slices,
        bits_per_device=bits,
        is_pair=False,
        mirrors_negative=True,
        clamps=True,
        out=out,
    )
    return out


WRONG = [
    (65536, 65536),
    (2**31 - 1, 2**31 - 1),
    (2**31 - 1, 2),
    (2, 2**31 - 1),
    (-1, -1),
    (-65536, -65536),
    (0, 1),
    (1, 0),
    (32, 1),
    (1, 32),
    (16, 2),
]


@pytest.mark.parametrize(("num_slices", "bits"), WRONG)
def test_slices_that_do_not_fit_31_bits(num_slices, bits):
    with pytest.raises(ValueError, match=r"num_slices \* bits_per_device must be in 1..31"):
        program(num_slices, bits)


@pytest.mark.parametrize(("num_slices", "bits"), [(1, 31), (31, 1), (4, 2)])
def test_slices_that_fit(num_slices, bits):
    np.testing.assert_array_equal(program(num_slices, bits), full(4, 0.1))


@pytest.mark.parametrize(("num_slices", "bits"), [*WRONG, (1, 9)])
def test_level_codings_that_do_not_fit(num_slices, bits):
    coding = _native.LevelCoding(
        num_slices=num_slices,
        bits_per_device=bits,
        is_pair=False,
        mirrors_negative=True,
        max_level=1,
        level_offset=0,
        has_remainder=False,
    )
    with pytest.raises(ValueError, match=r"num_slices \* bits_per_device must be in 1..31"):
        _native.emit_levels(full(4), np.zeros(4, np.int32), full(1, 1.0), full(4), coding=coding)


def array(**changes):
    shape = {
        "groups": 1,
        "rows": 1,
        "cols": 1,
        "tile_rows": 1,
        "strides": (1, 1, 1),
        "columns_on": "rows",
    } | changes
    return _native.CrossbarArray([full(1)], [], **shape)


@pytest.mark.parametrize(
    "changes",
    [
        {"groups": 2**63},
        {"rows": 2**32, "cols": 2**32},
        {"groups": 2**31, "rows": 2**31, "cols": 2**31},
        {"rows": 0},
        {"tile_rows": 0},
        {"rows": 2, "strides": (1, 2**63, 1)},
        {"rows": 2**31, "strides": (1, 2**33, 1)},
        {"rows": 2},
    ],
)
def test_arrays_whose_size_overflows(changes):
    with pytest.raises(ValueError, match="must"):
        array(**changes)


CONV = {
    "batch": 1,
    "channels": 1,
    "in_size": (1, 1, 1),
    "out_size": (1, 1, 1),
    "kernel": (1, 1, 1),
    "stride": (1, 1, 1),
    "dilation": (1, 1, 1),
    "pad": (0, 0, 0),
    "inverse_scale": None,
    "zero_point": 0.0,
    "levels": (0.0, 0.0),
    "num_passes": 1,
    "bits_per_pass": 0,
    "codes": (0.0, 0.0),
    "input_sum_gain": 0.0,
    "noise_key": 0,
    "first_vector": 0,
}


@pytest.mark.parametrize(
    "changes",
    [
        {"batch": 2**62},
        {"in_size": (2**31, 2**31, 2**31)},
        {"out_size": (2**31, 2**31, 2**31)},
        {"stride": (2**31, 1, 1), "out_size": (2**31, 1, 1)},
        {"pad": (-(2**63), 0, 0)},
        {"pad": (2**63 - 1, 0, 0)},
        {"kernel": (2**31, 2**31, 4)},
        {"dilation": (2**63, 1, 1)},
        {"num_passes": -1},
        {"num_passes": 2**31 - 1},
        {"bits_per_pass": -(2**31)},
        {"threads": 2**31 - 1},
        {"threads": 0},
        {"channels": 2**63},
    ],
)
def test_convolutions_whose_size_overflows(changes):
    arrays = {
        "gain": full(1),
        "inverse_step": full(0),
        "column_scale": full(1),
        "bias": full(1),
        "knots": full(0),
        "slopes": full(0),
    }
    with pytest.raises(ValueError, match="must"):
        array().conv(full(1), full(1), **(CONV | arrays | changes))


def test_the_smallest_convolution_is_accepted():
    arrays = {
        "gain": full(1),
        "inverse_step": full(0),
        "column_scale": full(1),
        "bias": full(1, 2.0),
        "knots": full(0),
        "slopes": full(0),
    }
    out = full(1)
    array().conv(full(1), out, **(CONV | arrays))
    assert out.tolist() == [2.0]


def test_deviations_beyond_memory_are_refused():
    with pytest.raises(ValueError, match="num_weights at most 2\\^28"):
        _native.draw_deviations(2**63, 64, full(2 * HALF), full(2 * HALF), key=0, trial=0)
