"""Profiles with state-dependent numbers, faults, relaxation, drift and read noise: what files may
state, and what follows.
"""

from __future__ import annotations

import numpy as np
import pytest

from cimrobust.device.converter_tables import AdcTable, DacTable
from cimrobust.device.curve import Curve
from cimrobust.device.distribution import excluded_probability
from cimrobust.device.intervals import largest_programming_error, level_bounds, tolerance_fraction
from cimrobust.device.load_profile import load_profile
from cimrobust.device.profile_changes import with_tolerance
from cimrobust.errors import UsageError

FULL = """
schema = 1
name = "everything"
[weight]
mapping = "differential"
[window]
g_min_microsiemens = 1.0
g_max_microsiemens = 25.0
clips = true
[device]
bits = 4
tolerance_low = 0.03
tolerance_high = { form = "points", x = [0.04, 1.0], y = [0.02, 0.05] }
sigma = { form = "polynomial", coefficients = [0.26348, 1.9650, -1.1731], unit = "microsiemens", reference_g_max_microsiemens = 25.0 }
[faults]
stuck_low = 0.001
stuck_high = 0.002
[relaxation]
sigma = 0.004
[drift]
time_seconds = 86400
t0_seconds = 20
exponent_mean = { form = "logarithmic", coefficients = [-0.0155, 0.0244], unit = "number", clip = [0.049, 0.1] }
exponent_sd = { form = "logarithmic", coefficients = [-0.0125, -0.0059], unit = "number", clip = [0.008, 0.045] }
compensation = "global"
"""  # noqa: E501


def profile_of(tmp_path, text, read=load_profile):
    path = tmp_path / "p.toml"
    path.write_text(text)
    return read(path)


def test_a_profile_may_state_every_effect(tmp_path):
    profile = profile_of(tmp_path, FULL)
    assert (profile.faults.stuck_low, profile.relaxation.sigma, profile.drift.compensation) == (
        0.001,
        0.004,
        "global",
    )
    assert isinstance(profile.device.sigma, Curve)
    assert profile.depends_on_level
    assert not profile.is_bounded
    assert {"relaxation.z", "drift.model"} <= set(profile.defaults_used)


def test_stated_effects_are_written_out(tmp_path):
    plain = profile_of(tmp_path, FULL).to_dict()
    assert plain["device"]["sigma"]["coefficients"] == [0.26348, 1.9650, -1.1731]
    assert plain["drift"]["exponent_mean"]["clip"] == [0.049, 0.1]
    assert "read_noise" not in plain
    assert "tolerance_low" not in load_profile("pcm-no-verify").to_dict()["device"]


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        (
            "[window]\ng_min_microsiemens = 1.0\ng_max_microsiemens = 25.0\nclips = true",
            "",
            r"'device.sigma' is in microsiemens and needs a \[window\]",
        ),
        ("g_min_microsiemens = 1.0", "g_min_microsiemens = 30.0", "must be below"),
        ("tolerance_low = 0.03", "", "belong together"),
        ("tolerance_low = 0.03", "tolerance_low = 0.03\ntolerance = 0.03", "give either"),
        (
            "tolerance_low = 0.03",
            "tolerance_low = -0.03",
            "device.tolerance_low': Input should be greater",
        ),
        ('form = "polynomial"', 'form = "cubic"', "device.sigma.form"),
        (
            'form = "polynomial", coefficients',
            'form = "polynomial", coeficients',
            "nearest known key 'coefficients'",
        ),
        ("[0.04, 1.0], y = [0.02, 0.05]", "[1.0, 0.04], y = [0.02, 0.05]", "must ascend"),
        ("y = [0.02, 0.05]", "y = [0.02]", "same length"),
        ("stuck_high = 0.002", "stuck_high = 0.9995", "less than 1"),
        (
            'unit = "number", clip = [0.049, 0.1]',
            "clip = [0.049, 0.1]",
            "'drift.exponent_mean' must be a curve of unit 'number'",
        ),
        (
            "[0.26348, 1.9650, -1.1731]",
            "[-0.26348]",
            (
                "must state numbers that hold at every level, got key 'device.sigma' must be"
                " finite and not negative at every level, is -0.0109783 at level 0"
            ),
        ),
        (
            "[0.26348, 1.9650, -1.1731]",
            "[1e300]",
            r"'device.sigma' must be at most 1e\+06 in size at every level",
        ),
        ('compensation = "global"', "mean = 0.1", "model 'power' takes no 'mean'"),
        ("stuck_high = 0.002", "stuck_high = 1e300", "less than 1"),
        ("g_min_microsiemens = 1.0", "g_min_microsiemens = 1e300", "less than or equal to"),
        ("time_seconds = 86400", "time_seconds = 1e300", "less than or equal to 1"),
        ("t0_seconds = 20", "t0_seconds = 5e-324", "greater than or equal to 0.000000001"),
        (
            "tolerance_low = 0.03",
            "tolerance_low = 1e-300",
            "must be 0 or at least 1e-12 of the range",
        ),
    ],
)
def test_wrong_profiles_are_refused_with_their_key(tmp_path, old, new, text):
    assert old in FULL
    with pytest.raises(UsageError, match=text):
        profile_of(tmp_path, FULL.replace(old, new))


