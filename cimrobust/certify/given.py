"""Tensors that the inputs alone decide: embeddings, masks, positions. No chip changes them, and what only selects or compares is exact."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cimrobust.certify.interval import Interval
from cimrobust.certify.refusal import CannotBoundError
from cimrobust.certify.rules.base import Pulled, Rule, Value, total
from cimrobust.graph.ops.program import Step
from cimrobust.graph.ops.registry import Kernel, Node

_FLOAT_TYPES = frozenset({1, 10, 11, 16})

#: Operators whose elements are elements of an input, or whether something holds: exact in any arithmetic.
SELECTING = frozenset(
    {
        "And",
        "Cast",
        "Concat",
        "ConstantOfShape",
        "Equal",
        "Expand",
        "Flatten",
        "Gather",
        "GatherElements",
        "GatherND",
        "Greater",
        "GreaterOrEqual",
        "Identity",
        "Less",
        "LessOrEqual",
        "Max",
        "Min",
        "Not",
        "Or",
        "Range",
        "Reshape",
        "Slice",
        "Squeeze",
        "Tile",
        "Transpose",
        "Trilu",
        "Unsqueeze",
        "Where",
        "Xor",
    }
)

#: Exact on integers.
_COUNTING = frozenset({"Abs", "Add", "CumSum", "Mod", "Mul", "Neg", "ReduceMax", "ReduceMin", "ReduceSum", "Sub"})

#: Rounded once, correctly, by every engine: exact where the result is a float32 number.
ROUNDED_ONCE = frozenset({"Add", "Div", "Mul", "Neg", "Sub"})


def element_types(steps: Iterable[Step]) -> dict[str, int]:
    """Return the ONNX element types of tensors, as far as the nodes that read them know."""
    return {
        name: kind
        for step in steps
        for name, kind in zip(step.node.inputs, step.node.input_types, strict=False)
        if name and kind is not None
    }


def is_integer(name: str, types: Mapping[str, int]) -> bool:
    """Return whether a tensor is known to hold no floating-point numbers."""
    return name in types and types[name] not in _FLOAT_TYPES


def is_exact(node: Node, types: Mapping[str, int]) -> bool:
    """Return whether a node makes exact values of exact ones, whatever they are."""
    if is_integer(node.outputs[0], types):
        return node.op in SELECTING | _COUNTING
    return node.op in SELECTING and node.op != "Cast"


def given_rule(step: Step, types: Mapping[str, int], base: Rule | None) -> Given | None:
    """Return the rule of a node that reads nothing but what the inputs alone decide; None if it is like any other.

    Args:
        step: The node.
        types: Element types of tensors.
        base: Its rule for inputs that are not known exactly, None if it has none.
    """
    exact = is_exact(step.node, types)
    if exact or step.node.op in ROUNDED_ONCE | {"Cast"}:
        return Given(step.kernel, exact, base)
    return None


@dataclass(frozen=True)
class Given:
    """An operator whose inputs no chip changes.

    Attributes:
        kernel: Computes it.
        is_exact: It rounds nothing.
        base: Its rule where an input is not known exactly, or where it rounds.
    """

    kernel: Kernel
    is_exact: bool
    base: Rule | None

    def forward(self, inputs: Sequence[Value]) -> Interval:
        """As in `Rule`."""
        if all(not isinstance(value, Interval) or value.is_point for value in inputs):
            made: Tensor = self.kernel(*(value.lo if isinstance(value, Interval) else value for value in inputs))
            if self.is_exact or torch.equal(made, made.to(torch.float32).to(made.dtype)):
                return Interval.point(made)
        if self.base is None:
            raise CannotBoundError("it reads what is rounded before it")
        return self.base.forward(inputs)

    def backward(self, form: Tensor, inputs: Sequence[Value], output: Interval) -> Pulled:
        """As in `Rule`."""
        constant = total(form, output.middle) - total(form.abs(), output.radius)
        return Pulled(tuple(None for _ in inputs), constant)
