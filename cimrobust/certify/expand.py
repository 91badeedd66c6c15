"""Operators on levels as the float operators that they stand for, between quantisers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from cimrobust.twin.ops.converter_registry import Node, find
from cimrobust.twin.ops.program import Step

_VERSION = 13


def expanded(step: Step) -> list[Step]:
    """Return the steps that a step stands for.

    Itself, unless it is a Split, which is one Slice an output, or a QLinearAdd.

    The rounding of `QLinearAdd`, which works on levels, is charged at the quantiser that ends it;
    see `cimrobust.certify.rules.quantise`.
    """
    node = step.node
    if node.op == "Split":
        return [_piece(step, index) for index, name in enumerate(node.outputs) if name]
    if node.op != "QLinearAdd":
        return [step]
    names = [f"{node.outputs[0]}, {part}" for part in ("first", "second", "sum")]
    parts = [
        _step(node, "DequantizeLinear", range(first, first + 3), name)
        for first, name in ((0, names[0]), (3, names[1]))
    ]
    add = replace(
        node,
        op="Add",
        domain="",
        version=_VERSION,
        attributes={},
        inputs=(names[0], names[1]),
        outputs=(names[2],),
        input_types=(1, 1),
    )
    return [
        *parts,
        _compiled(add),
        _step(node, "QuantizeLinear", (None, 6, 7), node.outputs[0], names[2]),
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
