"""The nearest chip of a linear limit: against the closed form where quantile functions are linear,
and against its optimality conditions where not.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cimrobust.device.load_profile import load_profile
from cimrobust.device.profile import DeviceProfile
from cimrobust.engine.latent import REACH, LatentChips
from cimrobust.mapping.place import place
from cimrobust.mapping.placement import Placement
from cimrobust.onnx_io.layers import CrossbarLayer, LayerScan
from cimrobust.reliability.nearest import NearestChips

BASE = load_profile("rram-write-verify-3pct")
GAUSSIAN = replace(BASE, device=replace(BASE.device, distribution="gaussian", tolerance=None))
PROFILES = {
    "truncated": BASE,
    "uniform": replace(BASE, device=replace(BASE.device, distribution="uniform")),
    "differential": replace(
        BASE, weight=replace(BASE.weight, mapping="differential", scale="column")
    ),
    "of levels": load_profile("rram-milo-2021"),
}


def _placement(profile: DeviceProfile) -> Placement:
    generator = np.random.default_rng(0)
    layers = []
    for name, shape in (("first", (12, 9)), ("second", (9, 4))):
        column = np.ascontiguousarray(np.broadcast_to(np.arange(shape[1], dtype=np.int32), shape))
        layers.append(
            CrossbarLayer(
                name, (), shape, 1, *shape, generator.normal(size=shape).astype(np.float32), column
            )
        )
    return place(LayerScan(tuple(layers), ()), profile)


def _gradient(chips: LatentChips) -> np.ndarray:
    return np.random.default_rng(3).normal(size=chips.size).astype(np.float32)


def test_gaussian_devices_give_the_step_of_hasofer_and_lind() -> None:
    chips = LatentChips(_placement(GAUSSIAN))
    nearest, gradient = NearestChips(chips), _gradient(chips)
    slope = nearest.slopes()
    found, reached = nearest.solve(gradient, 2.5)
    pull = gradient * slope
    assert reached
    # One part in a thousand: quantile tables are linear between their knots.
    np.testing.assert_allclose(
        found, 2.5 * pull / float(pull @ pull), rtol=0.02, atol=1e-3 * float(np.abs(found).max())
    )
    assert float(np.linalg.norm(found)) == pytest.approx(
        2.5 / float(np.linalg.norm(pull)), rel=1e-3
    )


@pytest.mark.parametrize("name", PROFILES)
def test_no_chip_in_reach_of_small_changes_is_nearer(name: str) -> None:
    chips = LatentChips(_placement(PROFILES[name]))
    nearest, gradient = NearestChips(chips), _gradient(chips).astype(np.float64)
    rest, most = (
        float(gradient @ chips.deviations(latents))
        for latents in (
            np.zeros(chips.size, np.float32),
            REACH * np.sign(gradient).astype(np.float32),
        )
    )
    wanted = rest + 0.7 * (most - rest)
    found, reached = nearest.solve(gradient.astype(np.float32), wanted)
    assert reached
    assert float(gradient @ chips.deviations(found)) >= wanted - 1e-4 * (most - rest)
    norm, random = float(np.linalg.norm(found)), np.random.default_rng(4)
    for _ in range(200):
        changed = found + np.float32(random.choice([0.01, 0.1])) * random.standard_normal(
            found.size, dtype=np.float32
        )
        changed *= np.float32(0.998 * norm / np.linalg.norm(changed))
        assert float(gradient @ chips.deviations(changed)) < wanted


def test_what_no_chip_reaches_is_said_to_be_out_of_reach() -> None:
    chips = LatentChips(_placement(BASE))
    nearest, gradient = NearestChips(chips), _gradient(chips)
    found, reached = nearest.solve(gradient, 1e6)
    assert not reached
    assert float(np.abs(found).max()) <= np.float32(REACH)
    assert nearest.solve(np.zeros_like(gradient), 1.0) == (
        pytest.approx(np.zeros(chips.size)),
        False,
    )
    assert not nearest.solve(gradient, -1.0)[0].any()


def test_a_pattern_of_weights_becomes_the_latents_that_make_it() -> None:
    placement = _placement(PROFILES["differential"])
    chips = LatentChips(placement)
    wanted = {
        name: (
            (0.02 * tensor.hi * np.random.default_rng(5).uniform(-1, 1, tensor.shape)).astype(
                np.float32
            )
        )
        for name, tensor in placement.tensors.items()
    }
    made = chips.weights(NearestChips(chips).direction(wanted))
    for name, tensor in placement.tensors.items():
        # To first order: slopes are those over two standard deviations.
        np.testing.assert_allclose(
            made[name] - tensor.nominal, wanted[name], atol=0.1 * float(np.abs(wanted[name]).max())
        )


@pytest.mark.parametrize("name", PROFILES)
def test_a_pattern_far_out_is_made_exactly_by_other_latents(name: str) -> None:
    placement = _placement(PROFILES[name])
    chips = LatentChips(placement)
    random = np.random.default_rng(6)
    wanted = {
        key: (
            np.where(random.random(tensor.shape) < 0.5, 0.9 * tensor.lo, 0.9 * tensor.hi).astype(
                np.float32
            )
        )
        for key, tensor in placement.tensors.items()
    }
    made = chips.weights(NearestChips(chips).inverse(wanted))
    for key, tensor in placement.tensors.items():
        np.testing.assert_allclose(
            made[key] - tensor.nominal, wanted[key], atol=1e-3 * tensor.box_radius
        )
