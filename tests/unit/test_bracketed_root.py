"""Roots against the library that takes long to import."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import optimize, special

from cimrobust.bracketed_root import bracketed_root


def _cases():
    """Return functions with brackets: smooth, steep, flat, with kinks, jumps and poles near by."""
    rng = np.random.default_rng(11)
    for _ in range(200):
        root, power = float(rng.uniform(-3, 3)), int(rng.integers(1, 8))
        ends = root - float(rng.exponential(4)), root + float(rng.exponential(4))
        yield lambda x, r=root, k=power: math.copysign(abs(x - r) ** k, x - r), *ends
        yield lambda x, r=root: math.atan(1e4 * (x - r)) + 1e-3 * (x - r), *ends[::-1]
        yield lambda x, r=root: math.expm1(x - r), *ends
        yield lambda x, r=root: -1.0 if x < r else 2.0, *ends
        yield lambda x, r=root: (x - r) * (2.0 if x > r else 1e-6), *ends[::-1]
        share, level = float(rng.uniform(0.01, 0.99)), float(rng.uniform(1e-3, 2))
        yield (
            lambda x, p=share, c=level: (
                float(special.rel_entr(p, x) + special.rel_entr(1 - p, 1 - x)) - c
            ),
            1e-300,
            share,
        )


@pytest.mark.parametrize("xtol", [1e-15, 1e-13, 1e-3])
def test_roots_are_those_of_scipy_to_the_last_bit(xtol):
    for case in _cases():
        expected, told = optimize.brentq(*case, xtol=xtol, full_output=True, disp=False)
        if told.converged:
            assert bracketed_root(*case, xtol=xtol) == expected
        else:
            with pytest.raises(ValueError, match="root must be found within 100 steps"):
                bracketed_root(*case, xtol=xtol)


@pytest.mark.parametrize("ends", [(2.0, 5.0), (-1.0, 2.0)])
def test_an_end_may_be_the_root(ends):
    assert bracketed_root(lambda x: x - 2.0, *ends, xtol=1e-12) == 2.0


def test_ends_of_one_sign_hold_no_root():
    with pytest.raises(ValueError, match="signs at both ends must differ, got 1 at 1 and 4 at 2"):
        bracketed_root(lambda x: x * x, 1.0, 2.0, xtol=1e-12)


def test_a_function_must_be_a_number():
    with pytest.raises(ValueError, match="function must be a number everywhere in the bracket"):
        bracketed_root(lambda x: x if abs(x) > 0.5 else math.nan, -1.0, 1.5, xtol=1e-12)


def test_steps_have_an_end():
    # A jump: every step only halves, and 1e300 would have to be halved 2000 times.
    with pytest.raises(ValueError, match="root must be found within 100 steps"):
        bracketed_root(lambda x: 1.0 if x > 0 else -1.0, -1e300, 1e300, xtol=5e-324)
