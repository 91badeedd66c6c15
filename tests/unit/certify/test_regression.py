"""The certified error of a regression: no chip of the box exceeds it, whatever the metric."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

import cimrobust.certify.bound_summary as summary
from cimrobust.certify.bound_summary import certify_run
from cimrobust.certify.bounds import Bounds
from cimrobust.certify.per_sample import per_sample
from cimrobust.data.decision import Decision
from cimrobust.engine.open import Runtime
from cimrobust.engine.subject import Subject
from cimrobust.mapping.placement import Placement
from cimrobust.run import Run

Opened = tuple[Runtime, Placement]
TEXT = """<ir_version: 8, opset_import: ["" : 20]>
net (float[N, 6] x) => (float[N, 1] y) <float[6, 9] w1, float[9, 7] w2, float[7, 1] w3>
{ h = MatMul(x, w1) r = Relu(h) g = MatMul(r, w2) s = Relu(g) y = MatMul(s, w3) }"""
QUICK = Run(effort="quick", workers=1)
METRICS = ("mae", "mse", "rmse", "max_error")


@pytest.fixture
def measured(opened: Callable[..., Opened]) -> Callable[[str], Opened]:
    """Open a small network on twelve samples whose targets it misses."""
    random = np.random.default_rng(0)
    weights = {
        "w1": random.normal(size=(6, 9)).astype(np.float32),
        "w2": 0.4 * random.normal(size=(9, 7)).astype(np.float32),
        "w3": random.normal(size=(7, 1)).astype(np.float32),
    }
    inputs = {"x": random.normal(size=(12, 6)).astype(np.float32)}
    targets = random.normal(size=12).astype(np.float32)

    def opener(metric: str) -> Opened:
        return opened(
            TEXT, weights, inputs, targets, decision=Decision(read="value", metric=metric)
        )

    return opener


def error_of(runtime: Runtime, weights: dict[str, np.ndarray]) -> float:
    """The metric of one chip."""
    return runtime.task.score(runtime.outputs(weights)).value


@pytest.mark.parametrize("metric", METRICS)
def test_no_chip_exceeds_the_certified_error(
    measured: Callable[[str], Opened], metric: str
) -> None:
    runtime, placement = measured(metric)
    found = certify_run(Subject(runtime, placement), QUICK)
    random, worst = np.random.default_rng(1), 0.0
    for _ in range(60):
        ends = {
            name: np.where(random.random(tensor.lo.shape) < 0.5, tensor.lo, tensor.hi)
            for name, tensor in placement.tensors.items()
        }
        weights = {name: placement.nominal()[name] + part for name, part in ends.items()}
        worst = max(worst, error_of(runtime, weights))
    assert found.score is not None
    assert error_of(runtime, placement.nominal()) < worst <= found.score.value
    # Linear bounds of a network this small are not far off.
    assert found.score.value < 40 * worst


def test_metrics_are_bounded_by_their_own_formulas(measured: Callable[[str], Opened]) -> None:
    value = {
        metric: certify_run(Subject(*measured(metric)), QUICK).score.value  # type: ignore[union-attr]
        for metric in METRICS
    }
    assert value["mae"] <= value["rmse"] <= value["max_error"]
    # 1e-8: each is raised by 1e-9 for the rounding of its sum, and a square doubles that.
    assert value["rmse"] ** 2 == pytest.approx(value["mse"], rel=1e-8)


def test_a_larger_box_has_a_larger_error(measured: Callable[[str], Opened]) -> None:
    found = certify_run(Subject(*measured("rmse")), QUICK)
    errors = [point.score.value for point in found.curve]
    assert [point.scale for point in found.curve] == list(summary.CURVE)
    assert errors == sorted(errors)
    assert errors[0] < errors[-1]


def test_no_sample_of_a_regression_is_certified(measured: Callable[[str], Opened]) -> None:
    found = certify_run(Subject(*measured("mae")), QUICK)
    assert found.certified is None
    assert per_sample(found, 0.05) is None


def test_one_error_without_a_bound_leaves_the_metric_without_one(
    measured: Callable[[str], Opened], monkeypatch: pytest.MonkeyPatch
) -> None:
    certify = summary.certify

    def unbounded(*arguments: object, **options: object) -> Bounds:
        bounds = certify(*arguments, **options)  # type: ignore[arg-type]
        margin = bounds.margin.copy()
        margin[0] = -np.inf
        return replace(bounds, margin=margin)

    monkeypatch.setattr(summary, "certify", unbounded)
    found = certify_run(Subject(*measured("rmse")), QUICK)
    assert found.score is not None
    assert found.score.value == np.inf


def test_a_regression_too_costly_for_linear_bounds_is_bounded_by_intervals(
    measured: Callable[[str], Opened], monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = Subject(*measured("rmse"))
    linear = certify_run(subject, QUICK)
    monkeypatch.setattr(summary, "_MOST_ERRORS", {"quick": 3})
    found = certify_run(subject, QUICK)
    assert found.method.startswith("Interval propagation alone for the score of all samples")
    assert found.score is not None
    assert linear.score is not None
    assert found.score.value > linear.score.value
