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
}


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
