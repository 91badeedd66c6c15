"""Selective write-verify: boxes of devices that are verified more tightly, rankings, and what they
buy.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from cimrobust.attack.attack_context import AttackContext
from cimrobust.attack.attack_plan import AttackPlan
from cimrobust.device.core_tables import DeviceTable, WeightTable
from cimrobust.device.curve import Curve
from cimrobust.device.effect_tables import DriftTable
from cimrobust.device.intervals import level_bounds
from cimrobust.device.profile import DeviceProfile
from cimrobust.device.profile_changes import with_tolerance
from cimrobust.device.window import WindowTable
from cimrobust.device_level.device_list import write_device_list
from cimrobust.device_level.ranked_devices import DeviceSpace
from cimrobust.device_level.rankings import by_curvature, by_gain, by_magnitude, by_worst_curvature
from cimrobust.device_level.tightening import Tightening
from cimrobust.device_level.verification import VerifySettings
from cimrobust.device_level.write_cycles import WriteCycles
from cimrobust.device_level.write_verify import chosen_devices, selective_verify
from cimrobust.engine.subject import Subject
from cimrobust.errors import UsageError
from cimrobust.mapping.box import box_of
from cimrobust.mapping.device_levels import fold_levels, target_levels, whole_levels
from cimrobust.mapping.place import place
from cimrobust.onnx_io.layers import CrossbarLayer, LayerScan
from cimrobust.onnx_io.scan import scan_layers
from cimrobust.run import Run
from cimrobust.search.losses import CrossEntropy
from cimrobust.seeds import stream
from tests.unit.search.conftest import mlp_weights, samples

_PLAN = AttackPlan(
    cooling=4, hinge=2, entropy=2, collapse=1, onward=4, evaluations=16, scores_zero=False
)
_FEW = VerifySettings((0.05, 0.3), draws=2, plan=_PLAN)


def profile(mapping="sign_magnitude", device=None, **tables) -> DeviceProfile:
    return DeviceProfile(
        "p",
        "test",
        weight=WeightTable(8, "tensor", mapping),
        device=device or DeviceTable(tolerance=0.03, sigma=0.01),
        **tables,
    )


def space_of(chosen: DeviceProfile) -> DeviceSpace:
    values = np.random.default_rng(3).normal(size=(9, 7)).astype(np.float32)
    column = np.ascontiguousarray(np.broadcast_to(np.arange(7, dtype=np.int32), (9, 7)))
    scan = LayerScan((CrossbarLayer("w", (), (9, 7), 1, 9, 7, values, column),), ())
    return DeviceSpace(place(scan, chosen), scan)


def context_of(runtime, placement) -> AttackContext:
    return AttackContext(Subject(runtime, placement), Run(effort="quick"))


def random(*names) -> np.random.Generator:
    return stream(0, "test", *names)


_CURVE = DeviceTable(
    bits=2, tolerance=Curve("points", x=(0.0, 1.0), y=(0.01, 0.06)), distribution="uniform"
)
_PROFILES = {
    "sign_magnitude": profile(),
    "differential": profile("differential"),
    "offset": profile(
        "offset",
        device=DeviceTable(tolerance_low=0.01, tolerance_high=0.04, distribution="uniform"),
    ),
    "levels": profile("differential", device=_CURVE, window=WindowTable(1.0, 25.0, clips=True)),
}


@pytest.mark.parametrize("name", _PROFILES)
def test_the_box_of_no_device_is_the_old_one_and_that_of_all_the_tighter_one(name):
    space = space_of(_PROFILES[name])
    tightening, full = Tightening(space, 10.0), box_of(space.placement)
    none, every = (tightening.box(np.full(space.size, value)) for value in (False, True))
    tight = box_of(
        space_of(with_tolerance(_PROFILES[name], float(tightening.tolerances[0]) / 10)).placement
    )
    np.testing.assert_array_equal(none.lo["w"], full.lo["w"])
    np.testing.assert_array_equal(none.hi["w"], full.hi["w"])
    np.testing.assert_allclose(every.lo["w"], tight.lo["w"], rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(every.hi["w"], tight.hi["w"], rtol=1e-5, atol=1e-8)


def test_a_weight_keeps_what_its_other_devices_may_do():
    space = space_of(profile())
    chosen = np.zeros(space.size, dtype=bool)
    chosen[3 * 63 + 5] = True  # the most significant device of weight 5 holds 192 of 255 levels
    box, full = Tightening(space, 10.0).box(chosen), box_of(space.placement)
    np.testing.assert_allclose(
        box.hi["w"].flat[5], full.hi["w"].flat[5] * (1 - 0.9 * 192 / 255), rtol=1e-5
    )
    others = np.arange(63) != 5
    np.testing.assert_array_equal(box.hi["w"].ravel()[others], full.hi["w"].ravel()[others])


@pytest.mark.parametrize("name", _PROFILES)
def test_every_chip_of_the_chosen_devices_is_in_the_box(name):
    space, generator = space_of(_PROFILES[name]), np.random.default_rng(4)
    tightening, tensor = Tightening(space, 5.0), space.placement.tensors["w"]
    chosen = generator.random(space.size) < 0.5
    box, index = tightening.box(chosen), whole_levels(tensor)
    loose, tight = (
        np.stack(level_bounds(part))[:, index]
        for part in (space.placement.profile, tightening.profiles["w"])
    )
    low, high = np.where(chosen.reshape(index.shape), tight, loose)
    for _ in range(20):
        drawn = np.where(generator.random(index.shape) < 0.5, low, high)
        weights = fold_levels(tensor, target_levels(tensor) + drawn)
        deviation = weights - tensor.nominal
        assert (deviation >= box.lo["w"] - 1e-6).all()
        assert (deviation <= box.hi["w"] + 1e-6).all()


def test_verification_takes_nothing_away_from_drift():
    space = space_of(profile(drift=DriftTable(1e4, 1.0, exponent_mean=0.05, exponent_sd=0.01)))
    every = Tightening(space, 1e6).box(np.ones(space.size, dtype=bool))
    exact = space_of(
        dataclasses.replace(space.placement.profile, device=DeviceTable(tolerance=0.0, sigma=0.0))
    )
    np.testing.assert_allclose(every.lo["w"], box_of(exact.placement).lo["w"], rtol=1e-4, atol=1e-6)
    assert every.lo["w"].min() < 0 or every.hi["w"].max() > 0


def test_writes_are_geometric_and_proportional_to_spread_over_tolerance():
    cycles = WriteCycles(0.1)
    assert cycles.mean(0.1) == pytest.approx(1 / 0.6826895, rel=1e-6)  # one sigma
    assert cycles.mean(1e-4) == pytest.approx(math.sqrt(math.pi / 2) * 0.1 / 1e-4, rel=1e-4)
    generator = np.random.default_rng(0)
    writes = generator.geometric(
        float((np.abs(generator.normal(scale=0.1, size=10**6)) <= 0.03).mean()), size=10**5
    )
    assert cycles.mean(0.03) == pytest.approx(float(writes.mean()), rel=0.02)
    tightening = Tightening(space_of(profile()), 10.0)
    half = np.arange(tightening.space.size) % 2 == 0
    assert cycles.relative_extra(tightening, half) == pytest.approx(
        0.5 * (cycles.mean(0.003) / cycles.mean(0.03) - 1)
    )


LINEAR = """
<ir_version: 8, opset_import: ["" : 13]>
net (float[N, 6] x) => (float[N, 4] y) <float[6, 4] w> {
  y = MatMul(x, w)
}
"""


def test_curvature_is_the_gauss_newton_diagonal(opened):
    data = samples(100, 6)
    runtime, placement = opened(LINEAR, {"w": 0.3 * mlp_weights()["w1"][:, :4]}, {"x": data})
    scorer = context_of(runtime, placement).scorer()
    tightening = Tightening(DeviceSpace(placement, scan_layers(runtime.network)), 10.0)
    likely = torch.softmax(torch.from_numpy(data @ placement.tensors["w"].nominal), dim=1).numpy()
    exact = np.square(data.astype(np.float64)).T @ (
        likely * (1 - likely)
    )  # sum over samples of x_i^2 p_j (1 - p_j)
    found = by_curvature(scorer, tightening, random, draws=800)
    wanted = tightening.space.of_weights({"w": exact}) * np.square(
        tightening.saved_range, dtype=np.float64
    )
    # A squared sum has a relative standard deviation of sqrt(2 / 800) = 0.05, and there are 24 of
    # them.
    np.testing.assert_allclose(found * wanted.sum() / found.sum(), wanted, rtol=0.25)


def test_devices_that_no_decision_depends_on_are_ranked_last(one_fragile_layer):
    runtime, placement = one_fragile_layer
    scorer = context_of(runtime, placement).scorer()
    zero = scorer.problem.box.zero()
    space = DeviceSpace(placement, scan_layers(runtime.network))
    tightening = Tightening(space, 10.0)
    dead = np.isin(space.weights_of(np.arange(space.size))[1], range(4)) & (
        np.arange(space.size) >= space.starts[1]
    )  # row 0 of w2: a silent unit
    rankings = [
        by_gain(scorer, tightening, [zero], [CrossEntropy()]),
        by_curvature(scorer, tightening, random),
        by_worst_curvature(
            scorer,
            tightening,
            [zero],
            lambda score, share: zero,
            random,
        ),
    ]
    for score in rankings:
        assert score[dead].max() == 0 < score[~dead].mean()
    assert by_magnitude(tightening)[dead].max() > 0, "the weight of the silent unit is the largest"


@pytest.fixture
def compared(small):
    runtime, placement = small
    context = context_of(runtime, placement)
    worst = box_of(placement).random_corner(np.random.default_rng(0))
    return lambda **settings: selective_verify(
        context, worst, settings=dataclasses.replace(_FEW, **settings)
    )


def test_more_verification_never_looks_worse_and_all_scores_are_between(compared):
    found = compared(rankings=("worst_case", "magnitude", "random"))
    for name in ("worst_case", "magnitude"):
        scores = [row.score for row in found.rows if row.ranking == name]
        assert found.base.value <= scores[0] <= scores[1] <= 1.0
    assert [row.devices for row in found.rows[:2]] == [24, 144]
    row = found.rows[1]
    assert row.regained == pytest.approx(row.score - found.base.value)
    assert row.regained_per_write == pytest.approx(row.regained / row.extra_writes)


def test_what_is_found_in_a_tighter_box_counts_for_the_full_one(compared, small, monkeypatch):
    runtime, placement = small
    real, calls = AttackContext.attack, []

    def attack(context, plan, known, box):  # all but the last attack find nothing
        calls.append(real(context, plan, known, box=box))
        zero = context.subject.box.zero()
        score = runtime.score(context.subject.box.weights(zero))
        weak = dataclasses.replace(calls[-1], pattern=zero, score=score)
        return calls[-1] if len(calls) == 3 else weak

    monkeypatch.setattr(AttackContext, "attack", attack)
    found = compared(rankings=("magnitude",))
    assert calls[-1].score.value < runtime.quantised.value
    assert found.base.value == found.rows[0].score == calls[-1].score.value
    assert found.rows[1].regained > 0
    box = box_of(placement)
    box.check(found.pattern, origin="selective verification")
    assert runtime.score(box.weights(found.pattern)) == found.base


def test_the_same_comparison_gives_the_same_list(compared):
    one, two = compared(rankings=("worst_case", "gain")), compared(rankings=("worst_case", "gain"))
    assert one.rows == two.rows
    np.testing.assert_array_equal(one.order, two.order)
    assert (np.diff(one.gain) <= 0).all()


def test_without_a_twin_the_rankings_that_need_none_are_compared(small):
    runtime, placement = small
    context = context_of(runtime, placement)
    twin = dataclasses.replace(context.twin, oracle=None, reason="none")
    blind = dataclasses.replace(context, opened=twin)
    found = selective_verify(blind, box_of(placement).hi, settings=_FEW)
    assert {row.ranking for row in found.rows} == {"slice", "magnitude", "random"}
    assert found.passes == 0


def test_shares_must_ascend():
    with pytest.raises(
        UsageError, match=r"ascending numbers in \(0, 1\], got 0.5, 0.1 \(--shares\)"
    ):
        VerifySettings((0.5, 0.1))
    with pytest.raises(UsageError, match="tighter verification must be a factor above 1, got 1"):
        Tightening(space_of(profile()), 1.0)


def test_the_list_names_every_device_by_its_place(tmp_path):
    space = space_of(profile("differential"))
    score = np.random.default_rng(0).random(space.size)
    order = np.argsort(-score)[:10]
    write_device_list(
        tmp_path / "list.parquet", space, order, score[order], ranking="gain", factor=10.0
    )
    table = pq.read_table(tmp_path / "list.parquet")
    assert table.column_names == [
        "rank",
        "layer",
        "group",
        "row",
        "column",
        "slice",
        "side",
        "gain",
    ]
    assert table.schema.metadata[b"ranking"] == b"gain"
    for entry, device in zip(table.to_pylist(), order, strict=True):
        cell = entry["slice"] + (4 if entry["side"] == "negative" else 0)
        assert cell * 63 + entry["row"] * 7 + entry["column"] == device
    assert chosen_devices(score, 10 / space.size)[order].all()
