"""Operators as those that they stand for: on levels, as float operators between quantisers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cimrobust.certify.refusal import CannotBoundError
from cimrobust.certify.written_out import WRITTEN_OUT
from cimrobust.twin.ops.converter_registry import Node, find
from cimrobust.twin.ops.twin_step import Step

if TYPE_CHECKING:
    from cimrobust.certify.step_parts import Fixed

_VERSION = 13
# Operators on levels of one input, with the scales and zero points of input and output behind it.
_OF_LEVELS = {
    "QLinearAveragePool": "AveragePool",
    "QLinearGlobalAveragePool": "GlobalAveragePool",
    "QLinearLeakyRelu": "LeakyRelu",
    "QLinearReduceMean": "ReduceMean",
    "QLinearSigmoid": "Sigmoid",
}
# Operators on levels of two inputs, each with scale and zero point, those of the output behind.
_OF_TWO_LEVELS = {"QLinearAdd": "Add", "QLinearMul": "Mul"}


def expanded(
    steps: Iterable[Step], fixed: Mapping[str, tuple[int, ...]]
) -> tuple[list[Step], dict[str, str]]:
    """Return the steps that steps stand for, and why some have no form: reasons by output.

    Args:
        steps: In the order in which they run.
        fixed: Shapes of constants and stored weights.
    """
    known: dict[str, tuple[int, ...] | None] = dict(fixed)
    parts: list[Step] = []
    reasons: dict[str, str] = {}
    for step in steps:
        try:
            parts += _parts_of(step, known)
        except CannotBoundError as err:
            parts.append(step)
            reasons[step.node.outputs[0]] = str(err)
        if all(name in known for name in (*step.node.inputs, *step.node.captures) if name):
            known.update(dict.fromkeys((name for name in step.node.outputs if name), None))
    return parts, reasons


def _parts_of(step: Step, fixed: Fixed) -> list[Step]:
    """Return the steps that a step stands for.

    Itself, unless it is a Split, which is one Slice an output, an operator on levels, or one of
    `WRITTEN_OUT`.

    The rounding of operators on levels is charged at the quantiser that ends them; see
    `cimrobust.certify.rules.quantise`.
    """
    node = step.node
    if node.op == "Split":
        return [_piece(step, index) for index, name in enumerate(node.outputs) if name]
    if node.op in WRITTEN_OUT and node.domain == "":
        return WRITTEN_OUT[node.op](step, fixed)
    if node.op in _OF_LEVELS:
        return _of_levels(node)
    if node.op in _OF_TWO_LEVELS:
        return _of_parts(node, _OF_TWO_LEVELS[node.op], (0, 3), (6, 7))
    if node.op == "QLinearConcat":
        return _of_parts(node, "Concat", range(2, len(node.inputs), 3), (0, 1))
    return [step]


def _of_parts(node: Node, op: str, firsts: Sequence[int], quantiser: tuple[int, int]) -> list[Step]:
    """Return an operator on levels of several tensors as a float one between quantisers.

    Args:
        node: The node.
        op: The float operator.
        firsts: Places of the tensors, in front of those of their scales and zero points.
        quantiser: Places of scale and zero point of the output.
    """
    names = tuple(f"{node.outputs[0]}, part {first}" for first in firsts)
    whole = f"{node.outputs[0]}, whole"
    inner = replace(
        node,
        op=op,
        domain="",
        version=_VERSION,
        attributes={"axis": int(node.get("axis", 1))} if op == "Concat" else {},
        inputs=names,
        outputs=(whole,),
        input_types=(1,) * len(names),
    )
    return [
        *(
            _step(node, "DequantizeLinear", range(first, first + 3), name)
            for first, name in zip(firsts, names, strict=True)
        ),
        _compiled(inner),
        _step(node, "QuantizeLinear", (None, *quantiser), node.outputs[0], whole),
    ]


def _of_levels(node: Node) -> list[Step]:
    """Return an operator on levels as the same operator between quantisers.

    Raises:
        CannotBoundError: Its channels are last.
    """
    if node.get("channels_last", 0):
        raise CannotBoundError("its channels are last")
    levels, real = (f"{node.outputs[0]}, {part}" for part in ("real", "result"))
    inner = replace(
        node,
        op=_OF_LEVELS[node.op],
        domain="",
        version=_VERSION,
        attributes={key: value for key, value in node.attributes.items() if key != "channels_last"},
        inputs=(levels,),
        outputs=(real,),
        input_types=(1,),
    )
    return [
        _step(node, "DequantizeLinear", (0, 1, 2), levels),
        _compiled(inner),
        _step(node, "QuantizeLinear", (None, 3, 4), node.outputs[0], real),
    ]


def _piece(step: Step, index: int) -> Step:
    """Return the step that makes one output of a Split."""

    def cut(*values: Any) -> Any:
        return step.kernel(*values)[index]

    return Step(cut, (), (), replace(step.node, op="Slice", outputs=(step.node.outputs[index],)))


def _step(node: Node, op: str, places: Sequence[int | None], output: str, source: str = "") -> Step:
    """Return a quantiser that reads some inputs of a node, `source` where a place is None."""
    inputs = tuple(
        source if place is None else node.inputs[place] if node.has(place) else ""
        for place in places
    )
    types = tuple(
        1 if place is None else node.input_types[place] if place < len(node.input_types) else None
        for place in places
    )
    return _compiled(
        replace(
            node,
            op=op,
            domain="",
            version=_VERSION,
            attributes={},
            inputs=inputs,
            outputs=(output,),
            input_types=types,
        )
    )


def _compiled(node: Node) -> Step:
    converter = find(node.domain, node.op, node.version)
    assert converter is not None
    return Step(converter(node), (), (), node)
