from __future__ import annotations

import numpy as np
import pytest

from cimrobust.errors import SelfCheckError
from cimrobust.mapping.box import Box
from cimrobust.search.unit import unit_box

NOMINAL = np.array([[1.0, -2.0], [0.0, 0.5]], np.float32)
LO = np.array([[-0.1, -0.3], [0.0, -0.2]], np.float32)
HI = np.array([[0.2, 0.1], [0.0, 0.7]], np.float32)


@pytest.fixture
def box() -> Box:
    return Box({"w": NOMINAL}, {"w": LO}, {"w": HI})


def test_corner_takes_the_bound_on_the_side_of_the_sign(box: Box) -> None:
    corner = box.corner({"w": np.array([[1e-9, -1e-9], [0.0, 0.0]], np.float32)})["w"]
    np.testing.assert_array_equal(corner, [[HI[0, 0], LO[0, 1]], [0.0, 0.0]])


def test_random_corners_are_corners_and_interior_points_are_inside(box: Box) -> None:
    generator = np.random.default_rng(0)
    for _ in range(20):
        corner = box.random_corner(generator)["w"]
        assert ((corner == LO) | (corner == HI)).all()
        box.check(box.random_interior(generator), origin="test")


def test_clip_brings_patterns_inside_and_removes_nan(box: Box) -> None:
    clipped = box.clip({"w": np.array([[9.0, -9.0], [np.nan, np.nan]], np.float32)})
    box.check(clipped, origin="test")
    np.testing.assert_array_equal(clipped["w"], [[HI[0, 0], LO[0, 1]], [0.0, 0.0]])


def test_weights_are_nominal_plus_deviation_in_float32(box: Box) -> None:
    pattern = {"w": HI}
    np.testing.assert_array_equal(box.weights(pattern)["w"], NOMINAL + HI)
    assert box.weights(pattern)["w"].dtype == np.float32


def test_check_names_the_first_weight_outside(box: Box) -> None:
    outside = HI.copy()
    outside[1, 1] = np.nextafter(HI[1, 1], np.float32(2))
    with pytest.raises(
        SelfCheckError,
        match=r"deviation of 'w' must lie in its tolerance interval.*at \[1, 1\] \(someone\)",
    ):
        box.check({"w": outside}, origin="someone")
    with pytest.raises(
        SelfCheckError, match=r"deviation of 'w' must be float32 of shape \(2, 2\), got float64"
    ):
        box.check({"w": HI.astype(np.float64)}, origin="someone")
    with pytest.raises(SelfCheckError, match=r"pattern must deviate exactly \['w'\], got \['v'\]"):
        box.check({"v": HI}, origin="someone")
    with pytest.raises(SelfCheckError, match=r"got \['v'\]"):
        box.check({"v": HI}, origin="someone")


def test_stretched_box_reaches_its_bounds_exactly_and_never_leaves(box: Box) -> None:
    space = unit_box(box)
    for pattern in ({"w": LO}, {"w": HI}):
        np.testing.assert_array_equal(space.pattern(space.unit(pattern))["w"].numpy(), pattern["w"])
    generator = np.random.default_rng(0)
    for _ in range(50):
        inside = box.random_interior(generator)
        back = space.pattern(space.unit(inside))["w"].numpy()
        box.check({"w": back}, origin="test")
        np.testing.assert_allclose(
            back, inside["w"], atol=1e-7
        )  # float32 rounding of numbers below 1
