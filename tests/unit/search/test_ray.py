from __future__ import annotations

import numpy as np
import pytest

from cimrobust.engine.latent import REACH
from cimrobust.reliability.ray import first_failing


@pytest.mark.parametrize("start", [0.1, 0.99, 1.01, 30.0])
def test_the_chip_returned_fails_and_is_a_thousandth_beyond_the_crossing_at_most(
    start: float,
) -> None:
    ray = np.array([0.6, -0.8], dtype=np.float32)
    asked: list[np.ndarray] = []

    def event(point: np.ndarray) -> float:
        asked.append(point)
        return 1.0 - float(point @ ray) ** 3

    found = first_failing(event, np.float32(start) * ray, most=40)
    assert found is not None
    assert 1.0 <= found.norm <= 1.001
    assert event(found.latents) <= 0.0
    assert len(asked) <= 25


def test_latents_stop_at_the_end_of_the_tables() -> None:
    """The first coordinate can go no further than the tables, so the second has to do the rest, and
    then nothing is left.
    """

    def event(limit: float) -> float:
        found = first_failing(
            lambda point: limit - float(point.sum()),
            np.array([4.0, 1.0], dtype=np.float32),
            most=60,
        )
        if found is None:
            return np.inf
        assert float(np.abs(found.latents).max()) <= np.float32(REACH)
        return found.norm

    assert event(10.0) == pytest.approx(np.hypot(REACH, 10.0 - REACH), rel=2e-3)
    assert event(2 * REACH + 0.1) == np.inf


def test_nothing_is_found_on_no_ray() -> None:
    assert first_failing(lambda point: -1.0, np.zeros(3, dtype=np.float32), most=10) is None


def test_the_budget_is_kept() -> None:
    asked = []
    assert (
        first_failing(
            lambda point: asked.append(1) or 1.0, np.full(3, 1e-3, dtype=np.float32), most=7
        )
        is None
    )
    assert len(asked) == 7
