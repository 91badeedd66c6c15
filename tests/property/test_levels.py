"""Devices whose level matters: kernel against the NumPy reference, bit for bit, boxes, and levels
folded back into weights.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cimrobust import _native
from cimrobust.device.core_tables import DeviceTable, WeightTable
from cimrobust.device.curve import Curve
from cimrobust.device.effect_tables import DriftTable, FaultsTable, RelaxationTable
from cimrobust.device.intervals import level_bounds
from cimrobust.device.load_profile import load_profile
from cimrobust.device.profile import DeviceProfile
from cimrobust.device.quantiles import HALF_SIZE
from cimrobust.device.window import WindowTable
from cimrobust.engine import kernel, reference
from cimrobust.mapping.device_levels import fold_levels, spread_deviation, target_levels
from cimrobust.mapping.place import place
from cimrobust.onnx_io.layers import CrossbarLayer, LayerScan

SIGMA = Curve(
    "polynomial", (0.26348, 1.9650, -1.1731), unit="microsiemens", reference_g_max_microsiemens=25.0
)
RISING = Curve("points", x=(0.0, 1.0), y=(0.01, 0.08))
EXPONENT = Curve("logarithmic", (-0.0155, 0.0244), unit="number", clip=(0.049, 0.1))


@st.composite
def drifts(draw: st.DrawFn) -> DriftTable:
    common = {"time_seconds": draw(st.sampled_from([0.0, 20.0, 3600.0, 1e7])), "t0_seconds": 20.0}
    common["compensation"] = draw(st.sampled_from(["none", "global"]))
    if draw(st.booleans()):
        return DriftTable(
            exponent_mean=draw(st.sampled_from([0.0, 0.06, EXPONENT])),
            exponent_sd=draw(st.sampled_from([0.0, 0.02])),
            **common,
        )
    mean, sd = draw(st.sampled_from([0.0, 0.01])), draw(st.sampled_from([0.0, 0.01, RISING]))
    return DriftTable(
        model="shift",
        mean_per_log_second=draw(st.sampled_from([0.0, -1e-3])),
        mean=mean,
        sd=sd,
        **common,
    )


@st.composite
def profiles(draw: st.DrawFn) -> DeviceProfile:
    kind = draw(st.sampled_from(["truncated_gaussian", "uniform", "gaussian", "table"]))
    wide = draw(st.sampled_from([0.0, 0.03, RISING]))
    sides = (
        {"tolerance_low": wide, "tolerance_high": draw(st.sampled_from([0.0, 0.05, RISING]))}
        if draw(st.booleans())
        else {"tolerance": wide}
    )
    spread = {"gaussian": {}, "table": {"quantiles": (-0.02, 0.0, 0.01, 0.04)}}.get(kind, sides)
    weight = WeightTable(
        draw(st.integers(1, 12)),
        draw(st.sampled_from(["tensor", "column"])),
        draw(st.sampled_from(["sign_magnitude", "differential", "offset"])),
    )
    return DeviceProfile(
        "random",
        "random",
        weight=weight,
        device=DeviceTable(
            bits=draw(st.integers(1, 4)),
            distribution=kind,
            sigma=draw(st.sampled_from([0.0, 0.01, SIGMA])),
            **spread,
        ),
        window=WindowTable(draw(st.sampled_from([0.0, 1.0])), 25.0, draw(st.booleans())),
        faults=draw(
            st.none()
            | st.builds(FaultsTable, st.sampled_from([0.0, 0.1]), st.sampled_from([0.0, 0.3]))
        ),
        relaxation=draw(
            st.none() | st.builds(RelaxationTable, st.sampled_from([0.0, 0.005, SIGMA]))
        ),
        drift=draw(st.none() | drifts()),
    )


def layer(seed: int, shape: tuple[int, int], *, integers: bool = False) -> CrossbarLayer:
    random = np.random.default_rng(seed)
    column = np.ascontiguousarray(np.broadcast_to(np.arange(shape[1], dtype=np.int32), shape))
    if integers:
        levels = random.integers(-127, 128, shape, dtype=np.int32)
        group = np.ascontiguousarray(column % 2)
        values = (levels * random.uniform(0, 0.1, 2)[group]).astype(np.float32)
        return CrossbarLayer("w", (), shape, 1, *shape, values, column, levels, group)
    values = random.standard_normal(shape).astype(np.float32)
    values[random.random(shape) < 0.1] = 0
    return CrossbarLayer("w", (), shape, 1, *shape, values, column)


def placed(
    profile: DeviceProfile,
    seed: int = 0,
    shape: tuple[int, int] = (17, 6),
    *,
    integers: bool = False,
):
    return place(LayerScan((layer(seed, shape, integers=integers),), ()), profile)


@settings(max_examples=60, deadline=None)
@given(
    profile=profiles(),
    rows=st.integers(0, 20),
    seed=st.integers(0, 2**31),
    trial=st.integers(0, 2**40),
    integers=st.booleans(),
)
def test_every_instruction_set_equals_the_reference(profile, rows, seed, trial, integers):
    placement = placed(profile, seed, (rows, 7), integers=integers)
    weights, devices = (
        reference.program_chip(placement, seed=seed, trial=trial)["w"],
        reference.program_devices(placement, seed=seed, trial=trial)["w"],
    )
    for level in _native.simd_levels():
        got = kernel.program_chip(placement, seed=seed, trial=trial, simd=level)["w"]
        np.testing.assert_array_equal(got.view(np.uint32), weights.view(np.uint32))
        drawn = kernel.program_devices(placement, seed=seed, trial=trial, simd=level)["w"]
        np.testing.assert_array_equal(drawn.view(np.uint32), devices.view(np.uint32))


@settings(max_examples=60, deadline=None)
@given(profile=profiles(), seed=st.integers(0, 2**31), integers=st.booleans())
def test_levels_of_a_chip_fold_into_its_weights(profile, seed, integers):
    placement = placed(profile, seed, integers=integers)
    tensor = placement.tensors["w"]
    folded = fold_levels(tensor, kernel.program_devices(placement, seed=seed, trial=3)["w"])
    np.testing.assert_allclose(
        folded,
        kernel.program_chip(placement, seed=seed, trial=3)["w"],
        atol=close(tensor, profile),
        rtol=1e-6,
    )


@settings(max_examples=60, deadline=None)
@given(profile=profiles(), seed=st.integers(0, 2**31), integers=st.booleans())
def test_bounded_devices_and_weights_stay_in_their_intervals(profile, seed, integers):
    profile = profile.with_effects(faults=False)
    placement = placed(profile, seed, integers=integers)
    tensor = placement.tensors["w"]
    assert (tensor.lo <= 0).all()
    assert (tensor.hi >= 0).all()
    if not profile.is_bounded:
        return
    low, high = level_bounds(profile, compensation=tensor.drift_factor)
    digits, targets = reference.target_digits(tensor)
    for trial in range(2):
        deviation = (
            kernel.program_devices(placement, seed=seed, trial=trial)["w"].astype(np.float64)
            - targets
        )
        slack = 1e-6 * 2**profile.device.bits  # float32 rounding of a level
        assert (deviation >= low[digits] - slack).all()
        assert (deviation <= high[digits] + slack).all()
        chip = kernel.program_chip(placement, seed=seed, trial=trial)["w"]
        assert (chip >= tensor.nominal + tensor.lo).all()
        assert (chip <= tensor.nominal + tensor.hi).all()


@settings(max_examples=60, deadline=None)
@given(profile=profiles(), seed=st.integers(0, 2**31), integers=st.booleans())
def test_boxes_add_up_the_intervals_of_the_devices(profile, seed, integers):
    tensor = placed(profile, seed, integers=integers).tensors["w"]
    low, high = (
        bound[reference.target_digits(tensor)[0]]
        for bound in level_bounds(profile, compensation=tensor.drift_factor)
    )
    factors = 2.0 ** (profile.device.bits * np.arange(tensor.num_slices))[:, None]
    lo, hi = (
        (factors * low[: tensor.num_slices]).sum(axis=0),
        (factors * high[: tensor.num_slices]).sum(axis=0),
    )
    if profile.weight.mapping == "differential":
        lo, hi = (
            lo - (factors * high[tensor.num_slices :]).sum(axis=0),
            hi - (factors * low[tensor.num_slices :]).sum(axis=0),
        )
    if profile.weight.mapping == "sign_magnitude":
        negative = np.signbit(tensor.nominal.ravel())
        lo, hi = np.where(negative, -hi, lo), np.where(negative, -lo, hi)
    group = (
        np.zeros(tensor.nominal.size, dtype=int)
        if tensor.scale_group is None
        else tensor.scale_group.ravel()
    )
    np.testing.assert_allclose(tensor.lo.ravel(), tensor.scale[group] * lo, rtol=3e-7, atol=1e-12)
    np.testing.assert_allclose(tensor.hi.ravel(), tensor.scale[group] * hi, rtol=3e-7, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(profile=profiles(), seed=st.integers(0, 2**31), integers=st.booleans())
def test_spread_deviations_fold_back_and_stay_in_every_interval(profile, seed, integers):
    tensor = placed(profile, seed, integers=integers).tensors["w"]
    fraction = np.random.default_rng(seed).uniform(0, 1, tensor.shape)
    fraction[0] = 1.0
    deviation = np.where(
        np.random.default_rng(seed + 1).random(tensor.shape) < 0.5,
        fraction * tensor.lo,
        fraction * tensor.hi,
    ).astype(np.float32)
    levels = spread_deviation(tensor, deviation)
    np.testing.assert_allclose(
        fold_levels(tensor, levels),
        tensor.nominal + deviation,
        atol=close(tensor, profile),
        rtol=1e-6,
    )
    low, high = level_bounds(profile, compensation=tensor.drift_factor)
    digits, targets = reference.target_digits(tensor)
    slack = 1e-6 * 2**profile.device.bits
    assert (levels - targets >= low[digits] - slack).all()
    assert (levels - targets <= high[digits] + slack).all()


@settings(max_examples=30, deadline=None)
@given(profile=profiles(), seed=st.integers(0, 2**31), integers=st.booleans())
def test_targets_are_those_of_the_reference_and_fold_into_the_nominal_weights(
    profile, seed, integers
):
    tensor = placed(profile, seed, integers=integers).tensors["w"]
    targets = target_levels(tensor)
    np.testing.assert_array_equal(targets, reference.target_digits(tensor)[1])
    np.testing.assert_allclose(
        fold_levels(tensor, targets), tensor.nominal, atol=close(tensor, profile), rtol=1e-6
    )


@settings(max_examples=30, deadline=None)
@given(profile=profiles(), seed=st.integers(0, 2**31), integers=st.booleans())
def test_a_device_without_any_effect_is_at_its_target(profile, seed, integers):
    exact = profile.with_effects(programming=False, faults=False, drift=False, relaxation=False)
    for profile in (
        exact,
        dataclasses.replace(
            exact,
            faults=FaultsTable(),
            relaxation=RelaxationTable(0.0),
            drift=DriftTable(0.0, exponent_mean=0.1),
        ),
    ):
        placement = placed(profile, seed, integers=integers)
        tensor = placement.tensors["w"]
        np.testing.assert_array_equal(
            kernel.program_chip(placement, seed=seed, trial=0)["w"], tensor.nominal
        )
        np.testing.assert_array_equal(
            kernel.program_devices(placement, seed=seed, trial=0)["w"], target_levels(tensor)
        )
        assert tensor.box_radius == 0.0


def test_faults_leave_the_words_of_the_other_devices_alone():
    base = load_profile("rram-write-verify-3pct")
    faulty = dataclasses.replace(base, faults=FaultsTable(0.1, 0.1))
    without, with_faults = (
        kernel.program_devices(placed(profile), seed=1, trial=2)["w"] for profile in (base, faulty)
    )
    stuck = without != with_faults
    assert 0 < stuck.mean() < 0.3
    assert set(with_faults[stuck]) <= {0.0, 3.0}


def test_one_table_a_level_gives_the_chips_of_one_table_for_all():
    base = load_profile("rram-differential-3pct")
    same = dataclasses.replace(
        base, device=dataclasses.replace(base.device, sigma=Curve("polynomial", (0.01,)))
    )
    assert same.depends_on_level
    one, other = (
        kernel.program_chip(placed(profile), seed=1, trial=2)["w"] for profile in (base, same)
    )
    np.testing.assert_array_equal(one, other)


def test_one_chip_stays_one_chip_beside_any_layer():
    profile = dataclasses.replace(
        load_profile("rram-write-verify-3pct"),
        faults=FaultsTable(0.05, 0.05),
        relaxation=RelaxationTable(SIGMA),
        window=WindowTable(0, 25),
    )
    layers = [
        dataclasses.replace(layer(number, (40, 9)), initializer=f"w{number}") for number in range(3)
    ]
    chip = kernel.program_devices(place(LayerScan(tuple(layers), ()), profile), seed=5, trial=9)
    for single in reversed(layers):
        alone = kernel.program_devices(place(LayerScan((single,), ()), profile), seed=5, trial=9)[
            single.initializer
        ]
        np.testing.assert_array_equal(alone, chip[single.initializer])


def test_output_arrays_of_devices_are_filled_in_place():
    placement = placed(load_profile("rram-write-verify-3pct"))
    out = {"w": np.zeros((4, 102), dtype=np.float32)}
    assert kernel.program_devices(placement, seed=1, trial=2, out=out)["w"] is out["w"]
    np.testing.assert_array_equal(out["w"], kernel.program_devices(placement, seed=1, trial=2)["w"])
    with pytest.raises(ValueError, match="output array must be contiguous"):
        kernel.program_devices(
            placement, seed=1, trial=2, out={"w": np.zeros((102, 4), np.float32)}
        )


def close(tensor, profile) -> float:
    """Float32 rounding of a few sums of levels up to the largest that the slices hold."""
    return (
        1e-6
        * float(tensor.scale.max(initial=0.0))
        * 2.0 ** (profile.device.bits * tensor.num_slices)
    )


CODING = {
    "num_slices": 4,
    "bits_per_device": 2,
    "is_pair": False,
    "mirrors_negative": True,
    "max_level": 255,
    "level_offset": 0,
    "has_remainder": False,
}


@pytest.mark.parametrize(
    ("change", "coding", "text"),
    [
        (
            {"knots": np.zeros(2 * HALF_SIZE * 3, dtype=np.float32)},
            {},
            "knots must have 16392 values, got 12294",
        ),
        (
            {"slopes": np.zeros(2 * HALF_SIZE * 4, dtype=np.float32)},
            {},
            "slopes must have 4098 values",
        ),
        ({"lo": np.zeros(3, dtype=np.float32)}, {}, "lo must have 4 values, got 3"),
        ({"out": np.zeros(3, dtype=np.float32)}, {}, "out must have 4 values, got 3"),
        ({"devices": np.zeros(15, dtype=np.float32)}, {}, "devices must have 16 values, got 15"),
        ({"group": np.full(4, 1, dtype=np.int32)}, {}, "group must index 1 scales, got 1"),
        ({"nominal": np.zeros(4)}, {}, "incompatible function arguments"),
        ({"simd": "mmx"}, {}, "simd must be 'best'"),
        ({}, {"num_slices": 16}, "num_slices \\* bits_per_device must be in 1..31"),
        ({}, {"max_level": 256}, "max_level must be in 1..2\\^24 - 1 and fit its slices, got 256"),
        (
            {},
            {"level_offset": 256, "num_slices": 5},
            "level_offset must exceed max_level and is for neither",
        ),
    ],
)
def test_program_levels_refuses_wrong_arrays(change, coding, text):
    four, table = np.zeros(4, dtype=np.float32), np.zeros(2 * HALF_SIZE, dtype=np.float32)
    arrays = {
        "nominal": four,
        "group": np.empty(0, dtype=np.int32),
        "scale": np.ones(1, dtype=np.float32),
        "lo": four,
        "hi": four,
        "knots": table,
        "slopes": table,
        "out": four.copy(),
        "devices": np.zeros(16, dtype=np.float32),
        "simd": "best",
    }
    faults = _native.Faults(key=0, low_below=0, high_above=0, high_level=3.0)
    with pytest.raises((ValueError, TypeError), match=text):
        _native.program_levels(
            **{**arrays, **change},
            coding=_native.LevelCoding(**{**CODING, **coding}),
            faults=faults,
            key=1,
            trial=0,
            clamps=True,
        )


def test_boxes_and_levels_refuse_wrong_arrays():
    four, none, bounds = np.zeros(4, dtype=np.float32), np.empty(0, dtype=np.int32), np.zeros(4)
    coding = _native.LevelCoding(**CODING)
    with pytest.raises(ValueError, match="level_lo must have 4 values, got 3"):
        _native.emit_level_box(
            four, none, np.ones(1), bounds[:3], bounds, four.copy(), four.copy(), coding=coding
        )
    with pytest.raises(ValueError, match="levels must have 16 values, got 4"):
        _native.emit_levels(four, none, np.ones(1, dtype=np.float32), four.copy(), coding=coding)
