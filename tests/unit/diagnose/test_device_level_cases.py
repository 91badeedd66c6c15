"""Stuck devices and selective verification of regressions and of chips with converters."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cimrobust.attack.attack_context import AttackContext
from cimrobust.attack.attack_plan import AttackPlan
from cimrobust.data.decision import Decision
from cimrobust.device.converter_tables import AdcTable, DacTable
from cimrobust.device.core_tables import DeviceTable
from cimrobust.device.profile import DeviceProfile
from cimrobust.device_level.stuck import StuckSettings, stuck_budget
from cimrobust.device_level.stuck_search import StuckEffort
from cimrobust.device_level.verification import VerifySettings
from cimrobust.device_level.write_verify import selective_verify
from cimrobust.engine.open import open_network
from cimrobust.engine.subject import Subject
from cimrobust.mapping.box import box_of
from cimrobust.mapping.place import place
from cimrobust.onnx_io.scan import scan_layers
from cimrobust.run import Run
from tests.unit.search.conftest import MLP, mlp_weights, samples

_STUCK = StuckSettings((1, 4), draws=3, effort=StuckEffort(exchanges=1, rounds=2))
_PLAN = AttackPlan(
    cooling=3, hinge=2, entropy=2, collapse=1, onward=2, evaluations=16, scores_zero=False
)
_VERIFY = VerifySettings((0.1, 0.4), draws=1, plan=_PLAN, rankings=("worst_case", "random"))


@pytest.fixture
def regression(opened):
    inputs, weights = samples(80, 6), mlp_weights()
    targets = (np.maximum(inputs @ weights["w1"] + weights["b1"], 0) @ weights["w2"]).astype(
        np.float32
    )
    return opened(
        MLP,
        weights,
        {"x": inputs},
        targets,
        decision=Decision(read="value", metric="rmse"),
        tolerance=0.1,
    )


@pytest.fixture
def converted(opened):
    plain, _ = opened(MLP, mlp_weights(), {"x": samples(60, 6)})
    profile = DeviceProfile(
        "test",
        "test",
        device=DeviceTable(tolerance=0.05, sigma=0.02),
        dac=DacTable(6, encoding="signed"),
        adc=AdcTable(8),
    )
    scan = scan_layers(plain.network)
    placement = place(scan, profile)
    return (
        open_network(plain.network, scan, placement, plain.dataset, calibration=plain.dataset),
        placement,
    )


def _context(runtime, placement) -> AttackContext:
    return AttackContext(Subject(runtime, placement), Run(effort="quick"))


def test_errors_rise_where_accuracy_would_fall(regression):
    runtime, placement = regression
    context = _context(runtime, placement)
    stuck = stuck_budget(context, box_of(placement).hi, settings=_STUCK).curves[0]
    errors = [stuck.base, *(point.score for point in stuck.points)]
    assert errors == sorted(errors)
    assert errors[-1] > stuck.points[-1].random_worst >= stuck.points[-1].random_mean
    made = selective_verify(context, box_of(placement).hi, settings=_VERIFY)
    first, second = (row for row in made.rows if row.ranking == "worst_case")
    assert second.score <= first.score <= made.base.value
    assert second.regained == pytest.approx(made.base.value - second.score)


def test_stuck_devices_are_scored_through_the_converters(converted):
    runtime, placement = converted
    found = stuck_budget(_context(runtime, placement), box_of(placement).hi, settings=_STUCK)
    curve = found.curves[0]
    assert curve.base == runtime.nominal.value
    assert curve.points[-1].score < curve.base
    point = curve.points[-1]
    assert point.correct == round(point.score * runtime.nominal.num_samples)


def test_verification_is_attacked_through_the_converters(converted):
    runtime, placement = converted
    context = _context(runtime, placement)
    box = box_of(placement)
    made = selective_verify(context, box.hi, settings=replace(_VERIFY, rankings=("worst_case",)))
    assert made.base.value <= runtime.score(box.weights(box.hi)).value
    assert [row.score for row in made.rows] == sorted(row.score for row in made.rows)
