"""Inputs that break first."""

from __future__ import annotations

import numpy as np
import pytest

from cimrobust.diagnose.diagnose_records import OWN_CHIP
from cimrobust.diagnose.fragile_inputs import FRAGILE_INPUTS
from cimrobust.diagnose.run_diagnostics import diagnose
from cimrobust.engine.subject import Subject
from cimrobust.run import Run
from tests.unit.search.conftest import MLP, mlp_weights, samples


def test_breaking_shares_of_a_single_layer_are_exact(opened, request_of):
    """One layer, one-hot inputs: input i breaks where the box times the share reaches half its
    margin, so at share margin / (2 * 0.05).
    """
    text = """<ir_version: 8, opset_import: ["" : 13]> net (float[N, 8] x) => (float[N, 2] y) <float[8, 2] w> { y = MatMul(x, w) }"""  # noqa: E501
    gaps = np.array([0.02, 0.05, 0.08, 0.12, 0.3, 0.5, 0.7, 1.0])
    weights = np.stack([gaps, np.zeros(8)], axis=1).astype(np.float32)
    runtime, placement = opened(
        text,
        {"w": weights},
        {"x": np.eye(8, dtype=np.float32)},
        np.zeros(8, dtype=np.int64),
        tolerance=0.05,
    )
    rows = FRAGILE_INPUTS.run(request_of(runtime, placement)).result.rows
    assert [row.sample for row in rows] == [0, 1, 2], "others are out of reach"
    for row in rows:
        stored = placement.tensors["w"].nominal[row.sample]
        edge = (stored[0] - stored[1]) / (2 * 0.05)
        assert edge <= row.share * (1 + 1e-5)
        assert row.share <= edge * 1.03, "bisection stops at 2 %"
        assert row.certified_share <= edge * (1 + 1e-5)
        assert row.certified_share >= edge / 1.05, (
            "one layer is bounded exactly, on a grid of 16 steps an octave"
        )
        assert (row.label, row.becomes) == (0, 1)
        assert row.margin == pytest.approx(stored[0] - stored[1], rel=1e-5)


def test_inputs_that_all_break_early_leave_nothing_to_follow(opened, request_of):
    text = """<ir_version: 8, opset_import: ["" : 13]> net (float[N, 1] x) => (float[N, 2] y) <float[1, 2] w> { y = MatMul(x, w) }"""  # noqa: E501
    data = np.linspace(1, 2, 24, dtype=np.float32)[:, None]
    runtime, placement = opened(
        text,
        {"w": np.array([[1.0, 0.99]], np.float32)},
        {"x": data},
        np.zeros(24, dtype=np.int64),
        tolerance=0.05,
    )
    found = FRAGILE_INPUTS.run(request_of(runtime, placement)).result
    assert found.broken == 24


def test_rows_are_facts_and_sorted(small, request_of):
    runtime, placement = small
    found = FRAGILE_INPUTS.run(request_of(runtime, placement)).result
    shares = [row.share for row in found.rows]
    assert len(shares) == 20
    assert shares == sorted(shares)
    assert any(row.pattern == OWN_CHIP for row in found.rows)
    for row in found.rows:
        assert row.becomes != row.label
        assert row.certified_share is None or row.certified_share <= row.share * (1 + 1e-6)


def test_all_diagnostics_do_not_depend_on_the_number_of_workers(opened, request_of):
    runtime, placement = opened(MLP, mlp_weights(), {"x": samples(70, 6)})
    found = request_of(runtime, placement).found
    results = []
    for workers in (1, 3):
        run = Run(workers=workers, effort="quick")
        names = ["layers", "classes", "transfer", "tolerance_curve", "fragile_inputs"]
        outcomes = diagnose(Subject(runtime, placement), run, found, names, safety_class=1).outcomes
        results.append(
            [
                (outcome.name, repr(outcome.result), outcome.passes, outcome.evaluations)
                for outcome in outcomes
            ]
        )
    assert results[0] == results[1]
