"""Largest certified tolerances as a certificate states them."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cimrobust.certificate.blocks.certified import largest_tolerance
from cimrobust.certify.octaves import OCTAVES
from cimrobust.certify.per_sample import PerSample

STATED = 0.03


def table(largest: list[float]) -> PerSample:
    count = len(largest)
    return PerSample(np.zeros(count, bool), np.ones(count, bool), np.array(largest))


_TOLERANCES = st.one_of(st.just(0.0), st.floats(1e-4, 0.4))


@given(st.lists(_TOLERANCES, min_size=1, max_size=40))
@settings(max_examples=80, deadline=None)
def test_each_share_of_the_samples_reaches_its_tolerance_and_no_larger_one(
    largest: list[float],
) -> None:
    made = largest_tolerance(table(largest), STATED, 8)
    assert (made.samples, made.steps_per_octave) == (len(largest), 8)
    assert made.uncertified == sum(value == 0 for value in largest)
    for row in made.held:
        needed = math.ceil(row.share * len(largest))
        place = row.tolerance_fraction or 0.0
        assert sum(value >= place for value in largest) >= needed
        larger = [value for value in largest if value > place]
        assert len(larger) < needed
        assert (row.tolerance_fraction is None) is (place == 0)


def test_samples_that_were_not_asked_are_not_counted() -> None:
    made = largest_tolerance(table([math.nan, 0.03, math.nan, 0.06]), STATED, 8)
    assert (made.samples, made.uncertified) == (2, 0)
    assert made.held == largest_tolerance(table([0.03, 0.06]), STATED, 8).held


def test_the_histogram_has_a_bin_an_octave_around_the_stated_tolerance() -> None:
    made = largest_tolerance(table([0.0, 0.02, 0.03, 0.05, 0.06]), STATED, 8)
    edges = made.histogram.edges
    assert len(edges) == OCTAVES[1] - OCTAVES[0] + 1
    assert [later / one for one, later in pairwise(edges)] == pytest.approx(
        [2.0] * (len(edges) - 1)
    )
    assert (made.smallest_tried, made.largest_tried) == (edges[0], edges[-1])
    place = edges.index(STATED)
    assert made.histogram.counts[place - 1 : place + 2] == [1, 2, 1]
    # What is not certified at all is in none of them.
    assert sum(made.histogram.counts) == 4
