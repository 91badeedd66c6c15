"""One network over tolerances: curves that fall, edges that are facts, and runs that go on."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from cimrobust.engine.subject import Subject
from cimrobust.finished_parts import NOTHING_KEPT
from cimrobust.run import Run
from cimrobust.tolerance_sweep import sweep_tolerances as module
from cimrobust.tolerance_sweep.safe_tolerance import (
    largest_certified,
    largest_statistical,
    largest_unrefuted,
)
from cimrobust.tolerance_sweep.sweep_tolerances import (
    SweepContext,
    attack_at,
    draw_chips,
    prove,
    sweep_worst,
)
from cimrobust.tolerance_sweep.worst_at_tolerance import Proof, Worst
from tests.unit.search.conftest import MLP, mlp_weights, samples

GRID = [0.01, 0.03, 0.06]


@pytest.fixture
def sweep(opened) -> SweepContext:
    runtime, placement = opened(MLP, mlp_weights(), {"x": samples(60, 6)})
    return SweepContext(Subject(runtime, placement), Run(effort="quick"), NOTHING_KEPT)


def proofs_of(sweep: SweepContext, worst: tuple[Worst, ...]) -> dict[float, Proof]:
    proofs: dict[float, Proof] = {}
    for entry in worst:
        proofs[entry.tolerance] = prove(sweep, entry, below=next(reversed(proofs.values()), None))
    return proofs


def test_the_curve_falls_and_every_chip_is_one_of_its_box(sweep):
    worst = sweep_worst(sweep, GRID)
    assert [entry.tolerance for entry in worst] == GRID
    assert all(first.score.value >= second.score.value for first, second in pairwise(worst))
    assert worst[-1].score.value < worst[0].score.value
    for entry in worst:
        box = sweep.at(entry.tolerance).box
        box.check(entry.pattern, origin="test")
        assert sweep.subject.runtime.score(box.weights(entry.pattern)) == entry.score
        assert all(member.score >= entry.score.value for member in entry.members)


def test_a_chip_of_a_smaller_tolerance_counts_for_larger_ones(sweep):
    """A search that finds something at the smallest tolerance only must not make the curve rise."""
    worst = sweep_worst(sweep, GRID[-1:])[0]
    small = Worst(
        GRID[0],
        worst.score,
        worst.file_score,
        "luck",
        sweep.at(GRID[0]).box.zero(),
        1,
        1,
        "",
        (),
        True,
    )
    blind = replace(small, tolerance=GRID[1], score=sweep.subject.runtime.nominal, member="blind")
    made = module._carried_up(sweep, [small, blind])
    assert made[1].score == small.score
    assert "1 %" in made[1].member


def test_what_is_proven_lies_below_what_is_found(sweep):
    worst = sweep_worst(sweep, GRID)
    proofs = proofs_of(sweep, worst)
    for entry in worst:
        assert proofs[entry.tolerance].score.value <= entry.score.value
    assert proofs[GRID[0]].score.value > 0.5
    held = [proofs[tolerance].certified for tolerance in GRID]
    assert all(not (later & ~earlier).any() for earlier, later in pairwise(held))


def test_largest_tolerances_are_ordered_and_bracketed(sweep):
    worst = sweep_worst(sweep, GRID)
    required = 0.8
    unrefuted = largest_unrefuted(sweep, worst, required)
    certified = largest_certified(sweep, worst, proofs_of(sweep, worst), required)
    assert certified.tolerance <= unrefuted.tolerance
    for found in (unrefuted, certified):
        assert found.tolerance < found.fails_at <= 1.06 * found.tolerance
    attack, context = attack_at(sweep, unrefuted.fails_at, worst)
    assert attack.score.value < required
    context.subject.box.check(attack.pattern, origin="attack")


def test_a_statistical_claim_rests_on_fresh_chips(sweep):
    tables = {tolerance: draw_chips(sweep, tolerance, trials=300) for tolerance in (0.01, 0.3)}
    found = largest_statistical(sweep, tables, 0.8, 300)
    assert 0.01 <= found.tolerance < 0.3
    assert (found.trials, found.confidence) == (368, 0.975)
    few = largest_statistical(sweep, tables, 0.8, 298)
    assert few.tolerance is None
    assert "299 are needed" in few.reason


def test_requirements_that_nothing_or_everything_meets(sweep):
    worst = sweep_worst(sweep, GRID[:2])
    easy, hard = (largest_unrefuted(sweep, worst, required) for required in (0.0, 1.01))
    assert (easy.tolerance, easy.fails_at) == (GRID[1], None)
    assert hard.tolerance is None
    assert hard.reason
