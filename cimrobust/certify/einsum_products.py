"""Einsum of two operands as products that have rules."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from cimrobust.certify.refusal import CannotBoundError
from cimrobust.certify.step_parts import Fixed, made_of, part_name, sizes_of

if TYPE_CHECKING:
    from cimrobust.twin.ops.converter_registry import Kernel, Node
    from cimrobust.twin.ops.twin_step import Step


class _Labels:
    """The labels of an Einsum of two operands, by what becomes of them.

    Attributes:
        batch: In both operands and the output.
        summed: In both operands alone.
        first: In the first operand and the output.
        second: In the second operand and the output.
    """

    def __init__(self, equation: str) -> None:
        """Read an equation.

        Raises:
            CannotBoundError: It is none of two operands with every label once in each, or it sums
                over a label of one operand alone.
        """
        left, arrow, right = equation.replace(" ", "").partition("->")
        operands = left.split(",")
        if len(operands) != 2 or "." in left or any(len(set(o)) < len(o) for o in operands):
            raise CannotBoundError(f"its equation '{equation}' is not one of two plain operands")
        one, two = operands
        if not arrow:
            right = "".join(sorted(c for c in set(one + two) if (one + two).count(c) == 1))
        self.operands, self.output = (one, two), right
        self.batch = [c for c in one if c in two and c in right]
        self.summed = [c for c in one if c in two and c not in right]
        self.first = [c for c in one if c not in two]
        self.second = [c for c in two if c not in one]
        if not set(self.first + self.second) <= set(right) or len(set(right)) < len(right):
            raise CannotBoundError(f"its equation '{equation}' sums over one operand alone")


def product_of_einsum(step: Step, fixed: Fixed) -> list[Step]:
    """Einsum of two operands as a product of matrices; as a convolution where one is fixed.

    A convolution with one tap and groups, since one weight multiplies many rows of a sample.

    Raises:
        CannotBoundError: The equation is of another kind, or the first operand alone is fixed.
    """
    node = step.node
    labels = _Labels(_text(node.get("equation")))
    first, second = node.inputs
    if first in fixed and second not in fixed:
        raise CannotBoundError("its first operand is a weight")
    if second in fixed:
        return _einsum_of_weight(node, labels, fixed[second])
    return _einsum_of_activations(node, labels)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _einsum_of_activations(node: Node, labels: _Labels) -> list[Step]:
    (one, two), batch = labels.operands, labels.batch
    if not batch or labels.output[0] != one[0] or one[0] != two[0]:
        raise CannotBoundError("its operands do not have their samples in front")
    left, right, product = (part_name(node, part) for part in ("left", "right", "product"))
    sizes = [sizes_of(node, name) for name in dict.fromkeys(node.inputs)]
    shapes = tuple(part_name(node, f"shape of {name}") for name in node.inputs)

    def as_matrix(own: str, rows: list[str], columns: list[str]) -> Kernel:
        def run(x: Float[Tensor, "..."]) -> Float[Tensor, "*batch rows columns"]:
            size = dict(zip(own, x.shape, strict=True))
            order = [own.index(label) for label in (*batch, *rows, *columns)]
            shape = [size[label] for label in batch]
            return x.permute(order).reshape(*shape, _count(size, rows), _count(size, columns))

        return run

    def as_output(
        x: Float[Tensor, "..."],
        shape_one: Int64[Tensor, "_axes"],
        shape_two: Int64[Tensor, "_axes"],
    ) -> Float[Tensor, "..."]:
        size = dict(zip(two, shape_two.tolist(), strict=True))
        size |= dict(zip(one, shape_one.tolist(), strict=True))
        order = [*batch, *labels.first, *labels.second]
        apart = x.reshape([size[label] for label in order])
        return apart.permute([order.index(label) for label in labels.output])

    return [
        *sizes,
        made_of(
            node, "Transpose", node.inputs[:1], left, as_matrix(one, labels.first, labels.summed)
        ),
        made_of(
            node, "Transpose", node.inputs[1:2], right, as_matrix(two, labels.summed, labels.second)
        ),
        made_of(node, "MatMul", (left, right), product, torch.matmul),
        made_of(node, "Transpose", (product, *shapes), node.outputs[0], as_output),
    ]


def _einsum_of_weight(node: Node, labels: _Labels, shape: tuple[int, ...] | None) -> list[Step]:
    one, two = labels.operands
    if labels.batch and shape is None:
        raise CannotBoundError("the shape of its weight is not known")
    groups = 1 if shape is None else _count(dict(zip(two, shape, strict=True)), labels.batch)
    if one[0] not in labels.first or labels.output[0] != one[0]:
        raise CannotBoundError("its first operand does not have its samples in front")
    sample, places = one[0], [label for label in labels.first if label != one[0]]
    batch, summed, columns = labels.batch, labels.summed, labels.second
    data, weight, product = (part_name(node, part) for part in ("rows", "kernel", "product"))
    sizes = [sizes_of(node, name) for name in node.inputs]
    shapes = tuple(step.node.outputs[0] for step in sizes)

    def as_rows(x: Float[Tensor, "..."]) -> Float[Tensor, "samples channels positions"]:
        size = dict(zip(one, x.shape, strict=True))
        order = [one.index(label) for label in (sample, *batch, *summed, *places)]
        return x.permute(order).reshape(
            size[sample], _count(size, [*batch, *summed]), _count(size, places)
        )

    def as_kernel(w: Float[Tensor, "..."]) -> Float[Tensor, "outputs inputs 1"]:
        size = dict(zip(two, w.shape, strict=True))
        order = [two.index(label) for label in (*batch, *columns, *summed)]
        return w.permute(order).reshape(_count(size, [*batch, *columns]), _count(size, summed), 1)

    def multiply(
        x: Float[Tensor, "samples channels positions"], w: Float[Tensor, "outputs inputs 1"]
    ) -> Float[Tensor, "samples outputs positions"]:
        return torch.nn.functional.conv1d(x, w, groups=groups)

    def as_output(
        x: Float[Tensor, "..."],
        shape_one: Int64[Tensor, "_axes"],
        shape_two: Int64[Tensor, "_axes"],
    ) -> Float[Tensor, "..."]:
        size = dict(zip(two, shape_two.tolist(), strict=True))
        size |= dict(zip(one, shape_one.tolist(), strict=True))
        order = [sample, *batch, *columns, *places]
        apart = x.reshape([size[label] for label in order])
        return apart.permute([order.index(label) for label in labels.output])

    conv = made_of(node, "Conv", (data, weight), product, multiply)
    conv = replace(conv, node=replace(conv.node, attributes={"group": groups}))
    return [
        *sizes,
        made_of(node, "Transpose", node.inputs[:1], data, as_rows),
        made_of(node, "Transpose", node.inputs[1:2], weight, as_kernel),
        conv,
        made_of(node, "Transpose", (product, *shapes), node.outputs[0], as_output),
    ]


def _count(size: dict[str, int], labels: list[str]) -> int:
    return math.prod(size[label] for label in labels)
