"""The kernel against its NumPy reference, bit for bit, and against the box."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cimrobust import _native
from cimrobust.device.load_profile import load_profile
from cimrobust.device.profile import DeviceProfile
from cimrobust.device.quantiles import HALF_SIZE, SEGMENT_BITS
from cimrobust.engine import kernel, reference
from cimrobust.mapping.place import place
from cimrobust.onnx_io.layers import CrossbarLayer, LayerScan


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
        quantiles=(
            tuple(sorted(draw(st.lists(st.floats(-0.1, 0.1), min_size=2, max_size=6))))
            if kind == "table"
            else ()
        ),
    )
    return dataclasses.replace(base, weight=weight, device=device)


def scan(shape: tuple[int, int], seed: int) -> LayerScan:
    values = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    values[np.random.default_rng(seed + 1).random(shape) < 0.1] = 0
    column = np.ascontiguousarray(np.broadcast_to(np.arange(shape[1], dtype=np.int32), shape))
    return LayerScan((CrossbarLayer("w", (), shape, 1, *shape, values, column),), ())


@settings(max_examples=60, deadline=None)
@given(
    profile=profiles(),
    rows=st.integers(0, 40),
    cols=st.integers(1, 20),
    seed=st.integers(0, 2**31),
    trial=st.integers(0, 2**40),
)
def test_every_instruction_set_equals_the_reference(profile, rows, cols, seed, trial):
    placement = place(scan((rows, cols), seed), profile)
    expected = reference.program_chip(placement, seed=seed, trial=trial)["w"].view(np.uint32)
    for level in _native.simd_levels():
        got = kernel.program_chip(placement, seed=seed, trial=trial, simd=level)["w"].view(
            np.uint32
        )
        np.testing.assert_array_equal(got, expected)


@settings(max_examples=30, deadline=None)
@given(profile=profiles(), num_scales=st.integers(1, 5), seed=st.integers(0, 2**31))
def test_integer_layers_with_several_scales_equal_the_reference(profile, num_scales, seed):
    shape = (11, 2 * num_scales)
    random = np.random.default_rng(seed)
    levels = random.integers(-127, 128, shape, dtype=np.int32)
    group = np.ascontiguousarray(
        np.broadcast_to(np.arange(shape[1], dtype=np.int32) % num_scales, shape)
    )
    values = (levels * random.uniform(0, 0.1, num_scales)[group]).astype(np.float32)
    placement = place(
        LayerScan((CrossbarLayer("w", (), shape, 1, *shape, values, group, levels, group),), ()),
        profile,
    )
    expected = reference.program_chip(placement, seed=seed, trial=1)["w"].view(np.uint32)
    np.testing.assert_array_equal(placement.tensors["w"].nominal, values)
    for level in _native.simd_levels():
        np.testing.assert_array_equal(
            kernel.program_chip(placement, seed=seed, trial=1, simd=level)["w"].view(np.uint32),
            expected,
        )


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
    np.testing.assert_array_equal(
        kernel.program_chip(placement, seed=1, trial=2)["w"], placement.tensors["w"].nominal
    )


def test_table_layout_is_that_of_the_kernel():
    assert (HALF_SIZE, SEGMENT_BITS) == (_native.TABLE_HALF_SIZE, _native.TABLE_SEGMENT_BITS)


def test_output_arrays_are_filled_in_place():
    placement = place(scan((30, 7), 3), load_profile("rram-write-verify-3pct"))
    out = {"w": np.zeros((30, 7), dtype=np.float32)}
    kernel.program_chip(placement, seed=1, trial=2, out=out)
    np.testing.assert_array_equal(out["w"], kernel.program_chip(placement, seed=1, trial=2)["w"])


@pytest.mark.parametrize(
    "target",
    [
        np.zeros((7, 30), np.float32).T,
        np.zeros((30, 14), np.float32)[:, ::2],
        np.zeros(210, np.float32),
        np.zeros((30, 7)),
        np.zeros(0, np.float32),
    ],
    ids=["transposed", "strided", "other shape", "float64", "empty"],
)
def test_output_arrays_that_cannot_be_filled_in_place_are_refused(target):
    placement = place(scan((30, 7), 3), load_profile("rram-write-verify-3pct"))
    with pytest.raises(
        ValueError, match="output array must be contiguous, writable float32 of shape \\(30, 7\\)"
    ):
        kernel.program_chip(placement, seed=1, trial=2, out={"w": target})


def test_read_only_output_arrays_are_refused():
    placement = place(scan((3, 2), 3), load_profile("rram-write-verify-3pct"))
    target = np.zeros((3, 2), np.float32)
    target.setflags(write=False)
    with pytest.raises(ValueError, match="writable"):
        kernel.program_chip(placement, seed=1, trial=2, out={"w": target})


def test_one_chip_stays_one_chip_on_any_thread_in_any_order_and_beside_any_layer():
    profile = load_profile("rram-write-verify-3pct")
    layers = [
        dataclasses.replace(scan((40, 9), number).layers[0], initializer=f"w{number}")
        for number in range(3)
    ]
    placement = place(LayerScan(tuple(layers), ()), profile)
    expected = [kernel.program_chip(placement, seed=5, trial=trial) for trial in range(8)]
    with ThreadPoolExecutor(4) as pool:
        again = list(
            pool.map(
                lambda trial: kernel.program_chip(placement, seed=5, trial=trial),
                reversed(range(8)),
            )
        )[::-1]
    alone = [
        kernel.program_chip(place(LayerScan((layers[2],), ()), profile), seed=5, trial=trial)
        for trial in range(8)
    ]
    for one, two, three in zip(expected, again, alone, strict=True):
        for name in one:
            np.testing.assert_array_equal(one[name], two[name])
        np.testing.assert_array_equal(one["w2"], three["w2"])
    assert not np.array_equal(expected[0]["w0"], expected[1]["w0"])


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"nominal": np.zeros(4)}, "incompatible function arguments"),
        ({"nominal": np.zeros((2, 2), dtype=np.float32)}, "nominal must have 1 axis"),
        ({"nominal": np.zeros(8, dtype=np.float32)[::2]}, "incompatible function arguments"),
        ({"group": np.array([0, 0, 0, 1], dtype=np.int32)}, "group must index 1 scales, got 1"),
        ({"group": np.array([0], dtype=np.int32)}, "group must have 4 values, got 1"),
        (
            {
                "scale": np.zeros(0, dtype=np.float32),
                "lo": np.zeros(0, dtype=np.float32),
                "hi": np.zeros(0, dtype=np.float32),
            },
            "at least 1",
        ),
        (
            {key: np.ones(2, dtype=np.float32) for key in ("scale", "lo", "hi")},
            "group must have 4 values, got 0",
        ),
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
        "nominal": np.zeros(4, dtype=np.float32),
        "group": np.empty(0, dtype=np.int32),
        "scale": one,
        "lo": -one,
        "hi": one,
        "knots": np.zeros(size, dtype=np.float32),
        "slopes": np.zeros(size, dtype=np.float32),
        "out": np.zeros(4, dtype=np.float32),
        "num_slices": 4,
        "simd": "best",
    }
    with pytest.raises((ValueError, TypeError), match=text):
        _native.program_weights(
            **{**arrays, **change},
            key=1,
            trial=0,
            bits_per_device=2,
            is_pair=False,
            mirrors_negative=True,
            clamps=True,
        )


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"values": np.zeros(4)}, "incompatible function arguments"),
        ({"values": np.zeros((2, 2), dtype=np.float32)}, "values must have 1 axis"),
        ({"nominal": np.zeros(3, dtype=np.float32)}, "nominal must have 4 values, got 3"),
        ({"scale": np.ones(2)}, "group must have 4 values, got 0"),
        ({"group": np.full(4, -1, dtype=np.int32)}, "group must index 1 scales, got -1"),
        ({"max_level": 0}, "max_level must be at least 1"),
    ],
)
def test_quantise_refuses_wrong_arrays(change, text):
    arrays = {
        "values": np.zeros(4, dtype=np.float32),
        "group": np.empty(0, dtype=np.int32),
        "scale": np.ones(1),
        "max_level": 3,
        "nominal": np.zeros(4, dtype=np.float32),
    }
    with pytest.raises((ValueError, TypeError), match=text):
        _native.quantise(**{**arrays, **change})


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"lo": np.zeros(3, dtype=np.float32)}, "lo must have 4 values, got 3"),
        ({"hi": np.zeros(4)}, "incompatible function arguments"),
        ({"group_hi": np.zeros(2, dtype=np.float32)}, "group_hi must have 1 values, got 2"),
        ({"group": np.full(4, 1, dtype=np.int32)}, "group must index 1 scales, got 1"),
    ],
)
def test_emit_box_refuses_wrong_arrays(change, text):
    one = np.ones(1, dtype=np.float32)
    arrays = {
        "nominal": np.zeros(4, dtype=np.float32),
        "group": np.empty(0, dtype=np.int32),
        "group_lo": -one,
        "group_hi": one,
        "mirrors_negative": True,
        "lo": np.zeros(4, dtype=np.float32),
        "hi": np.zeros(4, dtype=np.float32),
    }
    with pytest.raises((ValueError, TypeError), match=text):
        _native.emit_box(**{**arrays, **change})
