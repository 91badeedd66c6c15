"""Cases with a fault that a diagnostic has to find."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from cimrobust.attack.attack_context import AttackContext
from cimrobust.attack.diagnosis_protocol import DiagnosisRequest
from cimrobust.engine.open import Runtime
from cimrobust.engine.subject import Subject
from cimrobust.mapping.placement import Placement
from cimrobust.run import Run
from cimrobust.search.ensemble import search
from tests.unit.search.conftest import MLP, opened, small  # noqa: F401


@pytest.fixture
def request_of() -> Callable[..., DiagnosisRequest]:
    """Search a network at effort quick and hand over what diagnostics are given."""

    def maker(runtime: Runtime, placement: Placement, **asked: Any) -> DiagnosisRequest:
        context = AttackContext(Subject(runtime, placement), Run(effort="quick"))
        return DiagnosisRequest(context, search(context.subject, context.run), **asked)

    return maker


@pytest.fixture
def one_fragile_layer(opened) -> tuple[Runtime, Placement]:  # noqa: F811
    """A small network whose second layer has one weight that is large and reads a silent unit, so
    that the box of its other weights is wide.
    """
    generator = np.random.default_rng(3)
    weights = {
        "w1": np.where(generator.random((6, 12)) < 0.5, -1, 1).astype(np.float32),
        "b1": np.full(12, 0.1, np.float32),
        "w2": np.where(generator.random((12, 4)) < 0.5, -1, 1).astype(np.float32),
    }
    weights["w1"][:, 0], weights["b1"][0], weights["w2"][0, 0] = 0.0, -1.0, 40.0
    return opened(
        MLP, weights, {"x": generator.normal(size=(120, 6)).astype(np.float32)}, tolerance=0.03
    )


@pytest.fixture
def one_fragile_class(opened) -> tuple[Runtime, Placement]:  # noqa: F811
    """Four classes told apart by one input each; of class 3 the weight is so small that its box
    holds a chip on which others win, all else is out of reach.
    """
    text = """<ir_version: 8, opset_import: ["" : 13]> net (float[N, 4] x) => (float[N, 4] y) <float[4, 4] w> { y = MatMul(x, w) }"""  # noqa: E501
    weights = {"w": np.diag([1.0, 1.0, 1.0, 0.06]).astype(np.float32)}
    labels = np.arange(80) % 4
    return opened(text, weights, {"x": np.eye(4, dtype=np.float32)[labels]}, labels, tolerance=0.05)
