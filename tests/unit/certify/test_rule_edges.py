"""Rules at their edges: inputs that are left out, known values, attributes that are not given."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from cimrobust.certify.interval import Interval
from cimrobust.certify.refusal import CannotBoundError
from cimrobust.certify.rounding import UNIT_FLOAT32
from cimrobust.certify.rules.bilinear import product_of_activations
from cimrobust.certify.rules.largest import largest
from cimrobust.certify.rules.quantise import quantiser
from cimrobust.twin.ops.converter_registry import Node
from tests.unit.certify.test_quantise import INT8, UINT8
from tests.unit.certify.test_quantise import node_of as quantising
from tests.unit.certify.test_rules import node_of

X = torch.tensor([[-40.0, -0.35, 0.0, 0.35, 25.0, 90.0]], dtype=torch.float64)


def levels(node: Node) -> list[float]:
    """Return the levels of known values, which are known too."""
    made = quantiser(node, torch.round, {"s": torch.tensor(0.2)}, 0.0).forward([Interval.point(X)])
    assert made.rounding is None or not bool(made.rounding.any())
    assert torch.equal(made.lo, made.hi)
    return [float(level) for level in made.lo[0]]


def test_without_a_zero_point_levels_are_bytes_from_zero() -> None:
    assert levels(quantising("QuantizeLinear", ("x", "s"), (1, 1))) == [0, 0, 0, 2, 125, 255]


@pytest.mark.parametrize(
    ("declared", "wanted"), [(UINT8, [0, 0, 0, 2, 125, 255]), (INT8, [-128, -2, 0, 2, 125, 127])]
)
def test_without_a_zero_point_an_attribute_may_say_which_levels(
    declared: int, wanted: list[float]
) -> None:
    node = replace(
        quantising("QuantizeLinear", ("x", "s"), (1, 1)), attributes={"output_dtype": declared}
    )
    assert levels(node) == wanted


def test_the_largest_of_known_values_is_known() -> None:
    rule = largest(node_of("ReduceMax", {"axes": [1]}), lambda x: x.amax((1,), keepdim=True))
    made = rule.forward([Interval.point(X)])
    assert made.is_point
    assert made.lo.tolist() == [[90.0]]


def test_steps_that_are_not_positive_are_refused() -> None:
    node = quantising("QuantizeLinear", ("x", "s"), (1, 1))
    with pytest.raises(CannotBoundError, match="its step or zero point is not one constant"):
        quantiser(node, torch.round, {"s": torch.tensor(0.0)}, 0.0)


@pytest.mark.parametrize(("op", "terms"), [("MatMul", 64), ("Mul", 1)])
def test_a_product_of_activations_is_rounded_once_a_term(op: str, terms: int) -> None:
    node = replace(node_of(op, {}), inputs=("a", "b"))
    kernel = torch.matmul if op == "MatMul" else torch.mul
    one, other = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(0)).double()
    made = product_of_activations(node, kernel).forward(
        [Interval.point(one), Interval.point(other)]
    )
    # Every product and every partial sum may be off by half a unit of the sum of magnitudes.
    worst = terms * UNIT_FLOAT32 * kernel(one.abs(), other.abs())
    assert made.rounding is not None
    assert (made.rounding >= worst).all()
    assert (made.rounding <= 20 * worst).all()
