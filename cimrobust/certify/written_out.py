"""Operators as the ones that they consist of, which have rules.

Normalisation a channel, transposed convolution, Einsum, root sums of squares, maxima over volumes.

All of these are equalities of real numbers. The deployed operator sums the same products in some
order, which is what the rules charge for; zeros between them round nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

import torch
from torch import Tensor

from cimrobust.certify.refusal import CannotBoundError
from cimrobust.twin.ops.conv import transposed_pads
from cimrobust.twin.ops.converter_registry import Kernel, Node, find
from cimrobust.twin.ops.program import Step
from cimrobust.twin.ops.sliding_window import Window, pad

#: Tensors that do not differ from sample to sample, with their shapes where these are known.
Fixed: TypeAlias = Mapping[str, "tuple[int, ...] | None"]

#: Versions of ReduceSum with axes as an attribute, and as an input; ReduceL2 changed later.
_AXES_ATTRIBUTE, _AXES_INPUT, _L2_AXES_INPUT = 11, 13, 18


def made_of(node: Node, op: str, inputs: tuple[str, ...], output: str, kernel: Kernel) -> Step:
    """Return a step that is part of a node, without attributes."""
    part = replace(
        node, op=op, domain="", attributes={}, inputs=inputs, outputs=(output,), input_types=()
    )
    return Step(kernel, (), (), part)


def _named(node: Node, what: str) -> str:
    return f"{node.outputs[0]}, {what}"


def _sizes(node: Node, of: str) -> Step:
    """Return the step that reads the shape of a tensor."""
    return made_of(node, "Shape", (of,), _named(node, f"shape of {of}"), _shape)


def _shape(x: Tensor) -> Tensor:
    return torch.tensor(x.shape, dtype=torch.int64)


def normalised_channels(step: Step, _fixed: Fixed) -> list[Step]:
    """InstanceNormalization and GroupNormalization as a LayerNormalization of rows."""
    node = step.node
    source, gain, shift = node.inputs[:3]
    grouped = node.op == "GroupNormalization"
    groups = int(node.get("num_groups", 1))
    # Before opset 21 gain and shift of a GroupNormalization are those of a group.
    a_group = grouped and node.version < 21
    epsilon = float(node.get("epsilon", 1e-5))
    rows, unit, scale, scaled, offset, moved = (
        _named(node, part) for part in ("rows", "unit", "gain", "scaled", "shift", "shifted")
    )
    sizes = _sizes(node, source)

    def in_rows(x: Tensor) -> Tensor:
        return x.reshape(len(x), groups, -1) if grouped else x.flatten(2)

    def normal(x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        return centred / (centred.square().mean(-1, keepdim=True) + epsilon).sqrt()

    def a_channel(x: Tensor, shape: Tensor) -> Tensor:
        return x.reshape(int(shape[0]), groups if a_group else int(shape[1]), -1)

    def as_before(x: Tensor, shape: Tensor) -> Tensor:
        return x.reshape(tuple(shape.tolist()))

    def column(x: Tensor) -> Tensor:
        return x.reshape(-1, 1)

    norm = made_of(node, "LayerNormalization", (rows,), unit, normal)
    attributes = {"axis": -1, "epsilon": epsilon}
    channels = _named(node, "channels")
    return [
        sizes,
        made_of(node, "Reshape", (source,), rows, in_rows),
        replace(norm, node=replace(norm.node, attributes=attributes)),
        made_of(node, "Reshape", (unit, sizes.node.outputs[0]), channels, a_channel),
        made_of(node, "Reshape", (gain,), scale, column),
        made_of(node, "Mul", (channels, scale), scaled, torch.mul),
        made_of(node, "Reshape", (shift,), offset, column),
        made_of(node, "Add", (scaled, offset), moved, torch.add),
        made_of(node, "Reshape", (moved, sizes.node.outputs[0]), node.outputs[0], as_before),
    ]


def root_of_squares(step: Step, _fixed: Fixed) -> list[Step]:
    """ReduceL2 as the root of a sum of squares."""
    node = step.node
    squares, total = _named(node, "squares"), _named(node, "sum")
    version = _AXES_INPUT if node.version >= _L2_AXES_INPUT else _AXES_ATTRIBUTE
    summed = replace(
        node, op="ReduceSum", version=version, inputs=(squares, *node.inputs[1:]), outputs=(total,)
    )
    converter = find("", "ReduceSum", version)
    assert converter is not None
    return [
        made_of(node, "Mul", (node.inputs[0], node.inputs[0]), squares, torch.mul),
        Step(converter(summed), (), (), summed),
        made_of(node, "Sqrt", (total,), node.outputs[0], torch.sqrt),
    ]


def convolution_of_spread(step: Step, _fixed: Fixed) -> list[Step]:
    """ConvTranspose as the convolution of its input spread out, with the kernel turned.

    V. Dumoulin, F. Visin, "A guide to convolution arithmetic for deep learning", arXiv:1603.07285,
    section 4.
    """
    node = step.node
    window, groups = Window.of(node), int(node.get("group", 1))
    extra, goal = node.get("output_padding"), node.get("output_shape")
    data, weight = node.inputs[:2]
    sizes = _sizes(node, weight)
    spread, turned = _named(node, "spread"), _named(node, "turned")

    def spread_out(x: Tensor, shape: Tensor) -> Tensor:
        taps = shape.tolist()[2:]
        rank = len(taps)
        steps, gaps = window.steps(rank), window.gaps(rank)
        reach = [(tap - 1) * gap for tap, gap in zip(taps, gaps, strict=True)]
        long = [(size - 1) * by + 1 for size, by in zip(x.shape[2:], steps, strict=True)]
        full = [length + more for length, more in zip(long, reach, strict=True)]
        more = tuple(extra or (0,) * rank)
        begins, ends = transposed_pads(window, x.shape[2:], full, more, goal)
        if goal:
            more = tuple(
                max(plus, length - whole)
                for plus, length, whole in zip(more, list(goal)[-rank:], full, strict=True)
            )
        for axis, (by, length) in enumerate(zip(steps, long, strict=True), start=2):
            x = _with_zeros_between(x, axis, by, length)
        return pad(
            x,
            [edge - begin for edge, begin in zip(reach, begins, strict=True)],
            [edge - end + plus for edge, end, plus in zip(reach, ends, more, strict=True)],
        )

    def turn(w: Tensor) -> Tensor:
        rows, columns, *taps = w.shape
        apart = w.reshape(groups, rows // groups, columns, *taps).transpose(1, 2)
        return apart.reshape(groups * columns, rows // groups, *taps).flip(tuple(range(2, w.dim())))

    gaps = {} if window.dilations is None else {"dilations": list(window.dilations)}
    conv = replace(
        node,
        op="Conv",
        domain="",
        attributes={"group": groups, **gaps},
        inputs=(spread, turned, *node.inputs[2:]),
    )
    converter = find("", "Conv", node.version)
    assert converter is not None
    return [
        sizes,
        made_of(node, "Pad", (data, sizes.node.outputs[0]), spread, spread_out),
        made_of(node, "Transpose", (weight,), turned, turn),
        Step(converter(conv), (), (), conv),
    ]


def _with_zeros_between(x: Tensor, axis: int, by: int, length: int) -> Tensor:
    if by == 1:
        return x
    apart = x.unsqueeze(axis + 1)
    behind = [0, 0] * (apart.dim() - axis - 2) + [0, by - 1]
    return torch.nn.functional.pad(apart, behind).flatten(axis, axis + 1).narrow(axis, 0, length)


def pooled_twice(step: Step, _fixed: Fixed) -> list[Step]:
    """MaxPool over three axes as one over the last two and one over the first."""
    node = step.node
    taps = list(node.get("kernel_shape"))
    if len(taps) != 3 or node.wants(1):
        return [step]
    source, planes, pooled, rows, lines = (
        node.inputs[0],
        *(_named(node, part) for part in ("planes", "pooled planes", "rows", "pooled rows")),
    )
    sizes, pooled_sizes = _sizes(node, source), _sizes(node, pooled)

    def of_axes(axes: tuple[int, ...], fill: int) -> dict[str, Any]:
        """Return the attributes of a pooling over some axes, which are made two."""
        rest = {
            name: [node.get(name)[axis] for axis in axes] + [1] * fill
            for name in ("kernel_shape", "strides", "dilations")
            if node.get(name) is not None
        }
        pads = node.get("pads")
        if pads is not None:
            both = [[pads[side + axis] for axis in axes] + [0] * fill for side in (0, 3)]
            rest["pads"] = both[0] + both[1]
        kept = {name: node.get(name) for name in ("auto_pad", "ceil_mode") if node.get(name)}
        return {**rest, **kept}

    def as_rows(x: Tensor, shape: Tensor) -> Tensor:
        return x.reshape(*shape.tolist()[:3], -1)

    def as_volume(x: Tensor, plane: Tensor) -> Tensor:
        return x.reshape(*x.shape[:3], *plane.tolist()[2:])

    return [
        sizes,
        made_of(node, "Reshape", (source,), planes, lambda x: x.flatten(1, 2)),
        _pooling(node, of_axes((1, 2), 0), planes, pooled),
        pooled_sizes,
        made_of(node, "Reshape", (pooled, sizes.node.outputs[0]), rows, as_rows),
        _pooling(node, of_axes((0,), 1), rows, lines),
        made_of(node, "Reshape", (lines, pooled_sizes.node.outputs[0]), node.outputs[0], as_volume),
    ]


def _pooling(node: Node, attributes: dict[str, Any], source: str, output: str) -> Step:
    part = replace(node, attributes=attributes, inputs=(source,), outputs=(output,))
    converter = find("", "MaxPool", node.version)
    assert converter is not None
    return Step(converter(part), (), (), part)


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
    left, right, product = (_named(node, part) for part in ("left", "right", "product"))
    sizes = [_sizes(node, name) for name in dict.fromkeys(node.inputs)]
    shapes = tuple(_named(node, f"shape of {name}") for name in node.inputs)

    def as_matrix(own: str, rows: list[str], columns: list[str]) -> Kernel:
        def run(x: Tensor) -> Tensor:
            size = dict(zip(own, x.shape, strict=True))
            order = [own.index(label) for label in (*batch, *rows, *columns)]
            shape = [size[label] for label in batch]
            return x.permute(order).reshape(*shape, _count(size, rows), _count(size, columns))

        return run

    def as_output(x: Tensor, shape_one: Tensor, shape_two: Tensor) -> Tensor:
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
    data, weight, product = (_named(node, part) for part in ("rows", "kernel", "product"))
    sizes = [_sizes(node, name) for name in node.inputs]
    shapes = tuple(step.node.outputs[0] for step in sizes)

    def as_rows(x: Tensor) -> Tensor:
        size = dict(zip(one, x.shape, strict=True))
        order = [one.index(label) for label in (sample, *batch, *summed, *places)]
        return x.permute(order).reshape(
            size[sample], _count(size, [*batch, *summed]), _count(size, places)
        )

    def as_kernel(w: Tensor) -> Tensor:
        size = dict(zip(two, w.shape, strict=True))
        order = [two.index(label) for label in (*batch, *columns, *summed)]
        return w.permute(order).reshape(_count(size, [*batch, *columns]), _count(size, summed), 1)

    def multiply(x: Tensor, w: Tensor) -> Tensor:
        return torch.nn.functional.conv1d(x, w, groups=groups)

    def as_output(x: Tensor, shape_one: Tensor, shape_two: Tensor) -> Tensor:
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


WRITTEN_OUT: dict[str, Callable[[Step, Fixed], list[Step]]] = {
    "ConvTranspose": convolution_of_spread,
    "Einsum": product_of_einsum,
    "GroupNormalization": normalised_channels,
    "InstanceNormalization": normalised_channels,
    "MaxPool": pooled_twice,
    "ReduceL2": root_of_squares,
}
