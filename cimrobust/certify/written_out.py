"""Operators as the ones that they consist of, which have rules.

Normalisation a channel, transposed convolution, Einsum, norms, maxima over volumes.

All of these are equalities of real numbers. The deployed operator sums the same products in some
order, which is what the rules charge for; zeros between them round nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from cimrobust.certify.attention_steps import attention_written_out
from cimrobust.certify.einsum_products import product_of_einsum
from cimrobust.certify.refusal import CannotBoundError
from cimrobust.certify.step_parts import Fixed, made_of, part_name, sizes_of
from cimrobust.certify.written_sums import chain, over_neighbours, summed
from cimrobust.twin.ops.conv import transposed_pads
from cimrobust.twin.ops.converter_registry import Node, find
from cimrobust.twin.ops.sliding_window import Window, pad
from cimrobust.twin.ops.twin_step import Step

#: Axes of a matrix.
_MATRIX = 2
#: Version of AveragePool with dilations; and what makes all its windows count alike.
_DILATED_AVERAGE, _WHOLE_WINDOWS = 19, {"count_include_pad": 1}


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
        part_name(node, part) for part in ("rows", "unit", "gain", "scaled", "shift", "shifted")
    )
    sizes = sizes_of(node, source)

    def in_rows(
        x: Float[Tensor, "samples channels *positions"],
    ) -> Float[Tensor, "samples rows units"]:
        return x.reshape(len(x), groups, -1) if grouped else x.flatten(2)

    def normal(x: Float[Tensor, "samples rows units"]) -> Float[Tensor, "samples rows units"]:
        centred = x - x.mean(-1, keepdim=True)
        return centred / (centred.square().mean(-1, keepdim=True) + epsilon).sqrt()

    def a_channel(
        x: Float[Tensor, "samples rows units"], shape: Int64[Tensor, "axes"]
    ) -> Float[Tensor, "samples channels _units"]:
        return x.reshape(int(shape[0]), groups if a_group else int(shape[1]), -1)

    def as_before(x: Float[Tensor, "..."], shape: Int64[Tensor, "axes"]) -> Float[Tensor, "..."]:
        return x.reshape(tuple(shape.tolist()))

    def column(x: Float[Tensor, "channels"]) -> Float[Tensor, "channels 1"]:
        return x.reshape(-1, 1)

    norm = made_of(node, "LayerNormalization", (rows,), unit, normal)
    attributes = {"axis": -1, "epsilon": epsilon}
    channels = part_name(node, "channels")
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


def product_with_weight_behind(step: Step, fixed: Fixed) -> list[Step]:
    """MatMul with a matrix in front of its data, as graphs are multiplied: both turned round.

    Other products stay as they are.
    """
    node = step.node
    first, second = node.inputs
    if second in fixed or len(fixed.get(first) or ()) != _MATRIX:
        return [step]
    data, weight, product = (part_name(node, part) for part in ("data", "weight", "product"))
    return [
        made_of(node, "Transpose", (second,), data, lambda x: x.mT),
        made_of(node, "Transpose", (first,), weight, lambda w: w.mT),
        made_of(node, "MatMul", (data, weight), product, torch.matmul),
        made_of(node, "Transpose", (product,), node.outputs[0], lambda x: x.mT),
    ]


def root_of_pooled_powers(step: Step, _fixed: Fixed) -> list[Step]:
    """LpPool and GlobalLpPool of order 1 or 2: sums over windows of magnitudes or squares.

    Raises:
        CannotBoundError: Of another order, or the last windows may reach over.
    """
    node = step.node
    if node.get("ceil_mode", 0):
        raise CannotBoundError("its last windows may reach over the edge")
    powers, pooled = part_name(node, "powers"), part_name(node, "sum")
    taps = node.get("kernel_shape")
    mean = None
    if node.op == "LpPool":
        kept = {
            name: node.get(name)
            for name in ("kernel_shape", "strides", "pads", "auto_pad", "dilations")
            if node.get(name) is not None
        }
        converter = find("", "AveragePool", _DILATED_AVERAGE)
        assert converter is not None
        mean = converter(replace(node, op="AveragePool", attributes={**kept, **_WHOLE_WINDOWS}))

    def summed(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        if mean is None:
            return x.sum(tuple(range(2, x.dim())), keepdim=True)
        total: Float[Tensor, "..."] = mean(x) * math.prod(taps)
        return total

    pool = made_of(node, "AveragePool", (powers,), pooled, summed)
    window = {} if mean is None else {"kernel_shape": list(taps)}
    return [
        _power(node, node.inputs[0], powers),
        replace(pool, node=replace(pool.node, attributes=window)),
        _root(node, pooled, node.outputs[0]),
    ]


def over_its_norm(step: Step, _fixed: Fixed) -> list[Step]:
    """LpNormalization of order 1 or 2 as a quotient.

    Raises:
        CannotBoundError: Of another order.
    """
    node = step.node
    axis = int(node.get("axis", -1))
    powers, total, norm = (part_name(node, part) for part in ("powers", "sum", "norm"))
    return [
        _power(node, node.inputs[0], powers),
        made_of(node, "ReduceSum", (powers,), total, lambda x: x.sum(axis, keepdim=True)),
        _root(node, total, norm),
        made_of(node, "Div", (node.inputs[0], norm), node.outputs[0], torch.div),
    ]


def _power(node: Node, source: str, output: str) -> Step:
    """Return the step that takes magnitudes or squares, as the order of a node says."""
    order = node.get("p", 2)
    if order == 1:
        return made_of(node, "Abs", (source,), output, torch.abs)
    if order != 2:
        raise CannotBoundError(f"its order is {order}, not 1 or 2")
    return made_of(node, "Mul", (source, source), output, torch.mul)


def _root(node: Node, source: str, output: str) -> Step:
    if node.get("p", 2) == 1:
        return made_of(node, "Identity", (source,), output, lambda x: x)
    return made_of(node, "Sqrt", (source,), output, torch.sqrt)


def convolution_of_spread(step: Step, _fixed: Fixed) -> list[Step]:
    """ConvTranspose as the convolution of its input spread out, with the kernel turned.

    V. Dumoulin, F. Visin, "A guide to convolution arithmetic for deep learning", arXiv:1603.07285,
    section 4.
    """
    node = step.node
    window, groups = Window.of(node), int(node.get("group", 1))
    extra, goal = node.get("output_padding"), node.get("output_shape")
    data, weight = node.inputs[:2]
    sizes = sizes_of(node, weight)
    spread, turned = part_name(node, "spread"), part_name(node, "turned")

    def spread_out(x: Float[Tensor, "..."], shape: Int64[Tensor, "axes"]) -> Float[Tensor, "..."]:
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

    def turn(
        w: Float[Tensor, "inputs outputs *taps"],
    ) -> Float[Tensor, "turned_outputs turned_inputs *taps"]:
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


def _with_zeros_between(
    x: Float[Tensor, "..."], axis: int, by: int, length: int
) -> Float[Tensor, "..."]:
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
        *(part_name(node, part) for part in ("planes", "pooled planes", "rows", "pooled rows")),
    )
    sizes, pooled_sizes = sizes_of(node, source), sizes_of(node, pooled)

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

    def as_rows(x: Float[Tensor, "..."], shape: Int64[Tensor, "axes"]) -> Float[Tensor, "..."]:
        return x.reshape(*shape.tolist()[:3], -1)

    def as_volume(x: Float[Tensor, "..."], plane: Int64[Tensor, "axes"]) -> Float[Tensor, "..."]:
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


WRITTEN_OUT: dict[str, Callable[[Step, Fixed], list[Step]]] = {
    "Attention": attention_written_out,
    "ConvTranspose": convolution_of_spread,
    "Einsum": product_of_einsum,
    "GlobalLpPool": root_of_pooled_powers,
    "GroupNormalization": normalised_channels,
    "InstanceNormalization": normalised_channels,
    "LRN": over_neighbours,
    "LpNormalization": over_its_norm,
    "LpPool": root_of_pooled_powers,
    "MatMul": product_with_weight_behind,
    "MaxPool": pooled_twice,
    **dict.fromkeys(("Max", "Mean", "Min", "Sum"), chain),
    **dict.fromkeys(
        ("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare"), summed
    ),
}
