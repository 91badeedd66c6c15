"""Normalisation: every float32 evaluation stays within its rounding, and its default axes."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from cimrobust.certify.interval import Interval
from cimrobust.certify.rounding import UNIT_FLOAT32, gamma
from cimrobust.certify.rules.layer_norm import LayerNorm, layer_norm, rms_norm
from tests.unit.certify.test_rules import node_of

EPSILON = 1e-5


def normalised(x: Tensor, *, is_centred: bool = True) -> Tensor:
    c = x - x.mean(-1, keepdim=True) if is_centred else x
    return c / torch.sqrt((c * c).mean(-1, keepdim=True) + EPSILON)


def off_by(x: Tensor, signs: tuple[int, ...], *, is_difference: bool) -> Tensor:
    """Return the normalisation with every float32 sum off as far as the model of rounding allows.

    Args:
        x: [samples, n].
        signs: Which way mean, centred values, variance and root are off.
        is_difference: The variance is the mean of squares less the square of the mean.
    """
    of_sum = gamma(x.shape[-1], UNIT_FLOAT32)
    mean = x.mean(-1, keepdim=True) + signs[0] * of_sum * x.abs().mean(-1, keepdim=True)
    c = (x - mean) * (1 + signs[1] * UNIT_FLOAT32)
    if is_difference:
        squares = (x * x).mean(-1, keepdim=True) * (1 + signs[2] * of_sum)
        variance = squares - mean * mean * (1 - signs[2] * UNIT_FLOAT32)
    else:
        variance = (c * c).mean(-1, keepdim=True) * (1 + signs[2] * of_sum)
    return c * torch.rsqrt(variance + EPSILON) * (1 + signs[3] * 4 * UNIT_FLOAT32)


DATA = {
    "alike": [1.0, 1.01, 0.99, 1.02, 0.98, 1.0, 1.0, 1.0],
    "a spike": [30.0, 0.1, -0.2, 0.05, 0.0, 0.1, -0.1, 0.2],
    "far from zero": [100.0, 101.0, 99.0, 100.5, 99.5, 100.0, 102.0, 98.0],
    "one side": [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 5.0],
    "small": [1e-4, -1e-4, 2e-4, 0.0, 0.0, 1e-4, 0.0, -2e-4],
}


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("is_difference", [False, True])
def test_sums_that_are_off_as_far_as_rounding_allows_are_within_the_radius(
    name: str, is_difference: bool
) -> None:
    x = torch.tensor([DATA[name]], dtype=torch.float64)
    made = LayerNorm(-1, EPSILON, is_centred=True).forward([Interval.point(x)])
    exact = normalised(x)
    for signs in itertools.product((-1, 1), repeat=4):
        found = off_by(x, signs, is_difference=is_difference)
        assert made.rounding is not None
        assert ((found - exact).abs() <= made.rounding).all()
        assert ((made.lo <= found) & (found <= made.hi)).all()


def test_a_variance_that_rounding_may_swallow_has_no_bound() -> None:
    x = torch.tensor([[1e4, 1e4 + 1e-3, 1e4 - 1e-3]], dtype=torch.float64)
    made = LayerNorm(-1, 1e-12, is_centred=True).forward([Interval.point(x)])
    assert made.rounding is not None
    assert made.rounding.isinf().all()


@pytest.mark.parametrize("size", [1e-2, 1.0, 1e3])
def test_gain_and_shift_scale_what_rounding_may_be(size: float) -> None:
    x = torch.tensor([DATA["a spike"]], dtype=torch.float64)
    gain, shift = torch.full((8,), -size), torch.full((8,), 3.0 * size)
    made = LayerNorm(-1, EPSILON, is_centred=True).forward(
        [Interval.point(x), gain.double(), shift.double()]
    )
    plain = LayerNorm(-1, EPSILON, is_centred=True).forward([Interval.point(x)])
    exact = gain * normalised(x) + shift
    assert ((made.lo <= exact) & (exact <= made.hi)).all()
    assert made.rounding is not None
    assert plain.rounding is not None
    assert (made.rounding >= size * plain.rounding - 1e-12).all()


@pytest.mark.parametrize("is_centred", [True, False])
@pytest.mark.parametrize("attributes", [{}, {"axis": -1}, {"axis": 2}])
def test_the_last_axis_alone_is_normalised(is_centred: bool, attributes: dict[str, Any]) -> None:
    op, make = ("LayerNormalization", layer_norm) if is_centred else ("RMSNormalization", rms_norm)
    x = torch.randn(2, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    made = make(node_of(op, attributes), torch.mul).forward([Interval.point(x)])
    exact = normalised(x, is_centred=is_centred)
    assert ((made.lo <= exact) & (exact <= made.hi)).all()
    assert (made.hi - made.lo).max() < 1e-3
