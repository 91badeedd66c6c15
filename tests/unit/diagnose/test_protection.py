"""Layers that are protected from their devices, in the box and in the rules that say so."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cimrobust.attack.attack_context import AttackContext
from cimrobust.attack.attack_plan import FULL_ATTACK
from cimrobust.device.core_tables import DeviceTable
from cimrobust.diagnose.protected_attacks import Needs, ProtectedAttacks
from cimrobust.diagnose.protection import DIGITAL, TIGHTER, Protection, num_devices
from cimrobust.engine.subject import Subject
from cimrobust.mapping.box import box_of
from cimrobust.mapping.decided import decide
from cimrobust.mapping.place import place
from cimrobust.montecarlo.anytime import Target
from cimrobust.run import Run
from tests.unit.search.conftest import opened, small  # noqa: F401


def test_a_digital_layer_has_the_weights_of_the_file_and_does_not_deviate(small):  # noqa: F811
    runtime, placement = small
    name = next(iter(placement.tensors))
    made = Protection(DIGITAL).placement(placement, runtime.scan, {name}, is_float=True)
    np.testing.assert_array_equal(made.tensors[name].nominal, runtime.network.initializers[name])
    assert made.tensors[name].box_radius == 0.0
    assert all(
        made.tensors[other] is tensor
        for other, tensor in placement.tensors.items()
        if other != name
    )


@pytest.mark.parametrize(
    ("tolerance", "expected"), [(None, 0.1), (0.01, 1 / 3), (0.02, 2 / 3), (0.5, 1.0)]
)
def test_tighter_layers_have_the_box_of_their_tolerance(small, tolerance, expected):  # noqa: F811
    runtime, placement = small
    stated = replace(placement.profile, device=DeviceTable(tolerance=0.03, sigma=0.01))
    placement = place(runtime.scan, stated)
    name = next(iter(placement.tensors))
    made = Protection(TIGHTER, tolerance).placement(placement, runtime.scan, {name}, is_float=True)
    assert made.tensors[name].box_radius == pytest.approx(
        expected * placement.tensors[name].box_radius, rel=1e-6
    )
    assert Protection(TIGHTER, tolerance).helps(placement.tensors[name]) == (expected < 1)


@pytest.mark.parametrize("kind", [DIGITAL, TIGHTER])
def test_the_rules_make_the_network_that_was_attacked(small, kind):  # noqa: F811
    runtime, placement = small
    chosen, protection = list(placement.tensors)[:1], Protection(kind)
    profile = replace(placement.profile, rules=protection.rules(placement, chosen))
    scan = decide(replace(runtime.scan, is_decided=False), profile)
    ruled, attacked = (
        place(scan, profile),
        protection.placement(placement, runtime.scan, chosen, is_float=True),
    )
    boxes = box_of(ruled), box_of(attacked)
    for name in ruled.tensors:
        np.testing.assert_array_equal(boxes[0].hi[name], boxes[1].hi[name])
        np.testing.assert_array_equal(boxes[0].nominal[name], boxes[1].nominal[name])
    assert set(placement.tensors) - set(ruled.tensors) == (
        set(chosen) if kind == DIGITAL else set()
    )


def _attacks(runtime, placement, needs: Needs, kind: str = DIGITAL) -> ProtectedAttacks:
    context = AttackContext(Subject(runtime, placement), Run(effort="quick"))
    return ProtectedAttacks(context, Protection(kind), needs, FULL_ATTACK.scaled(0.3), [])


def test_the_layer_that_breaks_is_ranked_first_and_its_protection_suffices(one_fragile_layer):
    runtime, placement = one_fragile_layer
    attacks = _attacks(runtime, placement, Needs(0.9 * runtime.nominal.value, (), None, True))
    assert not attacks.evaluate(frozenset()).met
    assert attacks.ranked(frozenset(), ["w1", "w2"])[0] == "w2"
    assert attacks.evaluate(frozenset({"w2"})).met
    assert not attacks.evaluate(frozenset({"w1"})).met


def test_what_a_set_falls_to_its_parts_fall_to_without_an_attack(one_fragile_layer):
    runtime, placement = one_fragile_layer
    attacks = _attacks(runtime, placement, Needs(0.9 * runtime.nominal.value, (), None, True))
    attacks.evaluate(frozenset({"w1"}))
    made = attacks.attacks
    assert attacks.is_refuted(frozenset())
    assert attacks.evaluate(frozenset()).how == "known chip"
    assert attacks.attacks == made


def test_drawn_chips_decide_where_the_policy_asks_for_a_percentile(one_fragile_layer):
    runtime, placement = one_fragile_layer
    easy, hard = (Needs(None, (Target(10.0, 0.9, score),), None, True) for score in (0.3, 1.1))
    assert _attacks(runtime, placement, easy).evaluate(frozenset()).met
    refused = _attacks(runtime, placement, hard).evaluate(frozenset())
    assert (refused.met, refused.how) == (False, "drawn chips")
    assert "10th percentile" in refused.note


def test_devices_are_counted_over_layers(small):  # noqa: F811
    _, placement = small
    assert num_devices(placement, list(placement.tensors)) == sum(
        tensor.num_devices for tensor in placement.tensors.values()
    )
    assert num_devices(placement, []) == 0
