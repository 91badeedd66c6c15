"""One network over tolerances: curves that fall, edges that are facts, and runs that go on."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from cimrobust.mapping.box import box_of
from cimrobust.mapping.placement import Placement
from cimrobust.onnx_io.scan import scan_layers
from cimrobust.tolerance_sweep import sweep_tolerances as module
from cimrobust.tolerance_sweep.safe_tolerance import (
    largest_certified,
    largest_statistical,
    largest_unrefuted,
)
from cimrobust.tolerance_sweep.sweep_memory import Memory
from cimrobust.tolerance_sweep.sweep_tolerances import Subject, draw_chips, prove, sweep_worst
from cimrobust.tolerance_sweep.worst_at_tolerance import Proof, Worst
from tests.unit.search.conftest import MLP, mlp_weights, samples

GRID = [0.01, 0.03, 0.06]


@pytest.fixture
def subject(opened, settings) -> Subject:
    runtime, placement = opened(MLP, mlp_weights(), {"x": samples(60, 6)})
    return Subject(runtime, scan_layers(runtime.network), placement, settings, Memory())


def placed(subject: Subject, tolerance: float) -> Placement:
    return subject.at(tolerance)[1]


def proofs_of(subject: Subject, worst: tuple[Worst, ...]) -> dict[float, Proof]:
    proofs: dict[float, Proof] = {}
    for entry in worst:
        proofs[entry.tolerance] = prove(subject, entry, below=next(reversed(proofs.values()), None))
    return proofs


def test_the_curve_falls_and_every_chip_is_one_of_its_box(subject):
    worst = sweep_worst(subject, GRID)
    assert [entry.tolerance for entry in worst] == GRID
    assert all(first.score.value >= second.score.value for first, second in pairwise(worst))
    assert worst[-1].score.value < worst[0].score.value
    for entry in worst:
        box = box_of(placed(subject, entry.tolerance))
        box.check(entry.pattern, origin="test")
        assert subject.runtime.score(box.weights(entry.pattern)) == entry.score
        assert all(
            not subject.runtime.task.is_worse(member.score, entry.score) for member in entry.members
        )


def test_a_chip_of_a_smaller_tolerance_counts_for_larger_ones(subject):
    """A search that finds something at the smallest tolerance only must not make the curve rise."""
    worst = sweep_worst(subject, GRID[-1:])[0]
    small = Worst(
        GRID[0],
        worst.score,
        worst.file_score,
        "luck",
        box_of(placed(subject, GRID[0])).zero(),
        1,
        1,
        "",
        (),
        True,
    )
    blind = replace(small, tolerance=GRID[1], score=subject.runtime.nominal, member="blind")
    made = module._carried_up(subject, [small, blind])
    assert made[1].score == small.score
    assert "1 %" in made[1].member


def test_what_is_proven_lies_below_what_is_found(subject):
    worst = sweep_worst(subject, GRID)
    proofs = proofs_of(subject, worst)
    for entry in worst:
        assert proofs[entry.tolerance].score.value <= entry.score.value
    assert proofs[GRID[0]].score.value > 0.5
    held = [proofs[tolerance].certified for tolerance in GRID]
    assert all(not (later & ~earlier).any() for earlier, later in pairwise(held))


def test_largest_tolerances_are_ordered_and_bracketed(subject):
    worst = sweep_worst(subject, GRID)
    required = 0.8
    unrefuted = largest_unrefuted(subject, worst, required)
    certified = largest_certified(subject, worst, proofs_of(subject, worst), required)
    assert certified.tolerance <= unrefuted.tolerance
    for found in (unrefuted, certified):
        assert found.tolerance < found.fails_at <= 1.06 * found.tolerance
    again = sweep_worst(subject, [unrefuted.fails_at])[0]
    assert again.score.value < required


def test_a_statistical_claim_rests_on_fresh_chips(subject):
    tables = {tolerance: draw_chips(subject, tolerance, trials=300) for tolerance in (0.01, 0.3)}
    found = largest_statistical(subject, tables, 0.8, 300)
    assert 0.01 <= found.tolerance < 0.3
    assert (found.trials, found.confidence) == (368, 0.975)
    few = largest_statistical(subject, tables, 0.8, 298)
    assert few.tolerance is None
    assert "299 are needed" in few.reason


def test_requirements_that_nothing_or_everything_meets(subject):
    worst = sweep_worst(subject, GRID[:2])
    easy, hard = (largest_unrefuted(subject, worst, required) for required in (0.0, 1.01))
    assert (easy.tolerance, easy.fails_at) == (GRID[1], None)
    assert hard.tolerance is None
    assert hard.reason


def test_finished_parts_are_taken_and_others_made_again(tmp_path):
    made = []

    def make():
        made.append(1)
        return {"score": [0.5, 3, 6]}, {"w": np.arange(3, dtype=np.float32)}

    first = Memory(tmp_path, "a").recall("part", make)
    memory = Memory(tmp_path, "a")
    values, arrays = memory.recall("part", make)
    assert (values, memory.taken, len(made)) == (first[0], ["part"], 1)
    assert np.array_equal(arrays["w"], first[1]["w"])
    Memory(tmp_path, "b").recall("part", make)
    (tmp_path / "part.part").write_bytes(b"cut off")
    Memory(tmp_path, "b").recall("part", make)
    assert len(made) == 3
