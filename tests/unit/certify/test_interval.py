"""Intervals of tensors: what they contain, and what operations on them keep."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cimrobust.certify.interval import Interval, chord_of_absolute, flat

INF, NAN = math.inf, math.nan
_ENDS = st.lists(
    st.tuples(st.floats(-8, 8), st.floats(0, 4)).map(lambda pair: (pair[0], sum(pair))),
    min_size=1,
    max_size=6,
)
_SHARES = st.floats(0, 1)


def tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def interval(ends: list[tuple[float, float]]) -> Interval:
    return Interval(tensor(*(lo for lo, _ in ends)), tensor(*(hi for _, hi in ends)))


def test_rounding_widens_both_ends_and_is_kept() -> None:
    made = Interval.rounded(tensor(1.0, 2.0), tensor(1.0, 5.0), tensor(0.5, 0.25))
    assert made.lo.tolist() == [0.5, 1.75]
    assert made.hi.tolist() == [1.5, 5.25]
    assert made.rounding is not None
    assert made.rounding.tolist() == [0.5, 0.25]


@pytest.mark.parametrize("radius", [INF, NAN])
def test_what_a_mask_took_out_is_rounded_by_nothing(radius: float) -> None:
    made = Interval.rounded(tensor(-INF, -INF, 1.0), tensor(-INF, 2.0, 2.0), tensor(radius, INF, 0))
    assert made.lo.tolist() == [-INF, -INF, 1.0]
    assert made.hi.tolist() == [-INF, INF, 2.0]
    assert made.rounding is not None
    assert made.rounding.tolist() == [0.0, INF, 0.0]


def test_an_end_that_is_no_number_may_be_anything() -> None:
    made = Interval(tensor(NAN, 0.0, 1.0), tensor(1.0, NAN, 2.0), tensor(NAN, 0.5, 0.0)).known()
    assert made.lo.tolist() == [-INF, 0.0, 1.0]
    assert made.hi.tolist() == [1.0, INF, 2.0]
    assert made.rounding is not None
    assert made.rounding.tolist() == [INF, INF, 0.0]


@pytest.mark.parametrize(
    ("lo", "hi", "known"),
    [(NAN, NAN, (-INF, INF)), (0.0, NAN, (0.0, INF)), (NAN, 0.0, (-INF, 0.0))],
)
def test_one_end_that_is_no_number_is_enough(
    lo: float, hi: float, known: tuple[float, float]
) -> None:
    made = Interval(tensor(lo), tensor(hi)).known()
    assert (made.lo.item(), made.hi.item()) == known
    assert made.rounding is not None
    assert made.rounding.item() == INF


def test_no_form_is_pulled_back_through_what_may_be_infinite() -> None:
    made = Interval(tensor(-INF, 0.0, 1.0, -INF), tensor(0.0, INF, 2.0, -INF)).known()
    assert made.lo.tolist() == [-INF, 0.0, 1.0, -INF]
    assert made.hi.tolist() == [0.0, INF, 2.0, -INF]
    assert made.rounding is not None
    assert made.rounding.tolist() == [INF, INF, 0.0, 0.0]


def test_ends_beyond_float32_are_infinite() -> None:
    made = Interval(tensor(-1e39, 1.0), tensor(1.0, 1e39)).known()
    assert (made.lo.tolist(), made.hi.tolist()) == ([-INF, 1.0], [1.0, INF])


def test_moderate_ends_stay_as_they_are() -> None:
    made = Interval(tensor(-1.0, 0.0), tensor(0.0, 2.0))
    assert made.known() is made


@given(_ENDS, _SHARES)
@settings(max_examples=60, deadline=None)
def test_middle_radius_and_magnitude_describe_the_ends(
    ends: list[tuple[float, float]], share: float
) -> None:
    made = interval(ends)
    inside = made.lo + share * (made.hi - made.lo)
    # Two roundings of numbers below 16.
    assert ((inside - made.middle).abs() <= made.radius + 1e-14).all()
    assert (inside.abs() <= made.magnitude + 1e-14).all()
    assert made.is_nonnegative == (min(lo for lo, _ in ends) >= 0)
    assert made.is_point == all(lo == hi for lo, hi in ends)


def test_a_point_has_no_radius_and_stays_one_when_it_is_moved() -> None:
    point = Interval.point(tensor(-1.0, 3.0))
    assert point.is_point
    assert point.radius.tolist() == [0.0, 0.0]
    assert point.middle is point.lo
    moved = point.moved(lambda x: x.flip(0))
    assert moved.lo is moved.hi
    assert moved.lo.tolist() == [3.0, -1.0]


def test_both_ends_are_moved() -> None:
    moved = interval([(0.0, 1.0), (2.0, 5.0)]).moved(lambda x: x.flip(0))
    assert (moved.lo.tolist(), moved.hi.tolist()) == ([2.0, 0.0], [5.0, 1.0])


@given(_ENDS.flatmap(lambda ends: st.tuples(*2 * [st.permutations(ends)])), _SHARES)
@settings(max_examples=60, deadline=None)
def test_what_lies_in_two_intervals_lies_in_their_common_part(
    both: tuple[list[tuple[float, float]], list[tuple[float, float]]], share: float
) -> None:
    one, other = (interval(ends) for ends in both)
    made = one.within(other)
    inside = one.lo + share * (one.hi - one.lo)
    common = (inside >= other.lo) & (inside <= other.hi)
    assert ((made.lo <= inside) & (inside <= made.hi))[common].all()
    assert ((one.lo <= made.lo) & (made.hi <= one.hi)).all()
    meet = (one.lo <= other.hi) & (other.lo <= one.hi)
    assert ((other.lo <= made.lo) & (made.hi <= other.hi))[meet].all()
    apart = ~meet
    assert torch.equal(made.lo[apart], one.lo[apart])
    assert torch.equal(made.hi[apart], one.hi[apart])


def test_intervals_that_touch_have_one_point_in_common() -> None:
    made = interval([(0.0, 1.0), (2.0, 3.0)]).within(interval([(1.0, 2.0), (1.0, 2.0)]))
    assert made.lo.tolist() == made.hi.tolist() == [1.0, 2.0]


def test_the_common_part_keeps_rounding_and_the_better_of_two_corners() -> None:
    one = Interval(tensor(0.0), tensor(9.0), tensor(0.1), (tensor(4.0), tensor(5.0)))
    other = Interval(tensor(0.0), tensor(9.0), tensor(0.2), (tensor(3.0), tensor(6.0)))
    made = one.within(other)
    assert made.rounding is one.rounding
    for first, second in ((one, other), (other, one)):
        assert first.within(second).corners == (tensor(3.0), tensor(6.0))
    assert one.within(interval([(1.0, 2.0)])).corners == one.corners


def test_a_sign_cuts_only_what_has_both() -> None:
    ends = [(-1.0, 2.0), (-3.0, -1.0), (1.0, 3.0), (0.0, 2.0), (-2.0, 0.0)]
    rounding, corners = torch.zeros(5), (torch.zeros(5), torch.ones(5))
    made = Interval(interval(ends).lo, interval(ends).hi, rounding, corners)
    up = made.of_sign(torch.ones(5, dtype=torch.int8))
    down = made.of_sign(-torch.ones(5, dtype=torch.int8))
    as_it_was = made.of_sign(torch.zeros(5, dtype=torch.int8))
    assert (up.lo.tolist(), up.hi.tolist()) == ([0.0, -3, 1, 0, -2], [2.0, -1, 3, 2, 0])
    assert (down.lo.tolist(), down.hi.tolist()) == ([-1.0, -3, 1, 0, -2], [0.0, -1, 3, 2, 0])
    assert (as_it_was.lo.tolist(), as_it_was.hi.tolist()) == (made.lo.tolist(), made.hi.tolist())
    assert up.rounding is down.rounding is rounding
    assert up.corners is down.corners is corners


def test_some_samples_have_their_own_ends_rounding_and_corners() -> None:
    values = torch.arange(3.0, dtype=torch.float64)
    made = Interval(values, values + 4, values + 1, (values + 2, values + 3))
    part = made.part(torch.tensor([2, 0]))
    assert part.rounding is not None
    assert part.corners is not None
    found = [part.lo, part.hi, part.rounding, *part.corners]
    assert [each.tolist() for each in found] == [[2, 0], [6, 4], [3, 1], [4, 2], [5, 3]]
    bare = Interval(values, values + 4).part(torch.tensor([1]))
    assert (bare.rounding, bare.corners) == (None, None)


def test_sides_are_the_ends_where_no_corner_is_known() -> None:
    made = interval([(1.0, 2.0)])
    assert made.lower_side() == made.upper_side() == (made.lo, made.hi)


@pytest.mark.parametrize(
    ("corners", "lower", "upper"),
    [
        ((3.0, 6.0), (1.0, 3.0), (6.0, 9.0)),
        ((0.0, 0.0), (1.0, 1.0), (1.0, 9.0)),
        ((10.0, 10.0), (1.0, 9.0), (9.0, 9.0)),
    ],
)
def test_sides_end_at_the_corners_and_never_leave_the_interval(
    corners: tuple[float, float], lower: tuple[float, float], upper: tuple[float, float]
) -> None:
    made = Interval(tensor(1.0), tensor(9.0), None, (tensor(corners[0]), tensor(corners[1])))
    assert tuple(end.item() for end in made.lower_side()) == lower
    assert tuple(end.item() for end in made.upper_side()) == upper


@pytest.mark.parametrize(
    ("shape", "leading", "wanted"),
    [((2, 3, 4), 1, (2, 12)), ((2, 3, 4), 2, (2, 3, 4)), ((2,), 1, (2, 1)), ((0, 3), 1, (0, 3))],
)
def test_axes_behind_the_leading_ones_become_one(
    shape: tuple[int, ...], leading: int, wanted: tuple[int, ...]
) -> None:
    assert flat(torch.zeros(shape), leading).shape == wanted


@given(st.floats(-8, 8), st.one_of(st.just(0.0), st.floats(1e-12, 8)), st.floats(-1, 1))
@settings(max_examples=200, deadline=None)
def test_the_line_above_an_absolute_value_goes_through_both_ends(
    middle: float, radius: float, share: float
) -> None:
    slope, shift = chord_of_absolute(tensor(middle), tensor(radius))
    x = middle + share * radius
    assert slope.item() * x + shift.item() >= abs(x) - 1e-13
    if radius:
        for end in (middle - radius, middle + radius):
            assert slope.item() * end + shift.item() == pytest.approx(abs(end), abs=1e-12)
    if abs(middle) >= radius > 0:
        assert (slope.item(), shift.item()) == (math.copysign(1.0, middle), 0.0)
