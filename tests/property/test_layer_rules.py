"""The tolerance box of every layer follows from its own rule, whatever the other layers have."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cimrobust.device.core_tables import DeviceTable, WeightTable
from cimrobust.device.layer_rules import LayerRule
from cimrobust.device.load_profile import profile_of
from cimrobust.device.profile import DeviceProfile
from cimrobust.device.profile_changes import with_tolerance
from cimrobust.engine import kernel, reference
from cimrobust.mapping.decided import decide
from cimrobust.mapping.place import place
from cimrobust.onnx_io.layers import CrossbarLayer, LayerScan, LayerUse

_TOLERANCES = st.sampled_from([0.0, 0.001, 0.02, 0.3])
_NAMES = ("a", "b", "c")


@st.composite
def rules(draw: st.DrawFn) -> LayerRule:
    bits = draw(st.sampled_from([1, 2, 4]))
    return LayerRule(
        match=draw(st.sampled_from([*_NAMES, "*", "[ab]"])),
        weight=WeightTable(
            bits * draw(st.integers(1, 3)),
            "tensor",
            draw(st.sampled_from(["sign_magnitude", "differential"])),
        ),
        device=DeviceTable(bits=bits, tolerance=draw(_TOLERANCES), sigma=0.01),
    )


def _scan(seed: int) -> LayerScan:
    random = np.random.default_rng(seed)
    column = np.ascontiguousarray(np.broadcast_to(np.arange(3, dtype=np.int32), (5, 3)))
    layers = [
        CrossbarLayer(
            name,
            (LayerUse(f"node {name}", "MatMul", "B"),),
            (5, 3),
            1,
            5,
            3,
            random.standard_normal((5, 3)).astype(np.float32),
            column,
        )
        for name in _NAMES
    ]
    return LayerScan(tuple(layers), ())


@settings(max_examples=80, deadline=None)
@given(
    stated=st.lists(rules(), max_size=4),
    seed=st.integers(0, 2**31),
    tolerance=st.sampled_from([None, 0.0, 0.01, 0.06]),
)
def test_boxes_follow_the_closed_form_with_the_tolerance_of_their_layer(
    stated: list[LayerRule], seed: int, tolerance: float | None
) -> None:
    base = DeviceProfile(
        "random", "random", device=DeviceTable(tolerance=0.03, sigma=0.01), rules=tuple(stated)
    )
    profile = base if tolerance is None else with_tolerance(base, tolerance)
    assert profile_of(profile.to_dict(), shown="again").rules == profile.rules
    scan = decide(_scan(seed), profile)
    placement = place(scan, profile)
    for layer in scan.layers:
        last = max(
            (
                index
                for index, rule in enumerate(stated)
                if rule.match in (layer.initializer, "*")
                or (rule.match == "[ab]" and layer.initializer in "ab")
            ),
            default=None,
        )
        assert layer.rule == last
        own = 0.03 if last is None else stated[last].device.tolerance
        own = min(1.0, own * (1.0 if tolerance is None else tolerance / 0.03))
        pair = 1 if last is None or stated[last].weight.mapping == "sign_magnitude" else 2
        expected = pair * own * float(np.abs(layer.values).max())
        assert placement.tensors[layer.initializer].box_radius == pytest.approx(expected, rel=1e-5)
    drawn, again = (
        made.program_chip(placement, seed=seed, trial=1) for made in (kernel, reference)
    )
    for name in placement.tensors:
        np.testing.assert_array_equal(drawn[name], again[name])


@settings(max_examples=40, deadline=None)
@given(stated=st.lists(rules(), min_size=1, max_size=3), seed=st.integers(0, 2**31))
def test_a_larger_tolerance_has_the_box_of_a_smaller_one_inside(
    stated: list[LayerRule], seed: int
) -> None:
    base = replace(
        DeviceProfile("random", "random", device=DeviceTable(tolerance=0.03, sigma=0.01)),
        rules=tuple(stated),
    )
    scan = decide(_scan(seed), base)
    small, large = (place(scan, with_tolerance(base, value)) for value in (0.01, 0.02))
    for name, tensor in small.tensors.items():
        np.testing.assert_array_equal(tensor.nominal, large.tensors[name].nominal)
        assert (tensor.hi <= large.tensors[name].hi).all()
        assert (tensor.lo >= large.tensors[name].lo).all()
