"""Steps that are parts of a node, and what is known of the tensors that they read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

import torch
from jaxtyping import Int64, Shaped
from torch import Tensor

from cimrobust.twin.ops.twin_step import Step

if TYPE_CHECKING:
    from cimrobust.twin.ops.converter_registry import Kernel, Node

#: Tensors that do not differ from sample to sample, with their shapes where these are known.
Fixed: TypeAlias = Mapping[str, "tuple[int, ...] | None"]


def made_of(node: Node, op: str, inputs: tuple[str, ...], output: str, kernel: Kernel) -> Step:
    """Return a step that is part of a node, without attributes."""
    part = replace(
        node, op=op, domain="", attributes={}, inputs=inputs, outputs=(output,), input_types=()
    )
    return Step(kernel, (), (), part)


def part_name(node: Node, what: str) -> str:
    """Return the name of a tensor inside of a node."""
    return f"{node.outputs[0]}, {what}"


def sizes_of(node: Node, of: str) -> Step:
    """Return the step that reads the shape of a tensor."""
    return made_of(node, "Shape", (of,), part_name(node, f"shape of {of}"), _shape)


def _shape(x: Shaped[Tensor, "..."]) -> Int64[Tensor, "axes"]:
    return torch.tensor(x.shape, dtype=torch.int64)
