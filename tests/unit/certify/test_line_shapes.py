"""Lines around clipped and leaky functions touch where they can; the old Softmax of one axis."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cimrobust.certify.interval import Interval
from cimrobust.certify.refusal import CannotBoundError
from cimrobust.certify.rules.piecewise import clip_bends, clip_lines, leaky_lines
from cimrobust.certify.rules.softmax import softmax
from cimrobust.twin.ops.converter_registry import Node, Settings, find

_ENDS = st.tuples(st.floats(-6, 6), st.floats(1e-3, 6)).map(lambda pair: (pair[0], sum(pair)))


def tensor(value: float) -> Tensor:
    return torch.tensor([value], dtype=torch.float64)


def clipped(x: Tensor, low: float, high: float) -> Tensor:
    return x.clamp(low, high)


@given(_ENDS, _ENDS)
@settings(max_examples=150, deadline=None)
def test_lines_around_a_clip_hold_it_and_touch_it(
    limits: tuple[float, float], ends: tuple[float, float]
) -> None:
    low, high = limits
    lo, hi = map(tensor, ends)
    made = clip_lines(low, high, lo, hi)
    # Corners of the function are where a line could leave it.
    x = torch.cat([lo, hi, tensor(low).clamp(lo, hi), tensor(high).clamp(lo, hi)])
    y = clipped(x, low, high)
    below = y - (made.lower_slope * x + made.lower_shift)
    above = made.upper_slope * x + made.upper_shift - y
    for gap in (below, above):
        assert (gap >= -1e-9).all()
        assert gap.min() <= 1e-9
    assert 0 <= made.lower_slope.item() <= 1 + 1e-9
    assert 0 <= made.upper_slope.item() <= 1 + 1e-9
    if not bool(clip_bends(low, high, lo, hi)):
        assert max(below.max(), above.max()) <= 1e-9


@pytest.mark.parametrize(
    ("lo", "hi", "is_bent"),
    [
        (-2.0, -1.0, False),
        (-1.0, 2.0, False),
        (2.0, 3.0, False),
        (-1.5, 0.0, True),
        (0.0, 2.5, True),
        (-2.0, 3.0, True),
    ],
)
def test_a_clip_bends_where_an_interval_passes_a_limit(lo: float, hi: float, is_bent: bool) -> None:
    assert bool(clip_bends(-1.0, 2.0, tensor(lo), tensor(hi))) is is_bent


@given(st.sampled_from([-0.5, 0.0, 0.1, 0.5, 1.0]), _ENDS)
@settings(max_examples=100, deadline=None)
def test_lines_around_a_leaky_rectifier_hold_it_and_touch_it(
    slope: float, ends: tuple[float, float]
) -> None:
    lo, hi = map(tensor, ends)
    made = leaky_lines(slope, lo, hi)
    x = torch.cat([lo, hi, tensor(0.0).clamp(lo, hi)])
    y = torch.maximum(x, slope * x)
    gaps = (
        y - (made.lower_slope * x + made.lower_shift),
        made.upper_slope * x + made.upper_shift - y,
    )
    for gap in gaps:
        assert (gap >= -1e-9).all()
        assert gap.min() <= 1e-9


def old_softmax(axis: int, x: Interval) -> Interval:
    node = Node("s", "Softmax", "", 11, {"axis": axis}, ("x",), ("y",), (1,), (), Settings())
    converter = find("", "Softmax", 11)
    assert converter is not None
    return softmax(node, converter(node)).forward([x])


def point(*shape: int) -> Interval:
    values = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return Interval.point(values)


@pytest.mark.parametrize(("axis", "shape"), [(1, (3, 4)), (-1, (3, 4)), (2, (3, 2, 4))])
def test_the_old_softmax_is_that_of_its_last_axis(axis: int, shape: tuple[int, ...]) -> None:
    data = point(*shape)
    made, wanted = old_softmax(axis, data), torch.softmax(data.lo, -1)
    assert (made.lo <= wanted).all()
    assert (wanted <= made.hi).all()
    assert (made.hi - made.lo).max() < 1e-4


@pytest.mark.parametrize(("axis", "shape"), [(1, (3, 2, 4)), (0, (3, 4)), (-2, (3, 4))])
def test_over_several_axes_or_the_samples_it_is_refused(axis: int, shape: tuple[int, ...]) -> None:
    with pytest.raises(CannotBoundError, match="over several axes or over the samples"):
        old_softmax(axis, point(*shape))
