"""One network at several tolerances."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from cimrobust.attack.tolerances import at_tolerance, bisect, carried
from cimrobust.diagnose.tolerance_curve import TOLERANCE_CURVE
from cimrobust.mapping.box import box_of


def test_boxes_lie_in_each_other_and_patterns_keep_their_shares(small, case_of, settings):
    runtime, placement = small
    scan = case_of(runtime, placement, settings).scan
    small_box, large_box = (
        box_of(at_tolerance(runtime, scan, placement, tolerance)[1]) for tolerance in (0.02, 0.06)
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


def test_the_curve_falls_and_its_edges_are_facts(small, case_of, settings):
    runtime, placement = small
    asked = replace(settings, required=0.8)
    case = case_of(runtime, placement, asked)
    curve = TOLERANCE_CURVE.run(case, asked).result
    points = sorted([*curve.points, *curve.tried], key=lambda point: point.tolerance)
    assert all(first.score.value >= second.score.value for first, second in pairwise(points))
    assert curve.unrefuted < curve.refuted <= 1.06 * curve.unrefuted
    by_tolerance = {point.tolerance: point.score.value for point in points}
    assert by_tolerance[curve.refuted] < 0.8 <= by_tolerance[curve.unrefuted]
    assert by_tolerance[0.05] <= case.found.score.value, "the search's own pattern counts"


@pytest.mark.parametrize(
    ("required", "unrefuted", "refuted"), [(0.0, 0.075, None), (1.01, 0.0, "smallest")]
)
def test_requirements_beyond_the_curve(small, case_of, settings, required, unrefuted, refuted):
    asked = replace(settings, required=required)
    curve = TOLERANCE_CURVE.run(case_of(*small, asked), asked).result
    assert curve.unrefuted == pytest.approx(unrefuted)
    assert (curve.refuted is None) == (refuted is None)
