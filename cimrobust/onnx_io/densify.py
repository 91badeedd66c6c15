"""Grouped convolutions as the dense ones that an array with all groups side by side computes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import onnx

from cimrobust.onnx_io.problems import not_covered
from cimrobust.onnx_io.size_limits import MAX_TENSOR_BYTES
from cimrobust.onnx_io.tensors import decode, encode, num_bytes
from cimrobust.onnx_io.views import TYPE_OPS
from cimrobust.onnx_io.walk import all_nodes, int_attribute, op_name
from cimrobust.onnx_io.weights import Weights, WeightUse, weights_of

if TYPE_CHECKING:
    from cimrobust.array_shapes import Shaped
    from cimrobust.onnx_io.network import Network

#: Grouped operators whose weight has output channels first; the other one is ConvTranspose, which
#: has input channels first.
_CHANNELS_FIRST = frozenset(
    {"Conv", "QLinearConv", "com.microsoft::QLinearConv", "ConvInteger", "com.microsoft::FusedConv"}
)
_GROUPED = _CHANNELS_FIRST | {"ConvTranspose"}


@dataclass(frozen=True)
class _Grouped:
    """A grouped convolution.

    Attributes:
        node: Its name.
        leaf: Initializer of its weight.
        num_groups: Its groups.
        transposed: Whether it is a ConvTranspose.
        zero: What an element holds that stands for zero: one number, or one for each output
            channel.
    """

    node: str
    leaf: str
    num_groups: int
    transposed: bool
    zero: Shaped[np.ndarray, ""] | Shaped[np.ndarray, "channels"]


def with_dense_groups(network: Network, names: Collection[str] | None = None) -> Network:
    """Return the network with grouped or depthwise convolutions as dense ones.

    The dense weights are zero off the diagonal blocks. The outputs are the same; the cells that
    hold those zeros are devices and deviate like any other, which is what `tile.grouped = "dense"`
    means.

    Args:
        network: The network.
        names: Initializers whose convolutions are to be dense; those of others are left as they
            are. None: all.

    Raises:
        ModelNotCoveredError: A grouped weight is shared, moved or dequantised in a way that cannot
            be widened, or the dense weights are too large.
    """
    weights = weights_of(network.model)
    chosen = (
        use for use in weights.uses() if names is None or set(names).intersection(use.trace.leaves)
    )
    uses = [
        use
        for use in chosen
        if op_name(use.node) in _GROUPED and int_attribute(use.node, "group", 1) > 1
    ]
    if not uses:
        return network
    found, problems = [], []
    for use in uses:
        reason = _problem(use, weights, network)
        if reason is None:
            found.append(_grouped(use, weights))
        else:
            problems.append(
                f"weight of node '{use.node.name}' {reason}, which no dense array can hold"
                ' (tile.grouped is "dense")'
            )
    not_covered(network.path, problems)
    model = onnx.ModelProto()
    model.CopyFrom(network.model)
    dense = _widen(model, {item.leaf: item for item in found}, network)
    widened = {item.node for item in found}
    for node in all_nodes(model.graph):
        if node.name in widened:
            _set_one_group(node)
    del model.graph.value_info[:]
    added = sum(
        int(values.size) - network.initializers[name].size for name, values in dense.items()
    )
    note = (
        f"{len(found)} grouped convolutions are stored as dense matrices: {added} cells off their"
        " diagonal blocks hold zero and deviate too (they count as parameters here)"
    )
    return replace(
        network,
        model=model,
        initializers={**network.initializers, **dense},
        num_parameters=network.num_parameters + added,
        notes=(*network.notes, note),
    )


def _problem(use: WeightUse, weights: Weights, network: Network) -> str | None:
    """Return why a weight cannot be widened where it is stored, None if it can."""
    if len(use.trace.leaves) != 1 or any(
        node.op_type not in TYPE_OPS | {"Identity"} for node in use.trace.nodes
    ):
        return "is made from other tensors"
    leaf = use.trace.leaves[0]
    between = [leaf, *(node.output[0] for node in use.trace.nodes)]
    readers = sum(
        list(node.input).count(name) for node in all_nodes(network.model.graph) for name in between
    )
    outputs = {value.name for value in network.model.graph.output}
    if readers != len(between) or outputs & set(between):
        return "is read by other nodes too"
    if leaf not in network.initializers:
        return "is inside a body"
    if (
        any(int_attribute(item.node, "block_size", 0) for item in use.trace.dequantisers)
        or len(use.trace.dequantisers) > 1
    ):
        return "is dequantised by blocks"
    zero, axis = _zero_point(use, weights)
    if zero is None:
        return "has a zero point that is not constant"
    if zero.size > 1 and (axis != 0 or op_name(use.node) == "ConvTranspose" or zero.ndim != 1):
        return "has zero points that differ inside an output channel"
    if op_name(use.node) == "ConvTranspose" and any(
        _is_per_axis(item.node, weights) for item in use.trace.dequantisers
    ):
        return "has scales that differ by channel in a transposed convolution"
    return None


def _zero_point(
    use: WeightUse, weights: Weights
) -> tuple[Shaped[np.ndarray, ""] | Shaped[np.ndarray, "channels"] | None, int]:
    """Return what stands for zero and its axis; None where it is no constant."""
    if use.trace.dequantisers:
        node = use.trace.dequantisers[0].node
        name, axis = node.input[2] if len(node.input) > 2 else "", int_attribute(node, "axis", 1)
    else:
        index = use.slot.zero_point
        name, axis = (
            (use.node.input[index] if index is not None and index < len(use.node.input) else ""),
            0,
        )
    value = weights.constants.value(name) if name else np.zeros((), np.int8)
    return (
        (None, axis)
        if value is None
        else (value.reshape(-1) if value.size > 1 else value.reshape(()), axis)
    )


def _is_per_axis(node: onnx.NodeProto, weights: Weights) -> bool:
    scale = weights.constants.value(node.input[1])
    return scale is None or scale.size > 1


def _grouped(use: WeightUse, weights: Weights) -> _Grouped:
    zero, _ = _zero_point(use, weights)
    assert zero is not None
    return _Grouped(
        use.node.name,
        use.trace.leaves[0],
        int_attribute(use.node, "group", 1),
        op_name(use.node) == "ConvTranspose",
        zero,
    )


def _widen(
    model: onnx.ModelProto, found: Mapping[str, _Grouped], network: Network
) -> dict[str, Shaped[np.ndarray, "..."]]:
    """Replace the grouped initializers, in place; return the dense values."""
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    total = sum(
        num_bytes(tensor) * (found[name].num_groups if name in found else 1)
        for name, tensor in tensors.items()
    )
    if total > MAX_TENSOR_BYTES:
        not_covered(
            network.path,
            [
                f'{total} bytes of dense weights (tile.grouped is "dense"), at most'
                f" {MAX_TENSOR_BYTES} are covered"
            ],
        )
    dense: dict[str, Shaped[np.ndarray, "..."]] = {}
    for name, item in found.items():
        values = dense_weight(
            decode(tensors[name]), item.num_groups, transposed=item.transposed, zero=item.zero
        )
        tensors[name].CopyFrom(encode(values, name))
        values.setflags(write=False)
        dense[name] = values
    return dense


def dense_weight(
    weight: Shaped[np.ndarray, "first second *kernel"],
    num_groups: int,
    *,
    transposed: bool,
    zero: Shaped[np.ndarray, ""] | Shaped[np.ndarray, "channels"],
) -> Shaped[np.ndarray, "first all *kernel"]:
    """Return a grouped convolution weight with its groups as blocks on the diagonal of a dense one.

    Args:
        weight: [outputs, inputs / groups, kernel ...], or [inputs, outputs / groups, kernel ...] if
            transposed.
        num_groups: Groups.
        transposed: Whether it belongs to a transposed convolution.
        zero: Fills the other blocks: a scalar, or one number for each output channel.
    """
    first, second = weight.shape[:2]
    filler = zero if zero.ndim == 0 or transposed else zero.reshape(-1, *[1] * (weight.ndim - 1))
    dense = np.empty((first, second * num_groups, *weight.shape[2:]), weight.dtype)
    dense[...] = filler
    rows = first // num_groups
    for group in range(num_groups):
        dense[group * rows : (group + 1) * rows, group * second : (group + 1) * second] = weight[
            group * rows : (group + 1) * rows
        ]
    return dense


def _set_one_group(node: onnx.NodeProto) -> None:
    for attribute in node.attribute:
        if attribute.name == "group":
            attribute.i = 1