def test_logarithms_at_zero_conductance_need_a_clip(tmp_path):
    text = (
        'schema = 1\nname = "p"\n[device]\ntolerance = 0.1\nsigma = { form = "logarithmic",'
        " coefficients = [-0.01, 0.1] }\n"
    )
    with pytest.raises(UsageError, match="is inf at level 0"):
        profile_of(tmp_path, text)


def test_read_noise_is_a_sigma_at_every_level(tmp_path):
    text = (
        'schema = 1\nname = "p"\n[device]\ntolerance = 0.1\nsigma = 0.03\n[read_noise]\nsigma ='
        " 0.01\n"
    )
    np.testing.assert_allclose(profile_of(tmp_path, text).read_sigma_levels(), 0.03)


def test_converters_are_read_with_their_defaults(tmp_path):
    profile = profile_of(tmp_path, FULL + '[dac]\nbits = 8\n[adc]\nbits = 6\nrange = "granular"\n')
    assert profile.needs_kernel
    assert profile.dac == DacTable(8)
    assert profile.adc == AdcTable(6, range="granular")
    assert "dac.encoding" in profile.defaults_used


def test_effects_can_be_switched_off_one_by_one(tmp_path):
    profile = profile_of(tmp_path, FULL)
    assert profile.with_effects() is profile
    only_faults = profile.with_effects(programming=False, drift=False, relaxation=False)
    assert tolerance_fraction(only_faults) == 0.0
    assert only_faults.has_faults
    assert profile.with_effects(faults=False, drift=False, relaxation=False).is_bounded
    assert profile.with_effects(drift=False).name == "everything@no-drift"


def test_another_tolerance_scales_curves_and_both_sides(tmp_path):
    profile = profile_of(tmp_path, FULL)
    scaled = with_tolerance(profile, 0.1)
    assert scaled.device.tolerance is None
    assert scaled.device.tolerance_low == pytest.approx(0.06)
    assert largest_programming_error(scaled) == pytest.approx(0.1)
    ratio = scaled.device.sigma.at(
        profile.level_positions(), profile.window
    ) / profile.device.sigma.at(profile.level_positions(), profile.window)
    np.testing.assert_allclose(ratio, 2.0)


def test_clipping_ends_the_interval_at_the_window(tmp_path):
    low, high = level_bounds(profile_of(tmp_path, FULL).with_effects(drift=False, relaxation=False))
    assert (low[0], high[15]) == (0.0, 0.0)
    np.testing.assert_allclose(low[5], -0.03 * 15)
    np.testing.assert_allclose(high[0], 0.02 * 15)


