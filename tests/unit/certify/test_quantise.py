"""Staircases: levels stay within their bounds however an engine rounds on the way."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from cimrobust.certify.bounded_network import open_bounds
from cimrobust.certify.expand import expanded
from cimrobust.certify.interval import Interval
from cimrobust.certify.propagate import propagate
from cimrobust.certify.refusal import CannotBoundError, Refusal
from cimrobust.certify.rules.quantise import Staircase, quantiser
from cimrobust.twin.ops import converter_catalogue as catalogue  # noqa: F401
from cimrobust.twin.ops.converter_registry import MICROSOFT, Node, Settings, find
from cimrobust.twin.ops.twin_step import Step
from tests.unit.certify.conftest import Maker
from tests.unit.certify.test_soundness import opened_bounds
from tests.unit.search.conftest import Opener

UINT8, INT8 = 2, 3


def node_of(op: str, inputs: tuple[str, ...], types: tuple[int, ...], domain: str = "") -> Node:
    return Node(
        op,
        op,
        domain,
        1 if domain else 13,
        {},
        inputs,
        ("y",),
        types,
        (),
        Settings(dtype=torch.float64),
    )


@pytest.mark.parametrize("slack", [0.0, 0.01])
@pytest.mark.parametrize(("zero", "least", "most"), [(100.0, 0.0, 255.0), (-128.0, -128.0, 127.0)])
def test_levels_are_between_their_lines(
    slack: float, zero: float, least: float, most: float
) -> None:
    random = np.random.default_rng(0)
    stairs = Staircase(0.05, zero, least, most, slack)
    ends = np.sort(
        random.normal(scale=4.0, size=(3000, 1))
        + random.choice([0.0, 0.01, 0.05, 1.0, 8.0], (3000, 1)) * random.normal(size=(3000, 2)),
        axis=1,
    )
    lo, hi = torch.from_numpy(ends).T
    lines, (bottom, top) = stairs.lines(lo, hi), stairs.reach(torch.round, lo, hi)
    for share in np.linspace(0, 1, 41):
        x = lo + share * (hi - lo)
        for off in (-slack, 0.0, slack):
            level = (x / 0.05 + off).round().add(zero).clamp(least, most)
            assert ((level >= bottom) & (level <= top)).all()
            assert (level >= lines.lower_slope * x + lines.lower_shift - 1e-9).all()
            assert (level <= lines.upper_slope * x + lines.upper_shift + 1e-9).all()


def test_narrow_intervals_keep_their_level_and_wide_ones_their_slope() -> None:
    stairs = Staircase(1.0, 0.0, -128.0, 127.0, 0.0)
    lines = stairs.lines(
        torch.tensor([2.6, 2.4, -40.0], dtype=torch.float64),
        torch.tensor([3.4, 2.6, 40.0], dtype=torch.float64),
    )
    assert lines.lower_slope.tolist() == [0.0, 0.0, 1.0]
    assert (lines.lower_shift[0], lines.upper_shift[0]) == (3.0, 3.0)
    assert (lines.lower_shift[1], lines.upper_shift[1]) == (2.0, 3.0)
    assert float(lines.upper_shift[2] - lines.lower_shift[2]) == pytest.approx(1.0, abs=1e-3)


def test_addition_of_levels_is_within_the_bounds_of_what_it_stands_for() -> None:
    """The kernel of onnxruntime, in float32 and with its order of operations, on all pairs of
    levels of two scales that make halfway cases frequent.
    """
    names = ("a", "sa", "za", "b", "sb", "zb", "sy", "zy")
    node = replace(
        node_of("QLinearAdd", names, (UINT8, 1, UINT8, UINT8, 1, UINT8, 1, UINT8), MICROSOFT)
    )
    converter = find(MICROSOFT, "QLinearAdd", 1)
    assert converter is not None
    steps, _reasons = expanded([Step(converter(node), (), (), node)], {})
    assert [step.node.op for step in steps] == [
        "DequantizeLinear",
        "DequantizeLinear",
        "Add",
        "QuantizeLinear",
    ]
    a, b = (
        levels.reshape(1, -1)
        for levels in torch.meshgrid(torch.arange(256.0), torch.arange(256.0), indexing="ij")
    )
    known = {"sa": 0.037, "za": 131.0, "sb": 0.0185, "zb": 7.0, "sy": 0.074, "zy": 125.0}
    single = {name: torch.tensor(value, dtype=torch.float32) for name, value in known.items()}
    level = converter(node)(*[{**single, "a": a, "b": b}[name] for name in names])
    double = {name: value.double() for name, value in single.items()}
    values = {**double, "a": a.double(), "b": b.double()}
    for step in steps[:3]:
        values[step.node.outputs[0]] = step.kernel(*[values[name] for name in step.node.inputs])
    rule = quantiser(steps[3].node, steps[3].kernel, double, float(double["sa"] + double["sb"]))
    made = rule.forward([Interval.point(values[steps[3].node.inputs[0]])])
    assert ((made.lo <= level) & (level <= made.hi)).all()
    assert 0 < float((made.hi > made.lo).double().mean()) < 0.6, (
        "halfway cases are open, others are not"
    )
    assert (
        level != steps[3].kernel(values[steps[3].node.inputs[0]], double["sy"], double["zy"])
    ).any(), "the order of rounding must matter here"


def test_quantised_networks_are_bounded_with_levels(make: Maker) -> None:
    runtime, placement = make("quantised")
    network = opened_bounds(runtime, placement)
    assert network.plan.operators["QuantizeLinear"] == 4
    state = propagate(network.plan, network.inputs, {}, network.weights(0.3), effort=1e8)
    for step in network.plan.steps:
        if step.node.op == "QuantizeLinear":
            levels = state.interval(step.output)
            assert torch.equal(levels.lo, levels.lo.round())
            assert float((levels.hi - levels.lo).mean()) < 60.0


def test_quantisers_that_are_not_bounded_say_why() -> None:
    node = node_of("QuantizeLinear", ("x", "s", "z"), (1, 1, UINT8))
    with pytest.raises(CannotBoundError, match="its step or zero point is not one constant"):
        quantiser(node, torch.round, {"s": torch.ones(3), "z": torch.zeros(3)}, 0.0)
    with pytest.raises(CannotBoundError, match="not one constant"):
        quantiser(node, torch.round, {"z": torch.zeros(())}, 0.0)
    with pytest.raises(CannotBoundError, match="its levels are no integers"):
        quantiser(
            replace(node, input_types=(1, 1, 17)),
            torch.round,
            {"s": torch.ones(()), "z": torch.zeros(())},
            0.0,
        )
    with pytest.raises(
        CannotBoundError, match="an engine may fuse it with the Softmax of levels in front of it"
    ):
        quantiser(node, torch.round, {"s": torch.ones(()), "z": torch.zeros(())}, float("inf"))


def test_softmax_between_quantisers_is_refused(opened: Opener) -> None:
    text = (
        '<ir_version: 8, opset_import: ["" : 13]> net (float[N, 4] x) => (float[N, 3] y) <float[4,'
        " 4] w, float[4, 3] v, float s, uint8 z> { h = MatMul(x, w)\nq = QuantizeLinear(h, s, z)\n"
        " d = DequantizeLinear(q, s, z)\n p = Softmax(d)\n o = QuantizeLinear(p, s, z)\n u ="
        " DequantizeLinear(o, s, z)\n y = MatMul(u, v) }"
    )
    weights = {
        "w": np.eye(4, dtype=np.float32),
        "v": np.eye(4, 3, dtype=np.float32),
        "s": np.float32(0.01),
        "z": np.uint8(0),
    }
    refused = open_bounds(
        *opened(
            text, weights, {"x": np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)}
        )
    )
    assert isinstance(refused, Refusal)
    assert len(refused.nodes) == 1
    assert "Softmax of levels" in refused.reason
