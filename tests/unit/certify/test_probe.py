"""Networks that are taken for hopeless after a few samples."""

from __future__ import annotations

import numpy as np
import pytest

from cimrobust.certify.bound_summary import Certification, certify_run
from cimrobust.engine.subject import Subject
from cimrobust.run import Run
from tests.unit.search.conftest import Opener

TEXT = """<ir_version: 8, opset_import: ["" : 13]> net (float[N, 2] x) => (float[N, 2] y) <float[2, 2] w> { y = MatMul(x, w) }"""  # noqa: E501


def certified(opened: Opener, hard: int) -> Certification:
    """Eight samples, the first of which any chip can break, the others none."""
    data = np.ones((8, 2), np.float32)
    data[:hard, 1] = -1 + 1e-5
    weights = np.array([[1.0, 0.0], [1.0, 0.0]], np.float32)
    runtime, placement = opened(
        TEXT, {"w": weights}, {"x": data}, np.zeros(8, dtype=np.int64), tolerance=0.05
    )
    return certify_run(Subject(runtime, placement), Run(effort="quick"))


@pytest.mark.parametrize("hard", [0, 2])
def test_one_sample_that_holds_is_reason_to_try_all(opened: Opener, hard: int) -> None:
    found = certified(opened, hard)
    assert found.certified is not None
    assert found.certified.tolist() == [False] * hard + [True] * (8 - hard)
    assert "not tried" not in found.method


def test_samples_behind_three_that_fail_are_not_tried_and_said_to_be_so(opened: Opener) -> None:
    found = certified(opened, 3)
    assert found.certified is not None
    assert found.tried is not None
    assert not found.certified.any()
    assert found.tried.tolist() == [True] * 3 + [False] * 5
    assert "5 samples were not tried" in found.method