def test_relaxation_widens_the_interval_by_its_sigmas(tmp_path):
    low, _ = level_bounds(profile_of(tmp_path, FULL).with_effects(drift=False))
    np.testing.assert_allclose(low[8], -(0.03 + 3 * 0.004) * 15)


def test_power_drift_lowers_the_interval_by_its_largest_exponent(tmp_path):
    text = FULL.replace("clips = true", "").replace('compensation = "global"', "z = 2")
    profile = profile_of(tmp_path, text).with_effects(programming=False, relaxation=False)
    low, high = level_bounds(profile)
    g = 1.0 + np.arange(16) / 15 * 24.0
    x = g / 25.0
    exponent = np.clip(-0.0155 * np.log(x) + 0.0244, 0.049, 0.1) + 2 * np.clip(
        -0.0125 * np.log(x) - 0.0059, 0.008, 0.045
    )
    np.testing.assert_allclose(low, g * ((86400 / 20) ** -exponent - 1) / 24.0 * 15, rtol=1e-12)
    assert (high >= 0).all()


def test_shifts_grow_with_the_logarithm_of_time(tmp_path):
    text = """
schema = 1
name = "cmo"
window = { g_min_microsiemens = 9.0, g_max_microsiemens = 88.2 }
[device]
bits = 3
tolerance = 0.0
sigma = 0.0
[drift]
model = "shift"
time_seconds = 3600
mean_per_log_second = { form = "polynomial", coefficients = [-0.08900206], unit = "microsiemens" }
sd = { form = "polynomial", coefficients = [0.41183342], unit = "microsiemens" }
sd_per_log_second = { form = "polynomial", coefficients = [0.04201137], unit = "microsiemens" }
"""
    profile = profile_of(tmp_path, text)
    mean, sd = -0.08900206 * np.log(3600), 0.04201137 * np.log(3600) + 0.41183342
    low, high = level_bounds(profile)
    np.testing.assert_allclose(low, 7 * (mean - 3 * sd) / 79.2, rtol=1e-12)
    np.testing.assert_allclose(high, 7 * max(mean + 3 * sd, 3 * 0.41183342) / 79.2, rtol=1e-12)
    assert excluded_probability(profile) == pytest.approx(0.0027, rel=1e-3)


def test_nothing_drifts_before_its_first_time(tmp_path):
    profile = profile_of(tmp_path, FULL.replace("86400", "20"))
    assert not profile.has_drift
    assert tolerance_fraction(profile) == tolerance_fraction(profile.with_effects(drift=False))


def test_profiles_do_not_change_with_the_unit_of_conductance(tmp_path):
    other = (
        FULL.replace("1.0\ng_max", "1000.0\ng_max")
        .replace("25.0", "25000.0")
        .replace("0.26348, 1.9650, -1.1731", "263.48, 1965.0, -1173.1")
    )
    one, two = profile_of(tmp_path, FULL), profile_of(tmp_path, other)
    assert one.window != two.window
    np.testing.assert_allclose(
        level_bounds(one, compensation=1.4), level_bounds(two, compensation=1.4), rtol=1e-12
    )
    assert excluded_probability(one) == pytest.approx(excluded_probability(two))


def test_bounds_hold_at_every_time_between(tmp_path):
    profile = profile_of(tmp_path, FULL)
    drift, positions = profile.drift, profile.level_positions()
    low, high = level_bounds(profile, compensation=1.6)
    before = level_bounds(profile.with_effects(drift=False))
    mean, sd = (
        number.at(positions, profile.window) for number in (drift.exponent_mean, drift.exponent_sd)
    )
    for log_time in np.linspace(0.0, drift.log_time, 101):
        for z in (-3.0, 0.0, 3.0):
            for start in before:
                drifted = (positions + start / 15 + 1 / 24) * np.exp(
                    -(mean + z * sd) * log_time
                ) - 1 / 24
                read = 15 * (
                    np.clip(drifted, 0, 1) * 1.6 ** (log_time / drift.log_time) - positions
                )
                assert (read >= low - 1e-9).all()
                assert (read <= high + 1e-9).all()
