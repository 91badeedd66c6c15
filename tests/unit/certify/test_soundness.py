"""No chip of the box breaks a certified sample, and no margin is smaller than its bound: random
corners, interior points and per-input attacks.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from cimrobust.certify.bounded_network import BoundedNetwork, open_bounds
from cimrobust.certify.bounds import certify, largest_certified_tolerance
from cimrobust.device.core_tables import DeviceTable, WeightTable
from cimrobust.device.curve import Curve
from cimrobust.device.profile import DeviceProfile
from cimrobust.engine.open import Runtime
from cimrobust.mapping.placement import Placement
from tests.unit.certify.attack import Chip, PerInputAttack, corner
from tests.unit.certify.conftest import NETWORKS, Maker

PROFILES = {
    "symmetric": DeviceProfile("test", "test", device=DeviceTable(tolerance=0.05, sigma=0.01)),
    "two sides": DeviceProfile(
        "test",
        "test",
        weight=WeightTable(mapping="offset"),
        device=DeviceTable(
            tolerance_low=0.02,
            tolerance_high=Curve("points", x=(0.0, 1.0), y=(0.01, 0.08)),
            sigma=0.01,
        ),
    ),
    "pairs": DeviceProfile(
        "test",
        "test",
        weight=WeightTable(mapping="differential", scale="column"),
        device=DeviceTable(tolerance=0.03, sigma=0.01),
    ),
}


def opened_bounds(runtime: Runtime, placement: Placement) -> BoundedNetwork:
    network = open_bounds(runtime, placement)
    assert isinstance(network, BoundedNetwork), network
    return network


def random_chips(placement: Placement, scale: float, count: int) -> list[Chip]:
    random = np.random.default_rng(3)
    chips = []
    for index in range(count):
        shares = {name: random.random(tensor.shape) for name, tensor in placement.tensors.items()}
        if index % 2:
            shares = {name: np.round(share) for name, share in shares.items()}
        chips.append(
            {
                name: corner(
                    tensor.nominal,
                    scale,
                    (tensor.lo + shares[name] * (tensor.hi - tensor.lo)).astype(np.float32),
                )
                for name, tensor in placement.tensors.items()
            }
        )
    return chips


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("method", ["interval", "linear"])
def test_certified_samples_are_never_broken(
    make: Maker, name: str, profile: str, method: str
) -> None:
    runtime, placement = make(name, seed=len(name), profile=PROFILES[profile])
    network = opened_bounds(runtime, placement)
    sizes = largest_certified_tolerance(network, method=method)  # type: ignore[arg-type]
    assert (sizes > 0).sum() >= 6, "the bound must be good for something"
    attack = PerInputAttack(runtime, placement, network=network)
    for sample in np.flatnonzero(sizes > 0):
        _margin, chip = attack.worst(int(sample), float(sizes[sample]))
        chips = [chip, *random_chips(placement, float(sizes[sample]), 4)]
        for weights in chips:
            output = runtime.plain.run(
                weights, {key: array[[sample]] for key, array in runtime.dataset.inputs.items()}
            )
            assert output[0].argmax() == runtime.task.labels[sample]


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("scale", [0.1, 1.0, 6.0])
def test_no_margin_is_below_its_bound(make: Maker, name: str, scale: float) -> None:
    runtime, placement = make(name, seed=1)
    network = opened_bounds(runtime, placement)
    before_softmax = network.reading.tensor == runtime.plain.output
    attack = PerInputAttack(runtime, placement, network=network)
    for method in ("interval", "linear"):
        bounds = certify(network, scale=scale, method=method)  # type: ignore[arg-type]
        for sample in range(4):
            found, _chip = attack.worst(sample, scale)
            assert found >= bounds.margin[sample] or (
                not before_softmax and (found > 0 or bounds.margin[sample] <= 0)
            )


@pytest.mark.parametrize("name", NETWORKS)
def test_linear_bounds_are_tighter_than_intervals(make: Maker, name: str) -> None:
    network = opened_bounds(*make(name, seed=2))
    interval, linear = (
        largest_certified_tolerance(network, method=method) for method in ("interval", "linear")
    )  # type: ignore[arg-type]
    assert (linear >= interval).all()
    assert np.median(linear) > 1.05 * np.median(interval)


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_smaller_boxes_certify_more(make: Maker, name: str) -> None:
    network = opened_bounds(*make(name, seed=3))
    margins = [certify(network, scale=scale).margin for scale in (0.0, 0.01, 0.1, 1.0)]
    for larger, smaller in pairwise(margins):
        assert (smaller < larger).all()


def test_zero_box_bounds_the_margin_up_to_float32(make: Maker) -> None:
    runtime, placement = make("mlp")
    network = opened_bounds(runtime, placement)
    bound = certify(network, scale=0.0).margin
    output = np.sort(
        runtime.plain.run(placement.nominal(), runtime.dataset.inputs).astype(np.float64), axis=1
    )
    margin = output[:, -1] - output[:, -2]
    assert (bound <= margin).all()
    # Three layers of at most 20 roundings each, of sums of magnitudes that are a few times the
    # output.
    np.testing.assert_allclose(bound, margin, atol=1e-4)
