"""Quantisers with nothing between them but moves.

onnxruntime merges two such pairs of QuantizeLinear and DequantizeLinear to one with levels of its
own (its DoubleQDQPairsRemover), so that a value is rounded once, and to other levels than either.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from jaxtyping import Shaped
from torch import Tensor

from cimrobust.certify.rules.rule_table import MOVES

if TYPE_CHECKING:
    from cimrobust.twin.ops.converter_registry import Node

#: What an engine may take a quantiser through, where it reads one tensor alone.
_PASSED = frozenset({*MOVES, "MaxPool"})
OTHER_LEVELS = "an engine may merge it with the quantiser in front of it, which has other levels"


def has_other_levels_in_front(
    node: Node, makers: Mapping[str, Node], constants: Mapping[str, Shaped[Tensor, "..."]]
) -> bool:
    """Return whether a quantiser reads levels that another one made, unlike its own.

    Args:
        node: The quantiser; any other node has none in front.
        makers: The node that makes each tensor.
        constants: Tensors that constants alone decide.
    """
    if node.op != "QuantizeLinear":
        return False
    before = makers.get(node.inputs[0])
    while before is not None and before.op in _PASSED:
        read = [name for name in before.inputs if name and name not in constants]
        before = makers.get(read[0]) if len(read) == 1 else None
    if before is None or before.op != "DequantizeLinear":
        return False
    maker = makers.get(before.inputs[0])
    if maker is None or maker.op != "QuantizeLinear":
        return False
    return not all(
        _is_same(_read(node, place, constants), _read(before, place, constants)) for place in (1, 2)
    )


def _read(
    node: Node, place: int, constants: Mapping[str, Shaped[Tensor, "..."]]
) -> Shaped[Tensor, "..."] | None:
    return constants.get(node.inputs[place]) if node.has(place) else None


def _is_same(one: Shaped[Tensor, "..."] | None, other: Shaped[Tensor, "..."] | None) -> bool:
    if one is None or other is None:
        return one is other
    return torch.equal(one, other)
