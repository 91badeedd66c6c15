"""What simulators of crossbars were found to get wrong, tested on a whole network through the
engine.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cimrobust.data.calibration import load_samples
from cimrobust.device.converter_tables import AdcTable, DacTable
from cimrobust.device.effect_tables import FaultsTable, ReadNoiseTable
from cimrobust.device.load_profile import load_profile
from cimrobust.device.profile import DeviceProfile
from cimrobust.engine.batches import Feeding
from cimrobust.engine.kernel_engine import KernelEngine
from cimrobust.engine.open import Runtime, open_network
from cimrobust.engine.subject import Subject
from cimrobust.mapping.device_levels import target_levels
from cimrobust.mapping.place import place
from cimrobust.mapping.placement import Placement
from cimrobust.montecarlo.trials import run_trials
from cimrobust.pipeline.inspection import inspect_model
from cimrobust.run import Run

# Enough codes for every sum of 128 rows of 8-bit inputs and 2-bit cells: conversion loses nothing.
EXACT = {"dac": DacTable(8), "adc": AdcTable(20, range="granular")}
COARSE = {"dac": DacTable(8), "adc": AdcTable(8)}


def _profile(**changes: Any) -> DeviceProfile:
    return replace(load_profile("rram-write-verify-3pct"), **changes)


def _open(samples: Path, profile: DeviceProfile, *, workers: int = 1) -> tuple[Runtime, Placement]:
    inspection = inspect_model(samples / "digits_cnn.onnx", device="rram-write-verify-3pct")
    placement = place(inspection.scan, profile)
    data = samples / "digits_cnn.toml"
    evaluated, calibration = load_samples(
        data,
        None,
        inputs=inspection.network.inputs,
        limit=90,
        needs_calibration=profile.needs_kernel,
    )
    return (
        open_network(
            inspection.network,
            inspection.scan,
            placement,
            evaluated,
            calibration=calibration,
            workers=workers,
        ),
        placement,
    )


def test_without_noise_a_chip_is_the_quantised_network_exactly(samples: Path) -> None:
    exact = replace(_profile().device, tolerance=0.0, sigma=0.0)
    runtime, placement = _open(samples, _profile(device=exact, **EXACT))
    drawn, nominal = runtime.engine.draw(placement, seed=3, trial=7), placement.nominal()
    np.testing.assert_array_equal(runtime.outputs(drawn), runtime.outputs(nominal))
    # Converters with a code for every sum lose nothing: sums of levels are whole numbers.
    ideal, _ = _open(samples, _profile(device=exact, dac=EXACT["dac"]))
    np.testing.assert_array_equal(runtime.outputs(nominal), ideal.outputs(nominal))


@pytest.mark.parametrize("mapping", ["sign_magnitude", "differential", "offset"])
def test_bits_sent_in_series_read_the_same_chip(samples: Path, mapping: str) -> None:
    outputs = []
    for per_pass in (None, 1, 3):
        weight = replace(_profile().weight, mapping=mapping)
        runtime, placement = _open(
            samples,
            _profile(
                weight=weight, **{**EXACT, "dac": DacTable(8, bits_per_pass=per_pass), "adc": None}
            ),
        )
        outputs.append(runtime.outputs(runtime.engine.draw(placement, seed=3, trial=7)))
    scale = float(np.abs(outputs[0]).max())
    for other in outputs[
        1:
    ]:  # sums are rounded in another order, which can turn an input level of the next layer
        assert np.isclose(other, outputs[0], rtol=0, atol=1e-5 * scale).mean() > 0.98
        np.testing.assert_allclose(other, outputs[0], rtol=0, atol=0.02 * scale)


def test_a_chip_is_the_same_in_every_batch(samples: Path) -> None:
    runtime, placement = _open(samples, _profile(read_noise=ReadNoiseTable(0.02), **COARSE))
    engine = runtime.engine
    chip = engine.draw(placement, seed=3, trial=7)
    whole = runtime.outputs(chip)
    for size in (1, 7, 64):
        other = KernelEngine(
            runtime.deployed,
            placement,
            output=runtime.plain.output,
            feeding=Feeding("free", size),
            ranges=runtime.converters.ranges,
        )
        # Sums of digital layers are rounded in another order at another batch size, which can turn
        # an input level.
        close = np.isclose(
            other.run(chip, runtime.dataset.inputs, runtime.dataset.constants),
            whole,
            rtol=1e-4,
            atol=1e-4,
        )
        assert close.mean() > 0.98


def test_layers_have_devices_of_their_own(samples: Path) -> None:
    runtime, placement = _open(samples, _profile(**COARSE))
    drawn = runtime.engine.draw(placement, seed=3, trial=7).levels  # type: ignore[union-attr]
    deviations = {
        name: (drawn[name] - target_levels(tensor)).ravel()
        for name, tensor in placement.tensors.items()
    }
    names = sorted(deviations)
    for first, second in pairwise(names):
        count = min(deviations[first].size, deviations[second].size)
        correlation = np.corrcoef(deviations[first][:count], deviations[second][:count])[0, 1]
        assert abs(correlation) < 5 / np.sqrt(count)


def test_deviations_of_two_cells_in_one_state_are_uncorrelated(samples: Path) -> None:
    runtime, placement = _open(samples, _profile(**COARSE))
    name, tensor = max(placement.tensors.items(), key=lambda item: item[1].nominal.size)
    targets = target_levels(tensor).ravel()
    first, second = np.flatnonzero(targets == 1)[:2]
    drawn = [
        runtime.engine.draw(placement, seed=5, trial=trial).levels[name].ravel()[[first, second]]
        for trial in range(2000)
    ]  # type: ignore[union-attr]
    deviations = np.stack(drawn) - 1.0
    assert (deviations.std(axis=0) > 0).all()
    assert abs(np.corrcoef(deviations.T)[0, 1]) < 5 / np.sqrt(2000)


@pytest.mark.parametrize(("low", "high"), [(0.1, 0.0), (0.0, 0.05), (0.02, 0.01)])
def test_faults_are_as_frequent_as_asked_in_each_polarity(
    samples: Path, low: float, high: float
) -> None:
    runtime, placement = _open(samples, _profile(faults=FaultsTable(low, high), **COARSE))
    drawn = runtime.engine.draw(placement, seed=3, trial=7).levels  # type: ignore[union-attr]
    top, stuck, total = 2**placement.profile.device.bits - 1, np.zeros(2), 0
    for name, tensor in placement.tensors.items():
        target = target_levels(tensor)
        # From targets at the other end, so that no working device is taken for a stuck one.
        stuck += [
            (drawn[name][target == top] == 0).mean() * (target == top).sum(),
            (drawn[name][target == 0] == top).mean() * (target == 0).sum(),
        ]
        total = total + np.array([(target == top).sum(), (target == 0).sum()])
    rates = stuck / total
    assert (
        np.abs(rates - [low, high])
        <= 5 * np.sqrt(np.maximum([low * (1 - low), high * (1 - high)], 1e-12) / total)
    ).all()


def test_a_profile_in_other_units_gives_the_same_chip(samples: Path, tmp_path: Path) -> None:
    text = """schema = 1
