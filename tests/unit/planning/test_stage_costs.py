from __future__ import annotations

from dataclasses import replace

from cimrobust.planning.measured_speed import BoundSpeed, ChipSpeed, PassSpeed, Speed
from cimrobust.planning.planning_records import PlannedStage
from cimrobust.planning.stage_costs import diagnostic_cost, expected_passes, planned_stages
from cimrobust.planning.workload import Workload
from cimrobust.search.search_budget import budget_of

WORK = Workload(
    effort="quick",
    budget=budget_of("quick"),
    workers=1,
    samples=1000,
    attack_samples=500,
    trials=300,
    effect_chips=20,
    diagnostics=(),
    layers=3,
    weights=1_000_000,
    effects=2,
    classes=10,
)
SPEED = Speed(
    ChipSpeed(0.5, 0.001),
    PassSpeed(2.0, 0.01, 0.1, 1e7, 1000, None, ""),
    BoundSpeed(1.0, 0.1, 0.3, True, ""),
)


def stage(name: str, work: Workload = WORK, speed: Speed = SPEED) -> PlannedStage:
    stages = planned_stages(work, speed, loading=3.0, held_bytes=10**9)
    return next(stage for stage in stages if stage.stage == name)


def test_chips_cost_what_one_was_measured_to() -> None:
    assert stage("monte_carlo").seconds == 300 * 1.5
    assert stage("effects").seconds == 2 * 20 * 1.5


def test_a_search_costs_its_passes_and_no_more_where_it_ends_early() -> None:
    soon = replace(SPEED, search=replace(SPEED.search, ends_after=5))
    assert (expected_passes(WORK, SPEED), expected_passes(WORK, soon)) == (74, 9)
    passes = stage("search").seconds - stage("search", speed=soon).seconds
    assert abs(passes - (74 - 9) * 5.1) < 1e-2
    assert stage("search", speed=soon).most_seconds == stage("search").most_seconds


def test_a_network_without_gradients_makes_no_passes() -> None:
    without = replace(SPEED, search=replace(SPEED.search, reason="no twin"))
    assert expected_passes(WORK, without) == 0
    assert "no twin" in stage("search", speed=without).note


def test_workers_share_chips_and_need_memory_each() -> None:
    many = replace(WORK, workers=4)
    assert stage("monte_carlo", many).seconds == stage("monte_carlo").seconds / 4
    more = stage("monte_carlo", many).memory_bytes - stage("monte_carlo").memory_bytes
    assert more == 3 * 16 * WORK.weights


def test_diagnostics_cost_nothing_where_none_run() -> None:
    assert diagnostic_cost(WORK).passes == diagnostic_cost(WORK).runs == 0
    names = ("layers", "classes", "transfer", "tolerance_curve", "fragile_inputs")
    costs = [diagnostic_cost(replace(WORK, diagnostics=names[:count])) for count in range(6)]
    runs = [cost.runs for cost in costs]
    assert runs == sorted(set(runs))


def test_a_hopeless_bound_costs_its_first_samples_alone() -> None:
    hopeless = replace(SPEED, bound=replace(SPEED.bound, hopeful=False))
    assert abs(stage("certify", speed=hopeless).seconds - 1.3) < 1e-9
    assert stage("certify").seconds > 10
