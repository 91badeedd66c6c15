"""What short attacks start from and end with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cimrobust.attack.attack import Bench
from cimrobust.attack.candidates import known_candidates, worst_of
from cimrobust.attack.case_parts import restricted


def test_known_patterns_and_their_corners_are_brought_into_the_box(small):
    bench = Bench(*small)
    box = restricted(bench.box, ["w1"])
    far = {name: np.full_like(array, 9.0) for name, array in bench.box.hi.items()}
    candidates = known_candidates(bench.problem(box, passes=0), "me", {"far": far})
    assert [(candidate.origin, candidate.member) for candidate in candidates] == [
        ("no deviation", "me"),
        ("far", "me"),
        ("far, corner", "me"),
    ]
    for name, array in candidates[1].pattern.items():
        np.testing.assert_array_equal(array, box.hi[name])


def test_the_worst_on_all_samples_counts_and_of_equals_the_first(small):
    bench = Bench(*small)
    problem = bench.problem(bench.box, passes=0)
    zero = known_candidates(problem, "me", {})[0]
    harm = min(
        (bench.steepest(zero.pattern, sample) for sample in range(10)),
        key=lambda pattern: bench.runtime.score(bench.box.weights(pattern)).value,
    )
    harmful = replace(zero, pattern=harm, origin="harm")
    score, output, worst = worst_of(problem, [zero, harmful, replace(harmful, origin="again")])
    assert worst.origin == "harm"
    assert score == bench.runtime.task.score(output)
    assert score.value < bench.runtime.nominal.value
