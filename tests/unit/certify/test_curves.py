"""Functions that may be steep, the larger of two tensors, quotients and maxima over axes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor

from cimrobust.certify.interval import Interval
from cimrobust.certify.refusal import CannotBoundError
from cimrobust.certify.rules.composed import larger, quotient
from cimrobust.certify.rules.curves import square
from cimrobust.certify.rules.largest import largest
from cimrobust.certify.rules.rule import Rule, Value, total
from cimrobust.certify.rules.rule_table import RULES
from cimrobust.twin.ops.converter_registry import Node
from tests.unit.certify.test_rules import node_of

FUNCTIONS: dict[str, tuple[Callable[[Tensor], Tensor], float, float]] = {
    "Exp": (torch.exp, -20.0, 20.0),
    "Log": (torch.log, 1e-6, 50.0),
    "Sqrt": (torch.sqrt, 0.0, 50.0),
    "Reciprocal": (torch.reciprocal, 1e-4, 50.0),
    "Abs": (torch.abs, -9.0, 9.0),
}


def intervals(least: float, most: float, shape: tuple[int, ...], seed: int = 0) -> Interval:
    """Return intervals of very different widths between two numbers, some of them points."""
    random = np.random.default_rng(seed)
    middle = least + (most - least) * random.random(shape) ** 3
    width = (most - least) * random.choice([0.0, 1e-5, 0.02, 0.5], shape)
    lo, hi = np.maximum(middle - width, least), np.minimum(middle + width, most)
    return Interval(torch.from_numpy(lo), torch.from_numpy(hi))


def two_inputs(op: str) -> Node:
    return replace(node_of(op, {}), inputs=("a", "b"))


def check(
    rule: Rule,
    kernel: Callable[..., Tensor],
    inputs: list[Value],
    points: int = 200,
    constants: tuple[Value, ...] = (),
) -> None:
    """Hold interval and linear forms against points of the inputs."""
    random = np.random.default_rng(1)
    read = [*inputs, *constants]
    made = rule.forward(read)
    form = torch.from_numpy(random.normal(size=(4, *made.lo.shape)))
    pulled = rule.backward(form, read, made)
    for _ in range(points):
        shares = [
            torch.from_numpy(random.choice([random.random(), 0.0, 1.0], value.lo.shape))
            if isinstance(value, Interval)
            else None
            for value in inputs
        ]
        at = [
            value.lo + share * (value.hi - value.lo) if isinstance(value, Interval) else value
            for value, share in zip(inputs, shares, strict=True)
        ]
        y = kernel(*at, *constants)
        assert (made.lo <= y).all()
        assert (y <= made.hi).all()
        assert made.rounding is not None
        below = pulled.constant - total(form.abs(), made.rounding)
        for coefs, x in zip(pulled.coefs, at, strict=False):
            if coefs is not None:
                assert isinstance(x, Tensor)
                below = below + total(coefs, x)
        assert (below <= total(form, y)).all()


@pytest.mark.parametrize(("op", "sign"), [*((op, 1) for op in FUNCTIONS), ("Reciprocal", -1)])
def test_lines_hold_a_curve(op: str, sign: int) -> None:
    kernel, least, most = FUNCTIONS[op]
    data = intervals(least, most, (40, 9))
    if sign < 0:
        data = Interval(-data.hi, -data.lo)
    check(RULES[op](node_of(op, {}), kernel), kernel, [data])


def test_lines_hold_a_square_that_is_never_negative() -> None:
    rule, data = square(), intervals(-9.0, 9.0, (40, 9))
    assert rule.forward([data]).is_nonnegative
    check(rule, torch.square, [data])


@pytest.mark.parametrize(
    ("op", "ends"),
    [("Log", (0.0, 1.0)), ("Log", (-1.0, 2.0)), ("Sqrt", (-0.1, 2.0)), ("Reciprocal", (-1.0, 2.0)),
     ("Reciprocal", (0.0, 2.0)), ("Exp", (1.0, 90.0))],
)  # fmt: skip
def test_outside_of_its_domain_a_curve_has_no_bound(op: str, ends: tuple[float, float]) -> None:
    rule = RULES[op](node_of(op, {}), FUNCTIONS[op][0])
    data = Interval(*(torch.tensor([[end, 1.0]], dtype=torch.float64) for end in ends))
    made = rule.forward([data])
    assert made.hi[0, 0] == torch.inf
    form = torch.ones(1, 1, 2, dtype=torch.float64)
    bound = rule.backward(-form, [data], made).constant
    assert not bool((bound > -torch.inf).any())


@pytest.mark.parametrize("op", ["Max", "Min"])
@pytest.mark.parametrize("shapes", [((6, 5), (6, 5)), ((6, 1), (6, 5)), ((6, 3, 1), (6, 1, 4))])
def test_the_larger_of_two_tensors(op: str, shapes: tuple[tuple[int, ...], ...]) -> None:
    rule = larger(two_inputs(op), torch.maximum)
    kernel = torch.maximum if op == "Max" else torch.minimum
    check(rule, kernel, [intervals(-2, 2, shape, seed) for seed, shape in enumerate(shapes)])


@pytest.mark.parametrize("op", ["Max", "Min"])
def test_the_larger_of_a_tensor_and_a_number(op: str) -> None:
    kernel = torch.maximum if op == "Max" else torch.minimum
    rule, number = larger(two_inputs(op), kernel), torch.tensor(0.3, dtype=torch.float64)
    check(rule, kernel, [intervals(-2, 2, (6, 5)), number])
    check(rule, kernel, [number, intervals(-2, 2, (6, 5))])


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_quotients(sign: float) -> None:
    rule, below = quotient(two_inputs("Div"), torch.div), intervals(0.2, 6, (6, 1), 3)
    if sign < 0:
        below = Interval(-below.hi, -below.lo)
    check(rule, torch.div, [intervals(-3, 3, (6, 5)), below])
    check(rule, torch.div, [torch.tensor(2.0, dtype=torch.float64), below])


@pytest.mark.parametrize("op", ["ReduceMax", "ReduceMin"])
@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("axes", [(1,), (-1,), (1, 3), (3, 1), (2, 3)])
def test_largest_over_axes(op: str, keepdims: int, axes: tuple[int, ...]) -> None:
    def kernel(x: Tensor) -> Tensor:
        reduce = torch.amax if op == "ReduceMax" else torch.amin
        return reduce(x, axes, keepdim=bool(keepdims))

    rule = largest(node_of(op, {"axes": list(axes), "keepdims": keepdims}), kernel)
    check(rule, kernel, [intervals(-2, 2, (3, 2, 3, 4))], points=60)


@pytest.mark.parametrize("axes", [[0, 1], []])
def test_over_the_samples_there_is_no_bound(axes: list[int]) -> None:
    rule = largest(node_of("ReduceMax", {"axes": axes}), torch.amax)
    with pytest.raises(CannotBoundError, match="over the samples, or over no axis"):
        rule.forward([intervals(-2, 2, (3, 2))])


def test_axes_that_may_do_nothing_are_refused() -> None:
    with pytest.raises(CannotBoundError, match="it may do nothing"):
        largest(node_of("ReduceMax", {"noop_with_empty_axes": 1}), torch.amax)


def test_a_margin_decides_which_plane_is_taken() -> None:
    data = Interval(
        torch.tensor([[3.0, 0.0, 0.0]], dtype=torch.float64),
        torch.tensor([[4.0, 1.0, 2.0]], dtype=torch.float64),
    )

    def kernel(x: Tensor) -> Tensor:
        return torch.amax(x, (1,), keepdim=False)

    rule = largest(node_of("ReduceMax", {"axes": [1], "keepdims": 0}), kernel)
    made = rule.forward([data])
    form = torch.ones(1, 1, dtype=torch.float64)
    for sign in (1.0, -1.0):
        pulled = rule.backward(sign * form, [data], made)
        assert pulled.coefs[0] is not None
        assert pulled.coefs[0].tolist() == [[[sign, 0.0, 0.0]]]


@pytest.mark.parametrize("op", ["Exp", "Log", "Sqrt", "Reciprocal", "Abs"])
def test_curves_are_within_their_error_in_onnxruntime(op: str) -> None:
    kernel, least, most = FUNCTIONS[op]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None]) for name in "xy"]
    graph = helper.make_graph([helper.make_node(op, ["x"], ["y"])], "g", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    x = np.concatenate(
        [np.linspace(least, most, 100_001), np.geomspace(1e-4, most, 100_001)]
    ).astype(np.float32)
    got = torch.from_numpy(session.run(None, {"x": x})[0]).double()
    point = torch.from_numpy(x).double()
    made = RULES[op](node_of(op, {}), kernel).forward([Interval(point, point.clone())])
    exact = kernel(point)
    assert made.rounding is not None
    assert ((got - exact).abs() <= 0.5 * made.rounding).all()
