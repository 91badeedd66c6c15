"""Crossbar layers of a network.

Which initializers are stored in devices, and how each is seen as matrices.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from cimrobust.array_shapes import Float32, Int32, Shaped


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
class ValuesOfFile:
    """Floating-point weights that are those of an initializer: made when somebody asks for them.

    A large network is held once by its model, and need not be held here again.

    Attributes:
        initializers: Values of the network's initializers.
        name: The initializer.
    """

    initializers: Mapping[str, Shaped[np.ndarray, "..."]]
    name: str

    def read(self) -> Float32[np.ndarray, "..."]:
        """Return the weights, float32, read-only."""
        values = np.ascontiguousarray(self.initializers[self.name], np.float32)
        values.setflags(write=False)
        return values


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
        stored: Weights, float32, own shape; for integer models dequantised. Or where they are.
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
    stored: Float32[np.ndarray, "*weight"] | ValuesOfFile
    column: Int32[np.ndarray, "*weight"]
    levels: Int32[np.ndarray, "*weight"] | None = None
    scale_group: Int32[np.ndarray, "*weight"] | None = None
    bits: int | None = None
    rule: int | None = None

    @property
    def values(self) -> Float32[np.ndarray, "..."]:
        """Weights, float32, own shape; perhaps made anew at every call."""
        return self.stored.read() if isinstance(self.stored, ValuesOfFile) else self.stored

    @property
    def num_weights(self) -> int:
        """Number of elements of the initializer."""
        return math.prod(self.shape)


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
