"""Operators as chains and sums that have rules: of several tensors, over axes, over channels."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float

from cimrobust.certify.step_parts import made_of, part_name
from cimrobust.twin.ops.converter_registry import find
from cimrobust.twin.ops.twin_step import Step

if TYPE_CHECKING:
    from torch import Tensor

    from cimrobust.certify.step_parts import Fixed
    from cimrobust.twin.ops.converter_registry import Kernel, Node

#: Versions of ReduceSum with axes as an attribute, and as an input; other reductions changed later.
_AXES_ATTRIBUTE, _AXES_INPUT, _OTHERS_AXES_INPUT = 11, 13, 18
_TWO: dict[str, Kernel] = {
    "Max": torch.maximum,
    "Min": torch.minimum,
    "Sum": torch.add,
    "Mean": torch.add,
}


def chain(step: Step, _fixed: Fixed) -> list[Step]:
    """Max, Min, Sum and Mean of any number of tensors as those of two, one after the other."""
    node = step.node
    names = [name for name in node.inputs if name]
    if node.op in ("Max", "Min") and len(names) == 2:
        return [step]
    op = node.op if node.op in ("Max", "Min") else "Add"
    steps, made = [], names[0]
    for index, name in enumerate(names[1:]):
        so_far = part_name(node, f"of {index + 2}")
        steps.append(made_of(node, op, (made, name), so_far, _TWO[node.op]))
        made = so_far
    count = len(names) if node.op == "Mean" else 1
    # Neg has the rule of what scales one tensor, whose rounding is charged.
    last = "Neg" if count > 1 else "Identity"

    def shared(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        return x / count

    return [*steps, made_of(node, last, (made,), node.outputs[0], shared)]


def summed(step: Step, _fixed: Fixed) -> list[Step]:
    """ReduceL1, ReduceL2, ReduceSumSquare, ReduceLogSum and ReduceLogSumExp as sums."""
    node = step.node
    before, behind = _AROUND[node.op]
    steps, source = [], node.inputs[0]
    if before == "Mul":
        made = part_name(node, "squares")
        steps.append(made_of(node, "Mul", (source, source), made, torch.mul))
        source = made
    elif before:
        made = part_name(node, "terms")
        steps.append(made_of(node, before, (source,), made, _KERNELS[before]))
        source = made
    total = part_name(node, "sum") if behind else node.outputs[0]
    version = _AXES_INPUT if node.version >= _OTHERS_AXES_INPUT else _AXES_ATTRIBUTE
    part = replace(
        node,
        op="ReduceSum",
        version=version,
        inputs=(source, *node.inputs[1:]),
        outputs=(total,),
    )
    converter = find("", "ReduceSum", version)
    assert converter is not None
    steps.append(Step(converter(part), (), (), part))
    if behind:
        steps.append(made_of(node, behind, (total,), node.outputs[0], _KERNELS[behind]))
    return steps


#: What is done to every element before it is summed, and to the sums.
_AROUND = {
    "ReduceL1": ("Abs", ""),
    "ReduceL2": ("Mul", "Sqrt"),
    "ReduceLogSum": ("", "Log"),
    "ReduceLogSumExp": ("Exp", "Log"),
    "ReduceSumSquare": ("Mul", ""),
}
_KERNELS: dict[str, Kernel] = {
    "Abs": torch.abs,
    "Exp": torch.exp,
    "Log": torch.log,
    "Sqrt": torch.sqrt,
}


def over_neighbours(step: Step, _fixed: Fixed) -> list[Step]:
    """LRN as its input times a power of a sum of squares over neighbouring channels."""
    node = step.node
    size, alpha = int(node.get("size")), float(node.get("alpha", 1e-4))
    bias, beta = float(node.get("bias", 1.0)), float(node.get("beta", 0.75))
    squares, scale, shrunk = (part_name(node, part) for part in ("squares", "scale", "power"))
    ends = ((size - 1) // 2, size // 2)

    def scaled(
        x: Float[Tensor, "samples channels *positions"],
    ) -> Float[Tensor, "samples channels *positions"]:
        beside = F.pad(x.movedim(1, -1), ends).unfold(-1, size, 1).sum(-1).movedim(-1, 1)
        return bias + alpha / size * beside

    source = node.inputs[0]
    norm = made_of(node, "NeighbourSum", (squares,), scale, scaled)
    power = made_of(node, "Pow", (scale,), shrunk, lambda x: x**-beta)
    return [
        made_of(node, "Mul", (source, source), squares, torch.mul),
        replace(norm, node=_with(norm.node, size=size, alpha=alpha, bias=bias)),
        replace(power, node=_with(power.node, exponent=-beta)),
        made_of(node, "Mul", (source, shrunk), node.outputs[0], torch.mul),
    ]


def _with(node: Node, **attributes: float) -> Node:
    return replace(node, attributes=attributes)
