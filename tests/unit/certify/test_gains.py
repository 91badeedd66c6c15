"""What narrowing, ascent, branching and warm starts gain, and that corners hold their chips."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from cimrobust.certify.backward import State
from cimrobust.certify.bounded_network import BoundedNetwork
from cimrobust.certify.bounds import bisection_rounds, certify, largest_certified_tolerance
from cimrobust.certify.branch import BranchSettings, prove
from cimrobust.certify.propagate import propagate
from cimrobust.certify.tighten import tightened
from cimrobust.mapping.placement import Placement
from tests.unit.certify.attack import Chip, corner
from tests.unit.certify.conftest import Maker
from tests.unit.certify.test_narrow import values_of
from tests.unit.certify.test_soundness import opened_bounds, random_chips
from tests.unit.search.conftest import Opener, samples


def state_of(network: BoundedNetwork, effort: float = 1e9, scale: float = 1.0) -> State:
    _some, inputs = next(network.batches(np.arange(8)))
    return propagate(network.plan, inputs, {}, network.weights(scale), effort=effort)


SIZES = (6, 16, 12, 10, 4)
DEEP = (
    '<ir_version: 8, opset_import: ["" : 13]> net (float[N, 6] x) => (float[N, 4] y)'
    " <float[6, 16] w1, float[16, 12] w2, float[12, 10] w3, float[10, 4] w4> {"
    " a = MatMul(x, w1) b = Relu(a) c = MatMul(b, w2) d = Relu(c)"
    " e = MatMul(d, w3) f = Relu(e) y = MatMul(f, w4) }"
)
#: Input of a ReLU behind a product of data that are not negative, and share weights.
THIRD = "e"


@pytest.fixture
def deep(opened: Opener) -> tuple[BoundedNetwork, Placement]:
    random = np.random.default_rng(3)
    weights = {
        f"w{index}": (1.4 * random.normal(size=size) / np.sqrt(size[0])).astype(np.float32)
        for index, size in enumerate(pairwise(SIZES), start=1)
    }
    runtime, placement = opened(DEEP, weights, {"x": samples(8, 6)})
    return opened_bounds(runtime, placement), placement


def with_weights_at(placement: Placement, chip: Chip, name: str, side: str) -> Chip:
    tensor = placement.tensors[name]
    return {**chip, name: corner(tensor.nominal, 1.0, getattr(tensor, side))}


def test_values_of_chips_with_their_own_weights_at_a_corner_stay_on_its_side(
    deep: tuple[BoundedNetwork, Placement],
) -> None:
    network, placement = deep
    for effort in (0.0, 1e9):
        data = state_of(network, effort).interval(THIRD)
        assert data.corners is not None
        for chip in random_chips(placement, 1.0, 60):
            low, high = (
                values_of(network, with_weights_at(placement, chip, "w3", side))[THIRD]
                for side in ("lo", "hi")
            )
            assert (low <= data.lower_side()[1] + 1e-12).all()
            assert (high >= data.upper_side()[0] - 1e-12).all()


def test_backward_passes_narrow_ends_and_corners(
    deep: tuple[BoundedNetwork, Placement],
) -> None:
    loose, tight = (state_of(deep[0], effort).interval(THIRD) for effort in (0.0, 1e9))
    assert loose.corners is not None
    assert tight.corners is not None
    gains = (
        tight.lo - loose.lo,
        loose.hi - tight.hi,
        loose.corners[0] - tight.corners[0],
        tight.corners[1] - loose.corners[1],
    )
    for gain in gains:
        assert (gain >= 0).all()
        assert gain.mean() > 0.5


def test_signs_of_inputs_tighten_bounds(deep: tuple[BoundedNetwork, Placement]) -> None:
    network, _placement = deep
    _some, inputs = next(network.batches(np.arange(8)))
    weights, data = network.weights(1.0), state_of(network).interval(THIRD)
    unit = torch.minimum(-data.lo, data.hi).argmax(1, keepdim=True)
    form = torch.randn(2, 8, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    better = 0
    for side in (1, -1):
        signs = {THIRD: torch.zeros_like(data.lo, dtype=torch.int8).scatter_(1, unit, side)}
        part = propagate(
            network.plan, inputs, {}, weights, effort=1e9, signs=signs, known={THIRD: data}
        )
        told, untold = (
            tightened(part, network.plan.tensor, form, passes=8, signs=known).bound
            for known in (signs, None)
        )
        better += int((told > untold + 1e-6).sum())
    assert better >= 3


def margin_proven(network: BoundedNetwork, needed: float, **settings: float) -> bool:
    """Tell whether a margin of the first sample is proven to exceed its plain bound by so much."""
    state = state_of(network)
    _some, inputs = next(network.batches(np.arange(8)))
    form = torch.zeros(1, 4, dtype=torch.float64)
    form[0, 0], form[0, 1] = 1.0, -1.0
    plain = tightened(state, network.plan.tensor, form.expand(8, 4)[None], passes=4).bound[0, :1]
    return bool(
        prove(
            state,
            inputs,
            {},
            network.weights(1.0),
            tensor=network.plan.tensor,
            form=form,
            samples=torch.tensor([0]),
            needed=plain + needed,
            settings=BranchSettings(**settings),  # type: ignore[arg-type]
        )[0]
    )


def test_what_needs_no_split_is_proven_where_none_is_allowed(make: Maker) -> None:
    network = opened_bounds(*make("mlp", seed=4))
    assert margin_proven(network, -1e-9, most_parts=1)
    assert not margin_proven(network, 1e-3, most_parts=1)


def test_more_parts_prove_more_and_a_network_that_costs_too_much_is_not_split(
    deep: tuple[BoundedNetwork, Placement],
) -> None:
    network, _placement = deep
    # Every split of all parts proves more: what it takes is given, and no less is enough.
    for needed, parts in ((0.0, 2), (0.5, 4), (1.25, 16), (1.75, 64)):
        assert margin_proven(network, needed, most_parts=parts)
        assert not margin_proven(network, needed, most_parts=parts // 2)
    assert not margin_proven(network, -1.0, most_cost=1.0)


def test_a_layer_that_is_off_on_every_chip_leaves_nothing_to_split(opened: Opener) -> None:
    text = (
        '<ir_version: 8, opset_import: ["" : 13]> net (float[N, 6] x) => (float[N, 4] y)'
        " <float[6, 12] w1, float[12, 8] w2, float[8] far, float[8, 4] w3> {"
        " h = MatMul(x, w1) r = Relu(h) g = MatMul(r, w2) a = Add(g, far) s = Relu(a)"
        " y = MatMul(s, w3) }"
    )
    random = np.random.default_rng(0)
    weights = {
        "w1": random.normal(size=(6, 12)).astype(np.float32),
        "w2": random.normal(size=(12, 8)).astype(np.float32),
        "far": np.full(8, -1e4, np.float32),
        "w3": random.normal(size=(8, 4)).astype(np.float32),
    }
    network = opened_bounds(*opened(text, weights, {"x": samples(8, 6)}))
    bounds = certify(network)
    assert not bounds.certified.any()
    # All scores are 0 on every chip: what is left is the charge of float32 rounding.
    np.testing.assert_allclose(bounds.margin, 0.0, atol=1e-8)
    assert margin_proven(network, -1e-9)
    assert not margin_proven(network, 1e-9)


OCTAVES, STEPS = (-2, 1), 3


def rounds_of(network: BoundedNetwork, known: np.ndarray | None = None) -> tuple[int, np.ndarray]:
    calls: list[None] = []
    found = largest_certified_tolerance(
        network,
        octaves=OCTAVES,
        steps=STEPS,
        known=known,
        branching=None,
        on_round=lambda: calls.append(None),
    )
    return len(calls), found


def test_a_bisection_takes_the_rounds_that_progress_is_told(make: Maker) -> None:
    network = opened_bounds(*make("mlp", seed=4, count=20))
    rounds, found = rounds_of(network)
    assert len(set(found)) > 2
    assert rounds == bisection_rounds(OCTAVES, STEPS) == 4


def test_what_is_known_is_not_asked_again(make: Maker) -> None:
    network = opened_bounds(*make("mlp", seed=4, count=20))
    _rounds, found = rounds_of(network)
    again, warm = rounds_of(network, known=found * (1 - 1e-12))
    np.testing.assert_array_equal(warm, found)
    assert again <= 4
    none, whole = rounds_of(network, known=np.full(20, 2.0 ** OCTAVES[1]))
    assert none == 0
    np.testing.assert_array_equal(whole, 2.0 ** OCTAVES[1])


@pytest.mark.parametrize(("octaves", "steps"), [((0, 1), 1), ((-10, 4), 16), ((-3, 0), 2)])
def test_rounds_halve_the_grid_with_both_its_ends(octaves: tuple[int, int], steps: int) -> None:
    gaps = steps * (octaves[1] - octaves[0]) + 2
    assert (
        2 ** (bisection_rounds(octaves, steps) - 1) < gaps <= 2 ** bisection_rounds(octaves, steps)
    )
