"""Which rule bounds an operator, from what it reads."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Shaped
from torch import Tensor

from cimrobust.certify.refusal import CannotBoundError
from cimrobust.certify.rules.affine import keep, recast
from cimrobust.certify.rules.bilinear import product_of_activations
from cimrobust.certify.rules.composed import larger, quotient
from cimrobust.certify.rules.curves import power, square
from cimrobust.certify.rules.quantise import quantiser
from cimrobust.certify.rules.rule_table import RULES
from cimrobust.certify.rules.several_images import OfImages, OverImages
from cimrobust.certify.tensor_kinds import ACTIVE, KNOWN, WEIGHT

if TYPE_CHECKING:
    from cimrobust.certify.rules.rule import Rule
    from cimrobust.twin.ops.converter_registry import Node
    from cimrobust.twin.ops.twin_step import Step

#: Operators that are bounded by what they read of two tensors.
_OF_TWO = frozenset({"Max", "Min"})


def steps_read(node: Node, constants: Mapping[str, Shaped[Tensor, "..."]], before: float) -> float:
    """Return the sum of the steps of the levels that a tensor is computed from.

    It goes back to the quantisers or stored weights in front of the tensor. Infinite behind a
    Softmax of levels: engines fuse it to one of integer exponentials, whose error is not known.
    """
    if node.op == "QuantizeLinear":
        return 0.0
    if node.op == "DequantizeLinear" and node.inputs[1] in constants:
        return float(constants[node.inputs[1]].max())
    if node.op == "Softmax" and before:
        return math.inf
    return before


def _does_nothing(node: Node, constants: Mapping[str, Shaped[Tensor, "..."]]) -> bool:
    """Return whether a node is a maximum with the lowest float.

    Deployment puts such nodes behind layers so that engines leave the layers alone.
    """
    lowest = constants.get(node.inputs[1]) if node.op == "Max" and len(node.inputs) == 2 else None
    return (
        lowest is not None
        and lowest.numel() == 1
        and float(lowest) <= -torch.finfo(torch.float32).max
    )


def rule_of(
    step: Step, reads: Sequence[str], constants: Mapping[str, Shaped[Tensor, "..."]], steps: float
) -> Rule:
    """Return the rule of a node.

    Args:
        step: The node.
        reads: Kinds of its inputs.
        constants: What is known, by name.
        steps: Sum of the steps of the levels that its inputs are computed from.

    Raises:
        CannotBoundError: There is none, or not for such inputs.
    """
    node = step.node
    if _does_nothing(node, constants):
        return keep(node, step.kernel)
    if node.op == "QuantizeLinear" and reads[1:].count(ACTIVE) == 0:
        return quantiser(node, step.kernel, constants, steps)
    if node.op == "Pow":
        return _power(step, constants)
    maker = RULES.get(node.op) if node.domain in ("", "com.microsoft") else None
    if maker is None and node.op not in _OF_TWO:
        raise CannotBoundError("no bound is built in for this operator")
    if len([name for name in node.outputs if name]) != 1:
        raise CannotBoundError("it has several outputs")
    if node.op in ("MatMul", "Mul") and reads.count(ACTIVE) == 2:
        is_square = node.op == "Mul" and node.inputs[0] == node.inputs[1]
        return square() if is_square else product_of_activations(node, step.kernel)
    if node.op == "Cast" and ACTIVE in reads:
        return recast(node, step.kernel)
    if node.op in _OF_TWO and WEIGHT not in reads:
        return larger(node, step.kernel)
    if node.op == "Div" and reads[1] == ACTIVE and reads[0] != WEIGHT:
        return quotient(node, step.kernel)
    _check_kinds(node, reads)
    if maker is None:
        raise CannotBoundError("it reads stored weights")
    if isinstance(step.kernel, OverImages):
        return OfImages(maker(node, step.kernel.kernel))
    return maker(node, step.kernel)


def _power(step: Step, constants: Mapping[str, Shaped[Tensor, "..."]]) -> Rule:
    """Return the rule of a power, whose exponent is one constant or an attribute of a part.

    Raises:
        CannotBoundError: It is no constant, or zero.
    """
    node = step.node
    given = constants.get(node.inputs[1]) if len(node.inputs) > 1 else None
    exponent = node.get("exponent") if given is None or given.numel() != 1 else float(given)
    if not exponent or not math.isfinite(exponent):
        raise CannotBoundError("its exponent is not one constant other than 0")
    return keep(node, step.kernel) if exponent == 1.0 else power(exponent)


def _check_kinds(node: Node, reads: Sequence[str]) -> None:
    """Check that a node reads activations and stored weights where its rule expects them.

    Raises:
        CannotBoundError: It does not.
    """
    active, weights = reads.count(ACTIVE), reads.count(WEIGHT)
    if node.op in ("Conv", "Gemm", "MatMul"):
        if reads[0] != ACTIVE or active > 1:
            raise CannotBoundError(
                "it multiplies activations by activations, or has its weight on the left"
            )
    elif node.op in ("Mul", "Div"):
        if active + weights > 1 or (node.op == "Div" and reads[0] == KNOWN):
            raise CannotBoundError("it multiplies or divides by something that is not constant")
    elif active and weights:
        raise CannotBoundError("it mixes stored weights with activations")
    elif node.op not in ("Add", "Sub", "Concat", "Where") and reads[1:].count(ACTIVE):
        raise CannotBoundError("a parameter of it is not constant")
