"""Einsum of three operands and more as a chain of Einsums of two.

Products of one stored weight and one tensor of data are what a crossbar computes, and what has
layouts, rules of bounds and names of columns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx

from cimrobust.onnx_io.fold import replace_nodes
from cimrobust.onnx_io.walk import NameMaker, all_graphs, attributes, defined_names, op_name

if TYPE_CHECKING:
    from collections.abc import Sequence


def chain_einsums(model: onnx.ModelProto) -> int:
    """Replace Einsums of more than two operands by Einsums of two, in place, bodies included.

    Operands are multiplied from the left to the right, as onnxruntime does, and every index is
    summed as soon as neither a later operand nor the output has it. Equations that repeat an index
    within an operand stay.

    Returns:
        How many were replaced.
    """
    names = NameMaker(name for graph in all_graphs(model.graph) for name in defined_names(graph))
    num_replaced = 0
    for graph in all_graphs(model.graph):
        made = [_chain(node, names) for node in graph.node]
        num_replaced += sum(nodes is not None for nodes in made)
        if any(nodes is not None for nodes in made):
            pairs = zip(list(graph.node), made, strict=True)
            replace_nodes(graph, [new for node, nodes in pairs for new in nodes or [node]])
    return num_replaced


def _chain(node: onnx.NodeProto, names: NameMaker) -> list[onnx.NodeProto] | None:
    """Return what takes the place of a node, None where it stays."""
    if op_name(node) != "Einsum" or len(node.input) < 3:
        return None
    equation = str(attributes(node).get("equation", "")).replace(" ", "")
    left, arrow, out = equation.partition("->")
    terms = left.split(",")
    repeats = any(len(set(letters)) < len(letters) for letters in map(_letters, terms))
    if repeats or len(terms) != len(node.input):
        return None
    if not arrow:
        out = _implicit(left)
    result, term, nodes = node.input[0], terms[0], []
    for index in range(1, len(terms)):
        is_last = index == len(terms) - 1
        merged = out if is_last else _kept(term, terms[index], [*terms[index + 1 :], out])
        output = node.output[0] if is_last else names.take(f"{node.output[0]}.{merged}")
        nodes.append(
            onnx.helper.make_node(
                "Einsum",
                [result, node.input[index]],
                [output],
                name=node.name if is_last else names.take(f"{node.name}.{index}"),
                equation=f"{term},{terms[index]}->{merged}",
            )
        )
        result, term = output, merged
    return nodes


def _letters(term: str) -> str:
    return term.replace(".", "")


def _implicit(left: str) -> str:
    """Return the output that an equation without arrow has."""
    letters = _letters(left).replace(",", "")
    return "..." * ("." in left) + "".join(
        sorted(letter for letter in set(letters) if letters.count(letter) == 1)
    )


def _kept(first: str, second: str, later: Sequence[str]) -> str:
    """Return the term of a product of two operands that later terms are multiplied with."""
    wanted = set("".join(later))
    letters = dict.fromkeys(_letters(first) + _letters(second))
    return "..." * ("." in first + second) + "".join(c for c in letters if c in wanted)
