"""Tensors that the inputs alone decide: embeddings, masks, positions.

No chip changes them, and what only selects or compares is exact.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Float64, Shaped
from torch import Tensor

from cimrobust.certify.interval import Interval
from cimrobust.certify.refusal import CannotBoundError
from cimrobust.certify.rules.affine import FLOAT_TYPES
from cimrobust.certify.rules.rule import Pulled, Rule, Value, total
from cimrobust.twin.ops.converter_registry import Kernel, Node

if TYPE_CHECKING:
    from cimrobust.twin.ops.twin_step import Step

#: Operators whose elements are elements of an input, or whether something holds: exact in any
#: arithmetic.
SELECTING = frozenset(
    {
        "And",
        "Cast",
        "Concat",
        "ConstantOfShape",
        "DepthToSpace",
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
        "OneHot",
        "Or",
        "Pad",
        "Range",
        "Reshape",
        "Slice",
        "SpaceToDepth",
        "Squeeze",
        "Tile",
        "Transpose",
        "Trilu",
        "Unsqueeze",
        "Where",
        "Xor",
    }
)

# Input whose element type the output has, where that is not the first.
_TYPED_BY = {"Where": 1, "OneHot": 2}

#: Operators whose outputs are true or false.
_DECIDING = frozenset(
    {"And", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Not", "Or", "Xor"}
)

#: Exact on integers.
_COUNTING = frozenset(
    {"Abs", "Add", "CumSum", "Mod", "Mul", "Neg", "ReduceMax", "ReduceMin", "ReduceSum", "Sub"}
)

#: Exact on small whole numbers, as masks are made of.
ON_WHOLE = frozenset({"Add", "Mul", "Neg", "Sub"})

#: Whole numbers below it are exact in float32.
MOST_WHOLE = 2.0**24


def element_types(steps: Iterable[Step]) -> dict[str, int]:
    """Return the ONNX element types of tensors, as far as the nodes that read them know."""
    return {
        name: kind
        for step in steps
        for name, kind in zip(step.node.inputs, step.node.input_types, strict=False)
        if name and kind is not None
    }


def makes_integers(node: Node, types: Mapping[str, int]) -> bool:
    """Return whether the output of a node is known to hold no floating-point numbers."""
    if node.op in _DECIDING:
        return True
    kind = int(node.get("to", 1)) if node.op == "Cast" else types.get(node.outputs[0])
    if (
        kind is None
        and node.op in SELECTING | _COUNTING
        and node.op not in ("ConstantOfShape", "Cast")
    ):
        kind = types.get(node.inputs[_TYPED_BY.get(node.op, 0)])
    return kind is not None and kind not in FLOAT_TYPES


def is_exact(node: Node, types: Mapping[str, int]) -> bool:
    """Return whether a node makes exact values of exact ones, whatever they are."""
    if makes_integers(node, types):
        return node.op in SELECTING | _COUNTING
    return node.op in SELECTING and node.op != "Cast"


def given_rule(
    step: Step, types: Mapping[str, int], base: Rule | None, *, reads_exact: bool
) -> Given | None:
    """Return the rule of a node that reads nothing but what the inputs alone decide.

    None if it is like any other.

    Args:
        step: The node.
        types: Element types of tensors.
        base: Its rule for inputs that are not known exactly, None if it has none.
        reads_exact: All that it reads is exact.
    """
    if makes_integers(step.node, types) or (base is None and not reads_exact):
        return None
    exact = is_exact(step.node, types)
    if exact or step.node.op in ON_WHOLE | {"Cast"}:
        return Given(step.kernel, exact, step.node.op == "Mul", base)
    return None


@dataclass(frozen=True)
class Given:
    """An operator whose inputs no chip changes.

    Attributes:
        kernel: Computes it.
        is_exact: It rounds nothing.
        is_product: Of two factors.
        base: Its rule where an input is not known exactly, or where it rounds.
    """

    kernel: Kernel
    is_exact: bool
    is_product: bool
    base: Rule | None

    def forward(self, inputs: Sequence[Value]) -> Interval:
        """As in `Rule`."""
        if all(not isinstance(value, Interval) or value.is_point for value in inputs):
            read = [value.lo if isinstance(value, Interval) else value for value in inputs]
            made: Float[Tensor, "..."] = self.kernel(*read)
            if self.is_exact or self._rounds_nothing(
                made, [value for value in read if value is not None]
            ):
                return Interval.point(made)
        if self.base is None:
            raise CannotBoundError("it reads what is rounded before it")
        return self.base.forward(inputs)

    def _rounds_nothing(
        self, made: Float[Tensor, "..."], read: Sequence[Shaped[Tensor, "..."]]
    ) -> bool:
        """Return whether arithmetic is exact in any order.

        On whole numbers, or a product with 0, 1 or -1.
        """
        exact = _is_whole(made)
        for value in read:
            exact = exact & _is_whole(value)
        if self.is_product:
            for value in read:
                exact = exact | (value.abs() == 1) | (value == 0)
        return bool(exact.all())

    def backward(
        self,
        form: Float64[Tensor, "forms samples *units"],
        inputs: Sequence[Value],
        output: Interval,
    ) -> Pulled:
        """As in `Rule`."""
        constant = total(form, output.middle) - total(form.abs(), output.radius)
        return Pulled(tuple(None for _ in inputs), constant)


def _is_whole(value: Shaped[Tensor, "*shape"]) -> Bool[Tensor, "*shape"]:
    if value.dtype == torch.bool:
        return torch.ones_like(value)
    return (value == value.round()) & (value.abs() < MOST_WHOLE)
