"""Shipped profiles against their published tables, in numbers that are written down here and not
computed by the same code.
"""

from __future__ import annotations

import re
from dataclasses import replace
from importlib import resources

import numpy as np
import pytest

from cimrobust.device.curve import Curve, Number, number_at
from cimrobust.device.distribution import final_quantile
from cimrobust.device.intervals import level_bounds, level_intervals
from cimrobust.device.load_profile import list_profiles, load_profile
from cimrobust.device.profile import DeviceProfile
from cimrobust.engine.kernel import program_devices
from cimrobust.mapping.place import place
from cimrobust.onnx_io.layers import CrossbarLayer, LayerScan


def one_matrix(values: np.ndarray) -> LayerScan:
    matrix = values.reshape(values.shape[0], -1)
    column = np.broadcast_to(np.arange(matrix.shape[1], dtype=np.int32), matrix.shape)
    return LayerScan(
        (
            CrossbarLayer(
                "w", (), matrix.shape, 1, *matrix.shape, matrix, np.ascontiguousarray(column)
            ),
        ),
        (),
    )


POSITIONS = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)

# Standard deviation of one device in percent of its full range, at POSITIONS.
SIGMA_PERCENT = {
    "pcm-nandakumar-2019": (1.05, 1.79, 2.73, 3.81, 4.31, 4.22),
    "pcm-hermes-2-devices": (0.80, 2.69, 4.29, 4.79, 4.41, 5.28),
    "pcm-hermes-1-device": (1.52, 3.57, 5.94, 8.36, 9.42, 9.73),
    "rram-neurram-1s": (0.87, 3.89, 5.65, 5.06, 3.83, 2.76),
    "rram-neurram-1s-crosssim": (2.68, 4.62, 6.12, 6.06, 4.70, 4.28),
    "rram-neurram-1day": (1.75, 6.12, 9.30, 9.77, 8.42, 6.63),
    "rram-neurram-2days": (1.96, 6.03, 9.16, 9.82, 8.44, 6.69),
    "rram-milo-2021": (2.47, 2.38, 2.24, 2.02, 1.79, 1.56),
    "sonos-day0": (0.00, 0.74, 1.11, 1.23, 1.24, 1.24),
    "sonos-like": (0.00, 0.74, 1.11, 1.23, 1.24, 1.24),
    "pcm-llm-2025": (1.43, 3.10, 4.35, 4.69, 5.49, 10.67),
    "pcm-no-verify": (0.8,) * 6,
    "swim-no-verify-10pct": (10.0,) * 6,
    "swim-verified-3pct": (3.0,) * 6,
    "mnsim-like": (1.0,) * 6,
}

# Published curves in microsiemens: for each g_max, the standard deviation at some conductances.
# Curves that were published for one g_max scale with it.
SIGMA_MICROSIEMENS = {
    "pcm-nandakumar-2019": {
        25.0: {0.0: 0.26348, 12.5: 0.952705, 25.0: 1.05538},
        50.0: {25.0: 1.90541, 50.0: 2.11076},
    },
    "pcm-joshi-2020": {
        25.0: {0.25: 0.305239, 12.5: 0.955278, 25.0: 1.065523},
        20.0: {10.0: 0.866191, 20.0: 1.088463},
    },
    "pcm-hermes-2-devices": {20.7: {10.35: 0.991019, 20.7: 1.092698}, 41.4: {20.7: 1.982037}},
    "pcm-hermes-1-device": {10.35: {5.175: 0.865313, 10.35: 1.007457}, 5.0: {2.5: 0.418026}},
    "rram-neurram-1s": {40.0: {20.0: 2.022938, 40.0: 1.103}, 25.0: {12.5: 1.264336}},
    "rram-neurram-1s-crosssim": {
        39.26: {10.0: 2.4136, 20.0: 2.3618, 39.26: 1.680641},
        30.0: {30.0: 1.8192},
    },
    "rram-milo-2021": {
        225.0: {50.0: 4.326971, 100.0: 3.871621, 225.0: 2.733246},
        150.0: {100.0: 3.871621},
    },
    "sonos-day5": {1600.0: {100.0: 13.231, 400.0: 29.556, 1600.0: 34.563}},
}