name = "polynomial"
source = "made"
[weight]
bits = 8
[device]
bits = 2
distribution = "gaussian"
sigma = {{ form = "polynomial", coefficients = [{0}, {1}, {2}], variable = "microsiemens", unit = "microsiemens" }}
[window]
g_min_microsiemens = {3}
g_max_microsiemens = {4}
[dac]
bits = 8
[adc]
bits = 8
"""  # noqa: E501
    outputs = []
    for factor in (1.0, 8.0):
        # sigma(g) = c0 + c1 g + c2 g^2 in microsiemens; in units eight times smaller c0 grows and
        # c2 falls eightfold.
        numbers = (0.3 * factor, 0.05, -0.002 / factor, 2.0 * factor, 25.0 * factor)
        (tmp_path / f"{factor}.toml").write_text(text.format(*numbers))
        runtime, placement = _open(samples, load_profile(str(tmp_path / f"{factor}.toml")))
        outputs.append(runtime.outputs(runtime.engine.draw(placement, seed=3, trial=7)))
    np.testing.assert_array_equal(*outputs)


@pytest.mark.parametrize("noise", [None, ReadNoiseTable(0.02)])
def test_seeds_reproduce_on_any_number_of_threads(
    samples: Path, noise: ReadNoiseTable | None
) -> None:
    tables, outputs = [], []
    for workers in (1, 3):
        runtime, placement = _open(
            samples,
            _profile(read_noise=noise, faults=FaultsTable(0.01, 0.01), **COARSE),
            workers=workers,
        )
        tables.append(run_trials(Subject(runtime, placement), Run(9, workers), num_trials=12).value)
        outputs.append(
            runtime.outputs(runtime.engine.draw(placement, seed=9, trial=0), threads=workers)
        )
    np.testing.assert_array_equal(*tables)
    np.testing.assert_array_equal(*outputs)
