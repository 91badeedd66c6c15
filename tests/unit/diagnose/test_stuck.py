"""Stuck devices: the chips they make, and the few that do most harm."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from cimrobust.attack.attack_context import AttackContext
from cimrobust.device.core_tables import DeviceTable, WeightTable
from cimrobust.device.curve import Curve
from cimrobust.device.effect_tables import DriftTable, FaultsTable
from cimrobust.device.profile import DeviceProfile
from cimrobust.device.window import WindowTable
from cimrobust.device_level.ranked_devices import DeviceSpace
from cimrobust.device_level.stuck import AT_TARGETS, StuckSettings, stuck_budget
from cimrobust.device_level.stuck_chip import (
    HIGH,
    LOW,
    Choice,
    StuckChips,
    kinds_of,
    nothing_stuck,
    random_choice,
)
from cimrobust.device_level.stuck_search import StuckEffort, StuckSearch
from cimrobust.engine.subject import Subject
from cimrobust.mapping.box import box_of
from cimrobust.mapping.device_levels import fold_levels, target_levels
from cimrobust.mapping.place import place
from cimrobust.onnx_io.layers import CrossbarLayer, LayerScan
from cimrobust.onnx_io.scan import scan_layers
from cimrobust.run import Run
from cimrobust.search.candidate import Key
from tests.unit.search.conftest import MLP, mlp_weights, samples

_WINDOW = WindowTable(1.0, 25.0, clips=True)
_CURVE = DeviceTable(
    bits=2, tolerance=Curve("points", x=(0.0, 1.0), y=(0.01, 0.06)), distribution="uniform"
)
_DRIFT = DriftTable(1e4, 1.0, exponent_mean=0.05, compensation="global")
_FEW = StuckSettings((1, 3, 10), draws=4, effort=StuckEffort(exchanges=1, rounds=3))


def profile(mapping="sign_magnitude", scale="tensor", device=None, **tables) -> DeviceProfile:
    return DeviceProfile(
        "p",
        "test",
        weight=WeightTable(8, scale, mapping),
        device=device or DeviceTable(tolerance=0.03, sigma=0.01),
        **tables,
    )


def context_of(runtime, placement, workers=1) -> AttackContext:
    return AttackContext(Subject(runtime, placement), Run(workers=workers, effort="quick"))


@pytest.mark.parametrize("integer", [False, True])
@pytest.mark.parametrize(
    "chosen",
    [
        profile(),
        profile("differential", scale="column"),
        profile("offset", device=_CURVE, window=_WINDOW),
        profile("differential", drift=_DRIFT, window=_WINDOW),
    ],
)
def test_a_stuck_device_reads_as_the_end_of_its_window_and_all_others_as_before(chosen, integer):
    levels = (
        np.random.default_rng(5).integers(-128, 128, size=(9, 7)).astype(np.int32)
        if integer
        else None
    )
    values = (
        np.random.default_rng(3).normal(size=(9, 7)).astype(np.float32)
        if levels is None
        else (levels * 0.013).astype(np.float32)
    )
    column = np.ascontiguousarray(np.broadcast_to(np.arange(7, dtype=np.int32), (9, 7)))
    scan = LayerScan((CrossbarLayer("w", (), (9, 7), 1, 9, 7, values, column, levels),), ())
    placement = place(scan, chosen)
    tensor, space = placement.tensors["w"], DeviceSpace(placement, scan)
    chips = StuckChips(space, box_of(placement).random_corner(np.random.default_rng(1)))
    choice = random_choice(space.size, 40, (LOW, HIGH), np.random.default_rng(2))
    held = chips.chip(choice, as_levels=True).levels["w"]
    before = chips.chip(nothing_stuck(), as_levels=True).levels["w"].reshape(-1)
    expected = before.copy()
    expected[choice.device] = np.where(
        choice.kind == HIGH, np.float32(3 * tensor.drift_factor), 0.0
    )
    np.testing.assert_array_equal(held.reshape(-1), expected)
    np.testing.assert_allclose(
        chips.weights(choice)["w"], fold_levels(tensor, held), rtol=1e-5, atol=1e-5
    )
    if chosen.clips and not integer:
        assert before.min() >= -1e-6
        assert before.max() <= 3 * max(1.0, tensor.drift_factor) * (1 + 1e-6)


def test_devices_stick_as_the_profile_says():
    assert kinds_of(profile()) == (LOW, HIGH)
    assert kinds_of(profile(faults=FaultsTable(0.01, 0.0))) == (LOW,)
    assert kinds_of(profile(faults=FaultsTable(0.0, 0.01))) == (HIGH,)
    assert kinds_of(profile(faults=FaultsTable(0.01, 0.01))) == (LOW, HIGH)


def test_one_stuck_device_is_as_bad_as_the_worst_of_all(small):
    runtime, placement = small
    scan = scan_layers(runtime.network)
    found = stuck_budget(
        context_of(runtime, placement),
        box_of(placement).zero(),
        settings=dataclasses.replace(_FEW, budgets=(1,)),
    )
    space = DeviceSpace(placement, scan)
    chips = StuckChips(space, box_of(placement).zero())
    # Slices 2 and 3 hold 240 of 255 levels: no device of another slice changes its weight more.
    large = np.flatnonzero(space.places(np.arange(space.size)).slice_index == 3)
    every = [
        Choice(np.array([device]), np.array([kind]))
        for device in large
        for kind in (LOW, HIGH)
        if chips.change[kind, device] != 0
    ]
    worst = min(runtime.score(chips.weights(choice)).count for choice in every)
    point = found.curves[0].points[0]
    assert point.correct <= worst
    assert len(point.devices) == 1


def test_few_chosen_devices_do_more_harm_than_as_many_at_random_or_by_magnitude(small):
    runtime, placement = small
    box = box_of(placement)
    found = stuck_budget(
        context_of(runtime, placement),
        box.hi,
        settings=_FEW,
    )
    targets, worst = found.curves
    scores = [point.score for point in targets.points]
    assert targets.others == AT_TARGETS
    assert found.ranking == "gain"
    assert targets.base == runtime.nominal.value
    assert worst.base == runtime.score(box.weights(box.hi)).value
    assert sorted(scores, reverse=True) == scores
    assert scores[-1] < min(targets.points[-1].magnitude, targets.points[-1].random_worst)
    assert [len(point.devices) <= point.budget for point in targets.points] == [True] * 3


def test_the_listed_devices_alone_make_the_score(small):
    runtime, placement = small
    found = stuck_budget(
        context_of(runtime, placement),
        box_of(placement).zero(),
        settings=_FEW,
    )
    point, weights = found.curves[0].points[-1], placement.nominal()
    levels = {name: target_levels(tensor) for name, tensor in placement.tensors.items()}
    for device in point.devices:
        rows, cols = weights[device.layer].shape
        cell = levels[device.layer].reshape(-1, rows, cols)[device.slice_index]
        assert cell[device.row, device.column] == device.target
        cell[device.row, device.column] = 3 if device.stuck == "high" else 0
    made = {name: fold_levels(tensor, levels[name]) for name, tensor in placement.tensors.items()}
    assert runtime.score(made).value == point.score


def test_a_stuck_search_does_not_depend_on_the_number_of_workers(small):
    runtime, placement = small
    one, two = (
        stuck_budget(context_of(runtime, placement, workers), box_of(placement).hi, settings=_FEW)
        for workers in (1, 2)
    )
    assert one == two


def test_without_a_twin_significant_devices_of_fragile_layers_are_tried(small):
    runtime, placement = small
    context = context_of(runtime, placement)
    blind = dataclasses.replace(context.twin, oracle=None, reason="none")
    settings = dataclasses.replace(_FEW, effort=StuckEffort(rounds=8))
    found = stuck_budget(
        dataclasses.replace(context, opened=blind),
        box_of(placement).zero(),
        settings=settings,
    )
    point = found.curves[0].points[-1]
    assert found.ranking == "slice significance and layer probes"
    assert found.passes == 0
    assert point.score < point.random_mean


def test_only_the_kind_that_is_stated_is_used(opened):
    runtime, placement = opened(
        MLP, mlp_weights(), {"x": samples(60, 6)}, profile=profile(faults=FaultsTable(0.0, 0.001))
    )
    found = stuck_budget(
        context_of(runtime, placement),
        box_of(placement).zero(),
        settings=_FEW,
    )
    assert found.kinds == ("high",)
    assert {
        device.stuck for curve in found.curves for point in curve.points for device in point.devices
    } == {"high"}


def test_once_all_decisions_are_one_class_that_class_is_turned_too(small):
    runtime, placement = small
    scorer = context_of(runtime, placement).scorer()
    space = DeviceSpace(placement, scan_layers(runtime.network))
    chips = StuckChips(space, scorer.problem.box.zero())
    search = StuckSearch(scorer, chips, (LOW, HIGH), "test", StuckEffort())
    scattered, collapsed = (
        search._losses((Key(correct, 0.0), nothing_stuck())) for correct in (200.0, 50.0)
    )
    common = int(np.bincount(runtime.task.labels).argmax())
    assert "pair_collapse" not in {loss.name for loss in scattered}
    assert [loss.name for loss in collapsed[len(scattered) :]] == ["pair_collapse", "pair_collapse"]
    assert {loss.target for loss in collapsed[len(scattered) :]} == {common}
    assert common not in {loss.other for loss in collapsed[len(scattered) :]}
