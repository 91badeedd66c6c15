"""Bounds of an interrupted run: those that are not of whole batches of this run are made again."""

from __future__ import annotations

import numpy as np
import pytest

from cimrobust.certify.kept_samples import KeptBounds, KeptSamples
from cimrobust.finished_parts import FinishedParts

GROUPS = {1.0: np.arange(5), 0.5: np.arange(3)}


@pytest.mark.parametrize(
    ("count", "margins", "note"),
    [
        (6, 6, "it must hold whole batches"),
        (5, 4, "it must hold one bound a sample"),
        (9, 9, "it holds more samples than were asked for"),
        (7, 7, None),
        (4, 4, None),
    ],
)
def test_bounds_that_are_not_of_this_run_are_made_again(tmp_path, count, margins, note):
    parts = FinishedParts(tmp_path, "a")
    batch, settings = 2, ("linear", 1.0, None)
    name = KeptSamples.of(parts, GROUPS, batch=batch, settings=settings).name
    parts.keep(name, KeptBounds(np.ones(count, bool), np.zeros(margins)))
    found = KeptSamples.of(parts, GROUPS, batch=batch, settings=settings)
    assert found.num_samples == (count if note is None else 0)
    assert [note in text for text in parts.notes] == ([] if note is None else [True])
