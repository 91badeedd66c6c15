"""Chips on which the deployed network computes an infinity or no number certify nothing."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch

from cimrobust.certify.bounded_network import BoundedNetwork, open_bounds
from cimrobust.certify.bounds import certify
from cimrobust.certify.interval import Interval
from cimrobust.certify.rounding import MOST_FLOAT32, mean_radius, product_radius
from tests.unit.search.conftest import Opener

#: A column of products is positive on the chip without deviations, and may be negative on others.
WEIGHT = np.array([[1, 2, 2, 2], [-1, 2, 2, 2], [1, 2, 2, 2], [-0.99, 2, 2, 2]], np.float32)
CONSTANTS = {
    "bias": np.arange(4, dtype=np.float32),
    "small": np.float32(1e-3),
    "one": np.float32(1),
    "many": np.float32(1e25),
    "ones": np.ones(4, np.float32),
    "step": np.float32(0.1),
    "zero": np.uint8(3),
    "low": np.full(4, np.finfo(np.float32).min, np.float32) * np.eye(4, dtype=np.float32)[2],
}


def bounds_behind(
    opened: Opener,
    body: str,
    weight: np.ndarray = WEIGHT,
    constants: Mapping[str, np.ndarray] = CONSTANTS,
) -> np.ndarray:
    """Return which samples are certified where a function of products hardly moves the scores."""
    used = {name: array for name, array in constants.items() if name in f"{body} small bias"}
    runtime, placement = opened(
        '<ir_version: 8, opset_import: ["" : 17]> net (float[N, 4] x) => (float[N, 4] y) {'
        f" h = MatMul(x, w)\n {body}\n m = Mul(f, small)\n y = Add(m, bias) }}",
        {"w": weight, **used},
        {"x": np.ones((3, 4), np.float32)},
        np.full(3, 3),
    )
    network = open_bounds(runtime, placement)
    assert isinstance(network, BoundedNetwork), network
    return certify(network).certified


BEHIND = {
    **{op: f"f = {op}(l)" for op in ("Sigmoid", "Relu", "Atan", "Sin", "HardSigmoid", "Softsign")},
    "Softmax": "f = Softmax<axis=1>(l)",
    "Clip": "f = Clip(l, small, one)",
    "Max": "k = Max(l, small)\n f = Min(k, one)",
    "ReduceMax": "k = ReduceMax<axes=[1]>(l)\n f = Sigmoid(k)",
    "LayerNormalization": "f = LayerNormalization(l, ones)",
    "quantiser": "k = QuantizeLinear(l, step, zero)\n f = DequantizeLinear(k, step, zero)",
}


@pytest.mark.parametrize("behind", BEHIND)
@pytest.mark.parametrize("op", ["Log", "Sqrt"])
def test_a_limited_function_of_what_may_be_no_number_is_no_number(
    opened: Opener, op: str, behind: str
) -> None:
    assert not bounds_behind(opened, f"l = {op}(h)\n {BEHIND[behind]}").any()


@pytest.mark.parametrize("behind", BEHIND)
def test_the_same_function_of_numbers_is_certified(opened: Opener, behind: str) -> None:
    assert bounds_behind(opened, f"l = Log(h)\n {BEHIND[behind]}", np.abs(WEIGHT)).all()


@pytest.mark.parametrize(
    "body",
    [
        "k = Mul(h, many)\n l = Mul(k, many)\n f = Tanh(l)",
        "k = Mul(h, many)\n l = Mul(k, k)\n f = Tanh(l)",
        "k = Mul(h, many)\n f = LayerNormalization(k, ones)",
    ],
)
def test_what_leaves_the_range_of_float32_is_not_certified(opened: Opener, body: str) -> None:
    assert not bounds_behind(opened, body, np.abs(WEIGHT)).any()


@pytest.mark.parametrize("exponent", [0.5, 1.5, -1.0])
def test_a_power_of_what_may_be_negative_is_no_number(opened: Opener, exponent: float) -> None:
    constants = {**CONSTANTS, "power": np.float32(exponent)}
    body = "l = Pow(h, power)\n f = Sigmoid(l)"
    assert not bounds_behind(opened, body, constants=constants).any()


def test_masks_that_are_added_up_stay_masks(opened: Opener) -> None:
    body = "k = Add(h, low)\n l = Add(k, low)\n f = Softmax<axis=1>(l)"
    assert bounds_behind(opened, body).all()


def test_terms_that_leave_float32_together_have_no_radius() -> None:
    size = torch.tensor([0.2, 0.999, 1.001], dtype=torch.float64) * MOST_FLOAT32
    assert product_radius(size, 4).isfinite().tolist() == [True, True, False]
    assert mean_radius(size, 4).isfinite().tolist() == [True, False, False]


def test_ends_beyond_float32_are_infinite_and_no_form_passes_them() -> None:
    lo, hi = torch.tensor([1e39, -1e39, 1.0]).double(), torch.tensor([1e40, 2.0, 2.0]).double()
    known = Interval(lo, hi).known()
    assert known.rounding is not None
    assert known.unknown.tolist() == known.rounding.isinf().tolist() == [True, True, False]


def test_minus_infinity_of_a_mask_is_known() -> None:
    mask = torch.tensor([-torch.inf, 0.0]).double()
    assert not Interval.point(mask).known().unknown.any()
