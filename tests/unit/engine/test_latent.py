"""Chips made from latents are those that trials draw from the words which the latents stand for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import ndtri

from cimrobust.device.effect_tables import DriftTable, FaultsTable, ReadNoiseTable
from cimrobust.device.load_profile import load_profile
from cimrobust.device.profile import DeviceProfile
from cimrobust.device.window import WindowTable
from cimrobust.engine.kernel import program_chip, program_devices, programming_key
from cimrobust.engine.kernel_engine import DeviceLevels
from cimrobust.engine.latent import LatentChips
from cimrobust.engine.reference import draw_words
from cimrobust.errors import UsageError
from cimrobust.mapping.place import place
from cimrobust.mapping.placement import Placement
from cimrobust.onnx_io.layers import CrossbarLayer, LayerScan

BASE = load_profile("rram-write-verify-3pct")
PROFILES = {
    "sign_magnitude": BASE,
    "differential": replace(
        BASE, weight=replace(BASE.weight, mapping="differential", scale="column")
    ),
    "offset": replace(BASE, weight=replace(BASE.weight, mapping="offset")),
    "uniform": replace(BASE, device=replace(BASE.device, distribution="uniform")),
    "unbounded": replace(
        BASE, device=replace(BASE.device, distribution="gaussian", tolerance=None)
    ),
    "clipped to the window": replace(
        BASE, window=WindowTable(g_min_microsiemens=1.0, g_max_microsiemens=100.0, clips=True)
    ),
    "drifted": replace(
        BASE, drift=DriftTable(1e6, exponent_mean=0.02, exponent_sd=0.01, compensation="global")
    ),
}


def _placement(profile: DeviceProfile) -> Placement:
    generator = np.random.default_rng(0)
    layers = []
    for name, shape in (("first", (40, 30)), ("second", (30, 7))):
        column = np.broadcast_to(np.arange(shape[1], dtype=np.int32), shape)
        layers.append(
            CrossbarLayer(
                name,
                (),
                shape,
                1,
                *shape,
                generator.normal(size=shape).astype(np.float32),
                np.ascontiguousarray(column),
            )
        )
    return place(LayerScan(tuple(layers), ()), profile)


def _latents_of_trial(placement: Placement, *, seed: int, trial: int) -> np.ndarray:
    """Return the latents whose words are those that a trial draws."""
    parts = []
    for name, tensor in placement.tensors.items():
        words = draw_words(
            tensor.nominal.size,
            tensor.cells_per_weight,
            key=programming_key(seed, name),
            trial=trial,
        )
        parts.append(ndtri((words.astype(np.float64) + 0.5) / 2.0**32).T.ravel())
    return np.concatenate(parts).astype(np.float32)


@pytest.mark.parametrize("name", PROFILES)
def test_latents_give_the_chip_that_their_words_give(name: str) -> None:
    placement = _placement(PROFILES[name])
    latents = _latents_of_trial(placement, seed=4, trial=2)
    made, drawn = LatentChips(placement).program(latents), program_chip(placement, seed=4, trial=2)
    assert isinstance(made, dict)
    assert LatentChips(placement).size == latents.size
    for key, tensor in placement.tensors.items():
        # Interpolation between 16384 knots, and latents in float32: a millionth of the widest
        # deviation, and float32 rounding of the weight.
        allowed = 1e-5 * tensor.box_radius + 2e-7 * np.abs(tensor.nominal).max()
        np.testing.assert_allclose(made[key], drawn[key], rtol=0, atol=allowed)
        if placement.profile.is_bounded:
            assert (
                (made[key] - tensor.nominal >= tensor.lo - 1e-6)
                & (made[key] - tensor.nominal <= tensor.hi + 1e-6)
            ).all()


@pytest.mark.parametrize("name", ["sign_magnitude", "drifted"])
def test_levels_of_devices_are_those_that_their_words_give(name: str) -> None:
    placement = _placement(PROFILES[name])
    made = LatentChips(placement, as_levels=True).program(
        _latents_of_trial(placement, seed=4, trial=2)
    )
    assert isinstance(made, DeviceLevels)
    drawn = program_devices(placement, seed=4, trial=2)
    for key, levels in made.levels.items():
        np.testing.assert_allclose(levels, drawn[key], rtol=0, atol=1e-5)


def test_zero_latents_give_the_median_and_extremes_stay_in_the_box() -> None:
    placement = _placement(BASE)
    chips = LatentChips(placement)
    middle, top = (
        chips.program(np.zeros(chips.size, np.float32)),
        chips.program(np.full(chips.size, 50.0, np.float32)),
    )
    for key, tensor in placement.tensors.items():
        np.testing.assert_allclose(middle[key], tensor.nominal, rtol=0, atol=1e-6)
        limit = np.where(np.signbit(tensor.nominal), tensor.lo, tensor.hi)
        np.testing.assert_allclose(top[key] - tensor.nominal, limit, rtol=1e-4)


@pytest.mark.parametrize(
    ("profile", "named"),
    [
        (
            replace(BASE, faults=FaultsTable(0.01, 0.0)),
            "must draw every device from a continuous distribution, once, got stuck devices",
        ),
        (replace(BASE, read_noise=ReadNoiseTable(0.01)), "read noise"),
    ],
)
def test_profiles_that_latents_cannot_express_are_refused(
    profile: DeviceProfile, named: str
) -> None:
    with pytest.raises(UsageError, match=named):
        LatentChips(_placement(profile))
