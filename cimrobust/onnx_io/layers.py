"""Crossbar layers of a network.

Which initializers are stored in devices, and how each is seen as matrices.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class LayerUse:
    """One node that multiplies by a stored weight.

    Attributes:
        node: Name of the node.
        op: Operator, other domains as ``domain::Op``.
        role: Input of the node the weight arrives at, e.g. ``"W"``, ``"B"`` or ``"R"`` as in the
            operator's schema.
        path: Operators between the initializer and the node, e.g. ``("Reshape", "Transpose")``.
    """

    node: str
    op: str
    role: str
    path: tuple[str, ...] = ()


@dataclass(frozen=True)
class CrossbarLayer:
    """One initializer that is stored in crossbar devices; shared by all nodes in `uses`.

    Attributes:
        initializer: Name in the graph.
        uses: Nodes that multiply by it, in graph order. More than one: a shared array.
        shape: The initializer's own shape.
        num_groups: Number of separate matrices (groups of a convolution, gates stacked count as
            columns).
        num_rows: Word lines of one matrix: inputs of one dot product.
        num_cols: Bit lines of one matrix: output channels.
        values: Weights, float32, own shape; for integer models dequantised.
        column: Output column of every element, ``0 <= column < num_groups * num_cols``, int32, own
            shape.
        levels: Integer weights with the zero point subtracted, int32, own shape; None for float
            models.
        scale_group: For integer models with one scale a channel: index of the scale of every
            element, int32, own shape. None: one scale.
        bits: Bits of the integers where the file states them: fewer than the devices offer take
            fewer devices. None for float weights.
        rule: Index of the rule of the device profile that decides for the layer, see
            `mapping.decided`; None: no rule does.
    """

    initializer: str
    uses: tuple[LayerUse, ...]
    shape: tuple[int, ...]
    num_groups: int
    num_rows: int
    num_cols: int
    values: np.ndarray
    column: np.ndarray
    levels: np.ndarray | None = None
    scale_group: np.ndarray | None = None
    bits: int | None = None
    rule: int | None = None

    @property
    def num_weights(self) -> int:
        """Number of elements of the initializer."""
        return int(self.values.size)


@dataclass(frozen=True)
class UnmappedNode:
    """A node that multiplies or holds weights but stays digital, and why.

    Attributes:
        node: Name of the node.
        op: Operator.
        reason: Why.
        table: Initializer that stays digital since it is a table and no weight, see
            `graph.fixed_tables`; ``""``: that is not the reason.
        rule: Index of the rule of the device profile that says so; None: no rule does.
    """

    node: str
    op: str
    reason: str
    table: str = ""
    rule: int | None = None


@dataclass(frozen=True)
class LayerScan:
    """All crossbar layers of a network in graph order, and what stays digital.

    Attributes:
        layers: The layers.
        unmapped: What stays digital.
        is_decided: The rules of a device profile have been applied, see `mapping.decided`.
    """

    layers: tuple[CrossbarLayer, ...]
    unmapped: tuple[UnmappedNode, ...]
    is_decided: bool = False
