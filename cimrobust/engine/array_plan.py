"""One product of a crossbar node, planned once for all chips.

Where its cells come from, and its converters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Float32, Float64

from cimrobust.device.quantiles import standard_normal
from cimrobust.engine.codings import ArrayRanges, input_coding, output_coding
from cimrobust.engine.crossbar_product import Crossbar, InputCoding, OutputCoding, ReadNoise
from cimrobust.engine.node_arrays import ArrayUse, arrays_of
from cimrobust.mapping.planes import plane_set, read_variances
from cimrobust.seeds import stream_key

if TYPE_CHECKING:
    from cimrobust.mapping.placement import Placement
    from cimrobust.onnx_io.crossbar_nodes import CrossbarNode
    from cimrobust.onnx_io.partition import Plan


@dataclass(frozen=True)
class PlannedArray:
    """One product.

    Attributes:
        node: Name of the node.
        use: Where its cells are.
        input_coding: Word-line converters.
        output_coding: Bit-line converters, scales and bias.
        has_bias: The bias of the node is added by the product.
        identity: The cells lie in one initializer in their own order.
        cell_factor: Scale of every cell relative to that of its column, float32; None where they
            are equal.
        variances: Per plane the variance of a read of every cell, squared level units; None: reads
            are exact.
    """

    node: str
    use: ArrayUse
    input_coding: InputCoding
    output_coding: OutputCoding
    has_bias: bool
    identity: bool
    cell_factor: Float32[np.ndarray, "cells"] | None
    variances: tuple[Float32[np.ndarray, "cells"], ...] | None = None

    def gather(
        self, values: Mapping[str, Float[np.ndarray, "weights"]]
    ) -> Float[np.ndarray, "cells"]:
        """Return values of the leaves' elements in the order of this product's cells.

        `values` are flat, by initializer.
        """
        return _gather(self.use, self.identity, values)

    def planes(
        self, cells: Mapping[str, Sequence[Float32[np.ndarray, "weights"]]]
    ) -> list[Float32[np.ndarray, "cells"]]:
        """Return the cells of every plane, float32, in this product's order.

        Args:
            cells: By initializer the cells of every plane, see `mapping.planes.cells_of`.
        """
        count = len(cells[self.use.operand.leaves[0]])
        planes = [
            self.gather({leaf: cells[leaf][plane] for leaf in self.use.operand.leaves})
            for plane in range(count)
        ]
        return (
            planes if self.cell_factor is None else [plane * self.cell_factor for plane in planes]
        )

    def program(
        self, cells: Mapping[str, Sequence[Float32[np.ndarray, "weights"]]], noise_key: int
    ) -> Crossbar:
        """Return the product with these cells."""
        noise = self.read_noise(noise_key)
        return Crossbar(
            self.use.layout,
            self.planes(cells),
            self.input_coding,
            self.output_coding,
            noise=noise,
            for_conv=self.use.for_conv,
        )

    def read_noise(self, noise_key: int) -> ReadNoise | None:
        """Return the read noise of this product on a chip."""
        if self.variances is None:
            return None
        return ReadNoise(self.variances, standard_normal(), stream_key(noise_key, self.use.key))


def plan_array(
    node: CrossbarNode,
    use: ArrayUse,
    placement: Placement,
    plan: Plan,
    ranges: Mapping[str, ArrayRanges] | None,
) -> PlannedArray:
    """Plan one product.

    Args:
        node: The node.
        use: The product.
        placement: Where the weights are stored.
        plan: Gives constant biases.
        ranges: What calibration saw, by key; None: ideal converters.
    """
    profile = placement.array_profile(use.operand.leaves)
    seen = None if ranges is None else ranges[use.key]
    tensors = {leaf: placement.tensors[leaf] for leaf in use.operand.leaves}
    sizes = sum(tensor.num_weights for tensor in tensors.values())
    index = use.operand.index
    identity = index.size == sizes and bool((index.reshape(-1) == np.arange(index.size)).all())
    column_scale, factor = _column_scales(
        use, _gather(use, identity, _element_scales(use, placement))
    )
    coding = input_coding(profile, seen)
    cells_per_weight = next(iter(tensors.values())).cells_per_weight
    output = output_coding(
        profile,
        use.layout,
        coding,
        seen,
        column_scale * use.factor,
        cells_per_weight=cells_per_weight,
    )
    bias = _constant_bias(node, use, plan)
    total = np.zeros(use.layout.num_columns) if bias is None else bias.astype(np.float64)
    if coding.zero_point:
        nominal = _gather(
            use, identity, {leaf: tensor.nominal.reshape(-1) for leaf, tensor in tensors.items()}
        )
        sums = _by_cell(use, nominal).astype(np.float64).sum(axis=1).reshape(-1)
        total = total - coding.zero_point * sums * use.factor / (coding.inverse_scale or 1.0)
    variances = (
        _variances(use, identity, placement, factor)
        if profile.read_noise is not None and ranges is not None
        else None
    )
    return PlannedArray(
        node=node.name,
        use=use,
        input_coding=coding,
        output_coding=replace(output, bias=total.astype(np.float32)),
        has_bias=bias is not None,
        identity=identity,
        cell_factor=factor,
        variances=variances,
    )


def reference_problem(node: CrossbarNode, placement: Placement) -> str | None:
    """Return why the reference column of a profile cannot serve a node.

    None if it can or there is no such column.

    What is subtracted for the offset of all cells of a column is one number times the sum of the
    inputs, so all its cells must have one scale.
    """
    for use in arrays_of(node, placement):
        if not plane_set(placement.array_profile(use.operand.leaves)).input_sum_gain:
            continue
        _scale, factor = _column_scales(use, _gather(use, False, _element_scales(use, placement)))
        if factor is not None:
            return (
                "digital: its scales differ along a column, and the reference column of the profile"
                " is subtracted with one"
            )
    return None


def _variances(
    use: ArrayUse, identity: bool, placement: Placement, factor: Float32[np.ndarray, "cells"] | None
) -> tuple[Float32[np.ndarray, "cells"], ...]:
    """Return the variance of a read of every cell, plane by plane."""
    leaves = {leaf: read_variances(placement.tensors[leaf]) for leaf in use.operand.leaves}
    count = len(next(iter(leaves.values())))
    planes = [
        _gather(use, identity, {leaf: values[plane] for leaf, values in leaves.items()})
        for plane in range(count)
    ]
    return tuple(planes if factor is None else [plane * factor * factor for plane in planes])


def _gather(
    use: ArrayUse, identity: bool, values: Mapping[str, Float[np.ndarray, "weights"]]
) -> Float[np.ndarray, "cells"]:
    flat = [values[leaf] for leaf in use.operand.leaves]
    joined = flat[0] if len(flat) == 1 else np.concatenate(flat)
    layout = use.layout
    size = layout.groups * layout.rows * layout.cols
    part = slice(use.offset, use.offset + size)
    return np.ascontiguousarray(
        joined[part] if identity else joined[use.operand.index.reshape(-1)[part]]
    )


def _by_cell(
    use: ArrayUse, values: Float[np.ndarray, "cells"]
) -> Float[np.ndarray, "groups rows cols"]:
    """Return values of cells as [groups, rows, cols], a view."""
    layout = use.layout
    strides = [stride * values.itemsize for stride in layout.strides]
    return np.lib.stride_tricks.as_strided(
        values, (layout.groups, layout.rows, layout.cols), strides, writeable=False
    )


def _element_scales(
    use: ArrayUse, placement: Placement
) -> dict[str, Float64[np.ndarray, "weights"]]:
    """Return the scale of every element of the stored weights of a product, by initializer."""
    tensors = {leaf: placement.tensors[leaf] for leaf in use.operand.leaves}
    return {
        leaf: (
            np.broadcast_to(tensor.scale, (tensor.num_weights,))
            if tensor.scale_group is None
            else tensor.scale[tensor.scale_group.reshape(-1)]
        )
        for leaf, tensor in tensors.items()
    }


def _column_scales(
    use: ArrayUse, scales: Float64[np.ndarray, "cells"]
) -> tuple[Float64[np.ndarray, "columns"], Float32[np.ndarray, "cells"] | None]:
    """Return the scale of every column, its largest.

    And the scales of the cells relative to it where they differ along a column.
    """
    matrix = _by_cell(use, scales)
    column = matrix.max(axis=1, keepdims=True)
    column = np.where(column > 0, column, 1.0)
    relative = matrix / column
    equal = bool(((relative == 1.0) | (matrix == 0)).all())
    if equal:
        return column.reshape(-1), None
    factor = np.empty(scales.shape, np.float32)
    layout = use.layout
    strides = [stride * factor.itemsize for stride in layout.strides]
    np.lib.stride_tricks.as_strided(factor, matrix.shape, strides)[...] = relative
    return column.reshape(-1), factor


def _constant_bias(
    node: CrossbarNode, use: ArrayUse, plan: Plan
) -> Float32[np.ndarray, "columns"] | None:
    """Return the node's bias as one number a column.

    None unless it is known and can be added by the product.
    """
    if (
        node.op not in ("Conv", "Gemm")
        or len(node.inputs) < 3
        or node.inputs[2] not in plan.constants
        or use.operand.slot != 1
    ):
        return None
    value = np.asarray(plan.constants[node.inputs[2]], dtype=np.float32)
    if node.op == "Gemm":
        value = value * np.float32(float(str(node.attributes.get("beta", 1.0))))
        if value.ndim > 1 and any(size != 1 for size in value.shape[:-1]):
            return None
        return np.ascontiguousarray(np.broadcast_to(value.reshape(-1), (use.layout.num_columns,)))
    return value.reshape(-1)