def _sigma_microsiemens(profile: DeviceProfile, conductances: list[float]) -> np.ndarray:
    window = profile.window
    assert window is not None
    span = window.g_max_microsiemens - window.g_min_microsiemens
    return (
        number_at(
            profile.device.sigma,
            (np.array(conductances) - window.g_min_microsiemens) / span,
            window,
        )
        * span
    )


@pytest.mark.parametrize("name", SIGMA_PERCENT)
def test_sigma_in_percent_of_the_full_range(name: str) -> None:
    profile = load_profile(name)
    sigma = 100 * number_at(profile.device.sigma, np.array(POSITIONS), profile.window)
    np.testing.assert_allclose(sigma, SIGMA_PERCENT[name], rtol=0, atol=0.0051)


@pytest.mark.parametrize("name", SIGMA_MICROSIEMENS)
def test_sigma_in_microsiemens_at_several_g_max(name: str) -> None:
    profile = load_profile(name)
    for g_max, expected in SIGMA_MICROSIEMENS[name].items():
        other = replace(profile, window=replace(profile.window, g_max_microsiemens=g_max))
        np.testing.assert_allclose(
            _sigma_microsiemens(other, list(expected)), list(expected.values()), rtol=2e-4
        )


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("rram-cmo-hfox-2pct", 0.18, 1.764), ("rram-cmo-hfox-0.2pct", 0.018, 0.1764)],
)
def test_acceptance_windows_are_a_share_of_the_target(name: str, low: float, high: float) -> None:
    profile = load_profile(name)
    bounds = np.array(level_bounds(profile)) / (profile.device.num_levels - 1) * (88.2 - 9.0)
    np.testing.assert_allclose(bounds[:, [0, -1]], [[-low, -high], [low, high]], rtol=1e-9)


@pytest.mark.parametrize(
    ("name", "slope", "constant"),
    [
        ("rram-cmo-hfox-2pct", 0.01129027, 0.01121854),
        ("rram-cmo-hfox-0.2pct", 0.00106879, 0.00081107),
    ],
)
def test_a_filled_window_has_the_measured_spread(name: str, slope: float, constant: float) -> None:
    profile = load_profile(name)
    placement = place(one_matrix(np.linspace(-1, 1, 60_001, dtype=np.float32)), profile)
    (levels,) = program_devices(placement, seed=1, trial=0).values()
    (target,) = (np.abs(tensor.nominal) / tensor.scale[0] for tensor in placement.tensors.values())
    for level in (64, 128, 255):
        chosen = np.rint(target.ravel()).astype(int) == level
        drawn = (
            np.where(
                placement.tensors["w"].nominal.ravel()[chosen] > 0,
                levels[0][chosen],
                levels[1][chosen],
            )
            / 255
            * 79.2
            + 9.0
        )
        assert drawn.std() == pytest.approx(slope * drawn.mean() + constant, rel=0.12)


EXPONENTS = {
    # profile: {x: (mean exponent, spread)} from the formulas of the source, by hand
    "pcm-nandakumar-2019": {
        0.01: (0.09578, 0.045),
        0.1: (0.06009, 0.022882),
        0.5: (0.049, 0.008),
        1.0: (0.049, 0.008),
    },
    "pcm-hermes-2-devices": {
        0.01: (0.13, 0.04),
        0.09: (0.074988, 0.022473),
        0.5: (0.0564, 0.009),
        1.0: (0.0174, 0.0048),
    },
    "pcm-hermes-1-device": {
        0.01: (0.13, 0.04),
        0.2: (0.069336, 0.017013),
        0.5: (0.0564, 0.012075),
        1.0: (0.0174, 0.0055),
    },
}


@pytest.mark.parametrize("name", EXPONENTS)
def test_drift_exponents(name: str) -> None:
    profile = load_profile(name)
    assert profile.drift is not None
    positions = np.array(list(EXPONENTS[name]))
    found = [
        number_at(number, positions, profile.window)
        for number in (profile.drift.exponent_mean, profile.drift.exponent_sd)
    ]
    np.testing.assert_allclose(np.stack(found, axis=1), list(EXPONENTS[name].values()), rtol=1e-3)


