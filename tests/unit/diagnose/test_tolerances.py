"""One network at several tolerances."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from cimrobust.attack.bisection import bisect
from cimrobust.attack.tolerances import at_tolerance, carried
from cimrobust.diagnose.tolerance_curve import TOLERANCE_CURVE
from cimrobust.engine.subject import Subject


def test_boxes_lie_in_each_other_and_patterns_keep_their_shares(small):
    small_box, large_box = (
        at_tolerance(Subject(*small), tolerance).box for tolerance in (0.02, 0.06)
    )
    corner = small_box.random_corner(np.random.default_rng(0))
    starts = carried(corner, small_box, large_box)
    for name in corner:
        assert np.array_equal(starts["as it is"][name], corner[name])
        np.testing.assert_allclose(
            starts["stretched"][name], 3 * corner[name], rtol=1e-5
        )  # bounds are rounded to float32
    back = carried(starts["stretched"], large_box, small_box)
    assert all(np.array_equal(back["as it is"][name], corner[name]) for name in corner)


def test_bisection_narrows_to_the_edge():
    low, high = bisect(lambda value: value < 0.3, low=0.0, high=1.0, steps=20, resolution=0.01)
    assert low < 0.3 <= high
    assert high - low <= 0.01 * high


def test_the_curve_falls_and_its_edges_are_facts(small, request_of):
    runtime, placement = small
    asked = request_of(runtime, placement, required=0.8)
    curve = TOLERANCE_CURVE.run(asked).result
    points = sorted([*curve.points, *curve.tried], key=lambda point: point.tolerance)
    assert all(first.score >= second.score for first, second in pairwise(points))
    assert curve.unrefuted < curve.refuted <= 1.06 * curve.unrefuted
    by_tolerance = {point.tolerance: point.score for point in points}
    assert by_tolerance[curve.refuted] < 0.8 <= by_tolerance[curve.unrefuted]
    assert by_tolerance[0.05] <= asked.found.score.value, "the search's own pattern counts"


@pytest.mark.parametrize(
    ("required", "unrefuted", "refuted"), [(0.0, 0.075, None), (1.01, 0.0, "smallest")]
)
def test_requirements_beyond_the_curve(small, request_of, required, unrefuted, refuted):
    curve = TOLERANCE_CURVE.run(request_of(*small, required=required)).result
    assert curve.unrefuted == pytest.approx(unrefuted)
    assert (curve.refuted is None) == (refuted is None)
