"""The kernel against its NumPy reference, bit for bit, and against the box."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cimrobust import _native
from cimrobust.device.load import load_profile
from cimrobust.device.profile import DeviceProfile
from cimrobust.engine import kernel, reference
from cimrobust.graph.layers import CrossbarLayer, LayerScan
from cimrobust.mapping.place import place
from cimrobust.mapping.quantiles import HALF_SIZE, SEGMENT_BITS


@st.composite
def profiles(draw: st.DrawFn) -> DeviceProfile:
    base = load_profile("rram-write-verify-3pct")
    weight = dataclasses.replace(
        base.weight,
        bits=draw(st.integers(1, 12)),
        scale=draw(st.sampled_from(["tensor", "column"])),
        mapping=draw(st.sampled_from(["sign_magnitude", "differential", "offset"])),
    )
    kind = draw(st.sampled_from(["truncated_gaussian", "uniform", "gaussian", "table"]))
    device = dataclasses.replace(
        base.device,
        bits=draw(st.integers(1, 8)),
        distribution=kind,
        tolerance=draw(st.floats(0, 0.2)) if kind in ("truncated_gaussian", "uniform") else None,
        sigma=draw(st.floats(0, 0.1)),
        quantiles=tuple(sorted(draw(st.lists(st.floats(-0.1, 0.1), min_size=2, max_size=6)))) if kind == "table" else (),
    )
    return dataclasses.replace(base, weight=weight, device=device)


def scan(shape: tuple[int, int], seed: int) -> LayerScan:
    values = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    values[np.random.default_rng(seed + 1).random(shape) < 0.1] = 0
    column = np.ascontiguousarray(np.broadcast_to(np.arange(shape[1], dtype=np.int32), shape))
    return LayerScan((CrossbarLayer("w", (), shape, 1, *shape, values, column),), ())


@settings(max_examples=60, deadline=None)
@given(profile=profiles(), rows=st.integers(0, 40), cols=st.integers(1, 20), seed=st.integers(0, 2**31), trial=st.integers(0, 2**40))
def test_every_instruction_set_equals_the_reference(profile, rows, cols, seed, trial):
    placement = place(scan((rows, cols), seed), profile)
    expected = reference.program_chip(placement, seed=seed, trial=trial)["w"].view(np.uint32)
    for level in _native.simd_levels():
        got = kernel.program_chip(placement, seed=seed, trial=trial, simd=level)["w"].view(np.uint32)
        np.testing.assert_array_equal(got, expected)


@settings(max_examples=60, deadline=None)
@given(profile=profiles(), seed=st.integers(0, 2**31))
def test_write_verified_chips_stay_in_the_box(profile, seed):
    placement = place(scan((16, 8), seed), profile)
    tensor = placement.tensors["w"]
    if profile.device.distribution == "gaussian":
        return
    for trial in range(3):
        chip = kernel.program_chip(placement, seed=seed, trial=trial)["w"]
        assert (chip >= tensor.nominal + tensor.lo).all()
        assert (chip <= tensor.nominal + tensor.hi).all()


def test_no_tolerance_gives_exactly_the_quantised_weights():
    base = load_profile("rram-write-verify-3pct")
    profile = dataclasses.replace(base, device=dataclasses.replace(base.device, tolerance=0.0))
    placement = place(scan((30, 7), 3), profile)
    np.testing.assert_array_equal(kernel.program_chip(placement, seed=1, trial=2)["w"], placement.tensors["w"].nominal)


def test_table_layout_is_that_of_the_kernel():
    assert (HALF_SIZE, SEGMENT_BITS) == (_native.TABLE_HALF_SIZE, _native.TABLE_SEGMENT_BITS)


def test_output_arrays_are_filled_in_place():
    placement = place(scan((30, 7), 3), load_profile("rram-write-verify-3pct"))
    out = {"w": np.zeros((30, 7), dtype=np.float32)}
    kernel.program_chip(placement, seed=1, trial=2, out=out)
    np.testing.assert_array_equal(out["w"], kernel.program_chip(placement, seed=1, trial=2)["w"])


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"nominal": np.zeros(4)}, "incompatible function arguments"),
        ({"nominal": np.zeros((2, 2), dtype=np.float32)}, "nominal must have 1 axis"),
        ({"nominal": np.zeros(8, dtype=np.float32)[::2]}, "incompatible function arguments"),
        ({"group": np.array([0, 0, 0, 1], dtype=np.int32)}, "group must index 1 scales, got 1"),
        ({"group": np.array([0], dtype=np.int32)}, "group must have 4 values, got 1"),
        ({"scale": np.zeros(0, dtype=np.float32), "lo": np.zeros(0, dtype=np.float32), "hi": np.zeros(0, dtype=np.float32)}, "at least 1"),
        ({"knots": np.zeros(3, dtype=np.float32)}, "knots must have"),
        ({"out": np.zeros(5, dtype=np.float32)}, "out must have 4 values, got 5"),
        ({"num_slices": 0}, "must be in 1..31"),
        ({"simd": "mmx"}, "got 'mmx'"),
    ],
)
def test_wrong_arrays_get_an_error_never_a_crash(change, text):
    size = 2 * _native.TABLE_HALF_SIZE
    one = np.ones(1, dtype=np.float32)
    arrays = {
        "nominal": np.zeros(4, dtype=np.float32), "group": np.empty(0, dtype=np.int32), "scale": one, "lo": -one, "hi": one,
        "knots": np.zeros(size, dtype=np.float32), "slopes": np.zeros(size, dtype=np.float32),
        "out": np.zeros(4, dtype=np.float32), "num_slices": 4, "simd": "best",
    }  # fmt: skip
    with pytest.raises((ValueError, TypeError), match=text):
        _native.program_weights(
            **{**arrays, **change}, key=1, trial=0, bits_per_device=2, is_pair=False, mirrors_negative=True, clamps=True
        )