def test_t0_of_drift() -> None:
    drifts = {name: load_profile(name).drift for name in EXPONENTS}
    assert {name: drift and drift.t0_seconds for name, drift in drifts.items()} == {
        "pcm-nandakumar-2019": 20.0,
        "pcm-hermes-2-devices": 300.0,
        "pcm-hermes-1-device": 200.0,
    }


def test_shift_of_cmo_hfox_after_a_day() -> None:
    profile = load_profile("rram-cmo-hfox-0.2pct-1day")
    drift = profile.drift
    assert drift is not None
    # ln 86400 = 11.366743; -0.08900206 and 0.04201137 microsiemens for each factor e of time,
    # 0.41183342 at the start
    assert drift.log_time == pytest.approx(11.366743)
    half = np.array([0.5])

    def microsiemens(number: Number) -> float:
        return float(number_at(number, half, profile.window)[0]) * 79.2

    assert microsiemens(drift.mean_per_log_second) * drift.log_time == pytest.approx(
        -1.011664, rel=1e-5
    )
    assert microsiemens(drift.sd) + microsiemens(
        drift.sd_per_log_second
    ) * drift.log_time == pytest.approx(0.889366, rel=1e-5)


def test_read_noise() -> None:
    pcm = load_profile("pcm-nandakumar-2019").read_noise
    sonos = load_profile("sonos-day0")
    assert pcm is not None
    assert sonos.read_noise is not None
    # 0.0088 x^0.35 sqrt(ln(86400.00000025 s / 500 ns)), the root being 5.08678
    np.testing.assert_allclose(
        number_at(pcm.sigma, np.array([0.1, 0.4, 1.0]), None),
        [0.019995, 0.032483, 0.044764],
        rtol=1e-3,
    )
    # 12.58037 (1 - exp(-I / 215.36557)) nA at 400 and 1600 nA
    np.testing.assert_allclose(
        1600 * number_at(sonos.read_noise.sigma, np.array([0.25, 1.0]), sonos.window),
        [10.6165, 12.5729],
        rtol=1e-3,
    )


def test_architectures() -> None:
    shapes = {
        name: load_profile(f"{name}-like")
        for name in ("isaac", "prime", "sonos", "neurosim", "mnsim")
    }
    tiles = {name: (profile.tile.rows, profile.tile.columns) for name, profile in shapes.items()}
    assert tiles == {
        "isaac": (128, 128),
        "prime": (256, 256),
        "sonos": (1152, 256),
        "neurosim": (128, 128),
        "mnsim": (256, 256),
    }
    assert {name: profile.adc and profile.adc.bits for name, profile in shapes.items()} == {
        "isaac": 9,
        "prime": 6,
        "sonos": 8,
        "neurosim": 7,
        "mnsim": 6,
    }
    assert {
        name: profile.dac and (profile.dac.bits, profile.dac.bits_per_pass)
        for name, profile in shapes.items()
    } == {
        "isaac": (16, 1),
        "prime": (6, 3),
        "sonos": (8, None),
        "neurosim": (8, 1),
        "mnsim": (8, 1),
    }
    assert {name: profile.device.bits for name, profile in shapes.items()} == {
        "isaac": 2,
        "prime": 4,
        "sonos": 7,
        "neurosim": 1,
        "mnsim": 1,
    }
    mnsim = shapes["mnsim"].faults
    assert mnsim is not None
    assert (mnsim.stuck_low, mnsim.stuck_high) == (0.001, 0.001)


@pytest.mark.parametrize("name", list_profiles())
def test_every_profile_programs_a_matrix(name: str) -> None:
    profile = load_profile(name)
    if profile.drift is not None and profile.depends_on_level:
        # Every level has a table of its own, by quadrature: 256 of them take seconds.
        profile = replace(profile, device=replace(profile.device, bits=4))
    weights = np.random.default_rng(0).normal(size=(40, 30)).astype(np.float32)
    placement = place(one_matrix(weights), profile)
    (levels,) = program_devices(placement, seed=1, trial=0).values()
    assert np.isfinite(levels).all()
    assert levels.std() > 0
    tensor = placement.tensors["w"]
    assert (tensor.lo <= 0).all()
    assert (tensor.hi >= 0).all()


