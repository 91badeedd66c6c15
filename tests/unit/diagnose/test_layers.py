"""Attacks by layer."""

from __future__ import annotations

import numpy as np

from cimrobust.attack.attack_plan import AttackPlan
from cimrobust.attack.subject_parts import restricted
from cimrobust.diagnose.fragile_layers import LAYERS
from cimrobust.mapping.box import box_of


def test_the_planted_fragile_layer_is_ranked_first(one_fragile_layer, request_of):
    runtime, placement = one_fragile_layer
    finding = LAYERS.run(request_of(runtime, placement))
    first, second = finding.result.rows
    assert (first.initializer, second.initializer) == ("w2", "w1")
    assert first.alone.score < 0.5 < second.alone.score
    assert (first.others.score, second.others.score) == (
        second.alone.score,
        first.alone.score,
    ), "two layers: all but one is the other alone"
    assert finding.passes > 0


def test_only_the_named_layer_deviates(small, request_of):
    runtime, placement = small
    asked = request_of(runtime, placement)
    found = LAYERS.run(asked)
    assert set(found.patterns["layer w1 alone"]) == {"w1"}
    box = restricted(box_of(placement), ["w1"])
    plan = AttackPlan(known=2, zero=2, evaluations=8)
    attack = asked.context.attack(plan, {"worst": dict(asked.found.deviations)}, box=box)
    assert not attack.pattern["w2"].any()
    assert np.abs(attack.pattern["w1"]).max() <= max(
        np.abs(box.lo["w1"]).max(), np.abs(box.hi["w1"]).max()
    )
    assert runtime.score(box.weights(attack.pattern)) == attack.score
