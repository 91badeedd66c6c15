"""What is charged for rounding covers float32 in any order, and is the formula that is cited."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from cimrobust.certify.rounding import (
    UNIT_FLOAT32,
    UNIT_FLOAT64,
    gamma,
    line_radius,
    product_radius,
    value_radius,
)


def test_units_are_half_the_distance_between_numbers() -> None:
    assert np.finfo(np.float32).eps / 2 == UNIT_FLOAT32
    assert np.finfo(np.float64).eps / 2 == UNIT_FLOAT64


@pytest.mark.parametrize(("terms", "unit"), [(1, 2.0**-24), (3, 0.125), (1000, 2.0**-24)])
def test_gamma_is_that_of_the_reference(terms: int, unit: float) -> None:
    exact = Fraction(terms) * Fraction(unit) / (1 - Fraction(terms) * Fraction(unit))
    assert gamma(terms, unit) == pytest.approx(float(exact), rel=1e-15)


def test_gamma_proves_nothing_from_one_half_on() -> None:
    assert gamma(3, 0.125) == pytest.approx(0.6)
    assert (gamma(4, 0.125), gamma(5, 0.125), gamma(9, 0.125)) == (math.inf,) * 3


@pytest.mark.parametrize("terms", [1, 2, 64, 4096])
def test_sums_in_any_order_are_within_the_radius(terms: int) -> None:
    generator = np.random.default_rng(terms)
    one, other = generator.normal(size=(2, 50, terms)).astype(np.float32)
    products = one.astype(np.float64) * other.astype(np.float64)
    exact = np.array([math.fsum(row) for row in products])
    radius = product_radius(torch.from_numpy(np.abs(products).sum(1)), terms).numpy()
    for order in (np.arange(terms), generator.permutation(terms)):
        summed = np.zeros(50, np.float32)
        for term in order:
            summed = summed + one[:, term] * other[:, term]
        assert summed.dtype == np.float32
        assert (np.abs(summed - exact) <= radius).all()


def test_a_worst_case_of_rounding_is_within_the_radius_and_not_far_from_it() -> None:
    """Every product of factors just above 1 is rounded by almost half a unit, all one way."""
    terms = 64
    magnitude = torch.tensor([float(terms)], dtype=torch.float64)
    radius = float(product_radius(magnitude, terms))
    worst = sum((1 + UNIT_FLOAT32) ** terms - 1 for _ in range(terms))
    # 8 roundings more for what engines fold into each other, and those of float64.
    assert worst <= radius
    assert radius == pytest.approx(
        terms
        * (
            (terms + 8) * UNIT_FLOAT32 / (1 - (terms + 8) * UNIT_FLOAT32)
            + (terms + 8 + 2**22) * UNIT_FLOAT64 / (1 - (terms + 8 + 2**22) * UNIT_FLOAT64)
        )
        + (terms + 8) * 2.0**-125,
        rel=1e-12,
    )


def test_an_elementwise_operator_rounds_once_and_what_is_folded_into_it() -> None:
    one = torch.ones(1, dtype=torch.float64)
    assert float(value_radius(one)) == pytest.approx(
        9 * UNIT_FLOAT32 / (1 - 9 * UNIT_FLOAT32) + (9 + 2**22) * UNIT_FLOAT64, rel=1e-8
    )


def test_numbers_that_are_flushed_to_zero_are_charged() -> None:
    smallest = float(np.finfo(np.float32).smallest_normal)
    nothing = torch.zeros(1, dtype=torch.float64)
    for terms in (1, 5):  # a term and its result, for every term and for what is folded in
        assert float(product_radius(nothing, terms)) == (terms + 8) * 2 * smallest


def test_a_line_is_within_what_float64_may_be_off() -> None:
    generator = np.random.default_rng(2)
    slope, value, shift = generator.normal(size=(3, 500))
    exact = [
        Fraction(a) * Fraction(b) + Fraction(c) for a, b, c in zip(slope, value, shift, strict=True)
    ]
    off = np.array(
        [
            abs(float(Fraction(made) - true))
            for made, true in zip(slope * value + shift, exact, strict=True)
        ]
    )
    magnitude = torch.from_numpy(np.abs(slope * value) + np.abs(shift))
    assert (off <= line_radius(magnitude).numpy()).all()
    assert line_radius(magnitude).numpy() == pytest.approx(
        1024 * UNIT_FLOAT64 * magnitude.numpy(), rel=1e-9
    )