@pytest.mark.parametrize("name", list_profiles())
def test_every_number_of_a_profile_says_where_it_comes_from(name: str) -> None:
    text = (resources.files("cimrobust.device") / "profiles" / f"{name}.toml").read_text()
    profile = load_profile(name)
    assert text.startswith("# ")
    assert re.search(r"\d{4}|NeuroSim|MNSIM|aihwkit|Falcone", profile.source)


@pytest.mark.parametrize(
    "name", [name for name in list_profiles() if load_profile(name).window is not None]
)
def test_other_units_are_the_same_device(name: str) -> None:
    profile = load_profile(name)
    window = profile.window
    assert window is not None

    def in_other_units(number: Number | None, factor: float) -> Number | None:
        if number is None or isinstance(number, float) or not number.needs_window:
            return number
        pieces = tuple(
            in_other_units(Curve(**vars(piece), variable=number.variable, unit=number.unit), factor)
            for piece in number.pieces
        )
        to_unit = factor if number.unit == "microsiemens" else 1.0
        per_variable = 1.0 / factor if number.variable == "microsiemens" else 1.0
        if number.form == "saturating":
            coefficients = (number.coefficients[0] * to_unit, number.coefficients[1] / per_variable)
        else:
            coefficients = tuple(
                value * to_unit * per_variable**power
                for power, value in enumerate(number.coefficients)
            )
        reference = number.reference_g_max_microsiemens
        return replace(
            number,
            coefficients=coefficients,
            pieces=pieces,
            breaks=tuple(value / per_variable for value in number.breaks),
            reference_g_max_microsiemens=None if reference is None else reference * factor,
        )

    device = profile.device
    changed = replace(
        profile,
        window=replace(
            window,
            g_min_microsiemens=8 * window.g_min_microsiemens,
            g_max_microsiemens=8 * window.g_max_microsiemens,
        ),
        device=replace(
            device,
            sigma=in_other_units(device.sigma, 8.0),
            tolerance=in_other_units(device.tolerance, 8.0),
        ),
        drift=None,
    )
    same = replace(profile, drift=None)
    np.testing.assert_allclose(
        np.array(level_bounds(changed)), np.array(level_bounds(same)), rtol=1e-12, atol=1e-15
    )


#: Profiles whose source clamps conductances at zero, and nowhere else.
CLAMPED = (
    "pcm-hermes-1-device",
    "pcm-hermes-2-devices",
    "pcm-joshi-2020",
    "pcm-nandakumar-2019",
    "rram-neurram-1s",
    "rram-neurram-1day",
    "rram-neurram-2days",
)


@pytest.mark.parametrize("name", CLAMPED)
def test_no_device_has_a_negative_conductance_and_some_pass_the_largest(name: str) -> None:
    """As in the source: clamped at zero, which for pcm-joshi-2020 lies below g_min."""
    profile = load_profile(name)
    assert profile.window is not None
    low, high = level_intervals(profile)
    position = profile.level_positions()
    assert float((position + low).min()) >= -profile.window.floor - 1e-12
    assert float((position + high)[-1]) > 1.0
    drawn = final_quantile(profile, 0)(np.array([1e-12, 1e-6, 1e-3, 0.1]), False)
    assert float(drawn.min()) >= -profile.window.floor - 1e-12


@pytest.mark.parametrize(
    ("name", "free", "clamped"),
    [
        ("pcm-joshi-2020", 0.0123, 0.0102),
        ("rram-neurram-1day", 0.0175, 0.0102),
        ("rram-neurram-1s", 0.0087, 0.0051),
    ],
)
def test_spread_of_idle_devices_falls_by_the_clamp(name: str, free: float, clamped: float) -> None:
    """Of a Gaussian clamped at its centre sqrt(1/2 - 1/(2 pi)) = 0.584 of the deviation is left."""
    profile = load_profile(name)
    assert profile.window is not None
    unclamped = replace(profile, window=replace(profile.window, clips=False))
    grid = (np.arange(20_000) + 0.5) / 40_000
    for made, expected in ((unclamped, free), (profile, clamped)):
        quantile = final_quantile(made, 0)
        drawn = np.concatenate([quantile(grid, False), quantile(grid, True)])
        assert float(drawn.std()) == pytest.approx(expected, abs=1e-4)
