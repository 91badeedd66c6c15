"""Attacks by layer."""

from __future__ import annotations

import numpy as np

from cimrobust.attack.attack import Plan
from cimrobust.attack.case_parts import restricted
from cimrobust.diagnose.fragile_layers import LAYERS
from cimrobust.mapping.box import box_of


def test_the_planted_fragile_layer_is_ranked_first(one_fragile_layer, case_of, settings):
    runtime, placement = one_fragile_layer
    finding = LAYERS.run(case_of(runtime, placement, settings), settings)
    first, second = finding.result.rows
    assert (first.initializer, second.initializer) == ("w2", "w1")
    assert first.alone.score < 0.5 < second.alone.score
    assert (first.others.score, second.others.score) == (
        second.alone.score,
        first.alone.score,
    ), "two layers: all but one is the other alone"
    assert finding.passes > 0


def test_only_the_named_layer_deviates(small, case_of, settings):
    runtime, placement = small
    case = case_of(runtime, placement, settings)
    found = LAYERS.run(case, settings)
    assert set(found.patterns["layer w1 alone"]) == {"w1"}
    box = restricted(box_of(placement), ["w1"])
    attack = case.bench.attack(
        "test",
        box=box,
        plan=Plan(warm=2, fresh=2, evaluations=8),
        starts={"worst": dict(case.found.deviations)},
    )
    assert not attack.pattern["w2"].any()
    assert np.abs(attack.pattern["w1"]).max() <= max(
        np.abs(box.lo["w1"]).max(), np.abs(box.hi["w1"]).max()
    )
    assert runtime.score(box.weights(attack.pattern)) == attack.score
