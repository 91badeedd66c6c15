"""Digital parameters of a deployed network that training may change beside its stored weights.

Biases, normalisations, digital copies.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx

from cimrobust.onnx_io.views import FLOAT_TYPES
from cimrobust.onnx_io.walk import all_nodes, op_name, read_names, subgraphs

if TYPE_CHECKING:
    from cimrobust.onnx_io.deployed import Deployed

_BIAS_SLOT = {"Conv": 2, "ConvTranspose": 2, "Gemm": 2, "LSTM": 3, "GRU": 3, "RNN": 3}
_PRODUCTS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum"})
_SAME_VALUES = frozenset(
    {"Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Transpose", "Cast"}
)
#: What gives the sums of integer products their scale.
_SCALINGS = frozenset({"Mul", "Div"})


@dataclass(frozen=True)
class Normalisation:
    """One BatchNormalization node with stored statistics.

    Attributes:
        node: Name of the node.
        data: Tensor that it normalises.
        scale: Initializer of its gain.
        shift: Initializer of its shift.
        mean: Initializer of the stored mean.
        variance: Initializer of the stored variance.
    """

    node: str
    data: str
    scale: str
    shift: str
    mean: str
    variance: str


@dataclass(frozen=True)
class DigitalParameters:
    """What a network holds beside its stored weights that training may change.

    Attributes:
        biases: Float initializers that are added to the outputs of products with a constant, scaled
            or not, in their own shape or another, and read for nothing else.
        normalisations: BatchNormalization nodes whose four parameters are float initializers that
            nothing else reads.
        copies: Digital copies of stored float weights, which nodes outside crossbars read, by the
            name of the copy: the initializer in the file.
    """

    biases: tuple[str, ...]
    normalisations: tuple[Normalisation, ...]
    copies: Mapping[str, str]


def digital_parameters(deployed: Deployed, output: str) -> DigitalParameters:
    """Find the digital parameters of a deployed network that an output depends on."""
    graph = deployed.model.graph
    floats = {tensor.name for tensor in graph.initializer if tensor.data_type in FLOAT_TYPES} - set(
        deployed.weight_names
    )
    nodes = _needed(graph, output)
    makers = {name: node for node in nodes for name in node.output if name}
    reads: dict[str, int] = {}
    for node in nodes:
        for name in node.input:
            reads[name] = reads.get(name, 0) + 1
    as_bias: dict[str, int] = {}
    products = _products(graph, nodes)
    for name in _bias_reads(nodes, _Biases(floats, makers, reads), products):
        as_bias[name] = as_bias.get(name, 0) + 1
    return DigitalParameters(
        biases=tuple(name for name, count in as_bias.items() if count == reads[name]),
        normalisations=tuple(_normalisations(nodes, floats, reads)),
        copies={
            copy: name
            for name in deployed.weight_names
            for copy in (f"{name}.digital",)
            if copy in floats and copy not in deployed.weight_names
        },
    )


def _needed(graph: onnx.GraphProto, output: str) -> list[onnx.NodeProto]:
    """Return the nodes that an output depends on, those of bodies included, in sorted order."""
    wanted, chosen = {output}, []
    for node in reversed(graph.node):
        if wanted.intersection(node.output):
            wanted |= read_names(node)
            chosen.append(node)
    inner = [inside for node in chosen for body in subgraphs(node) for inside in all_nodes(body)]
    return [*reversed(chosen), *inner]


def _products(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> set[str]:
    """Return the outputs of products of which one factor is constant.

    What is added to a product of data, as a mask to the scores of an attention, is no bias.
    """
    varying = {value.name for value in graph.input} - {tensor.name for tensor in graph.initializer}
    for node in nodes:
        if varying.intersection(read_names(node)):
            varying.update(node.output)
    return {
        node.output[0]
        for node in nodes
        if op_name(node) in _PRODUCTS and not varying.issuperset(node.input[:2])
    }


@dataclass(frozen=True)
class _Biases:
    """Where initializers come from and go to.

    Attributes:
        floats: Float initializers.
        makers: The node that makes a tensor.
        reads: How often a tensor is read.
    """

    floats: set[str]
    makers: Mapping[str, onnx.NodeProto]
    reads: Mapping[str, int]

    def origin(self, name: str) -> str | None:
        """Return the float initializer that a tensor is.

        It is so directly, or in another shape that nothing else reads.
        """
        while name not in self.floats:
            node = self.makers.get(name)
            if (
                node is None
                or op_name(node) not in _SAME_VALUES
                or self.reads[name] != 1
                or _makes_integers(node)
            ):
                return None
            name = node.input[0]
        return name


def _makes_integers(node: onnx.NodeProto) -> bool:
    return op_name(node) == "Cast" and any(
        attribute.name == "to" and attribute.i not in FLOAT_TYPES for attribute in node.attribute
    )


def _bias_reads(nodes: list[onnx.NodeProto], biases: _Biases, products: set[str]) -> Iterator[str]:
    """Yield an initializer for every time that it is read as the bias of a product."""
    for node in nodes:
        slot = _BIAS_SLOT.get(op_name(node))
        own = (
            biases.origin(node.input[slot]) if slot is not None and slot < len(node.input) else None
        )
        if own is not None:
            yield own
        if op_name(node) == "Add" and len(node.input) == 2:
            for added, other in (node.input, reversed(node.input)):
                own = biases.origin(added) if _is_product(other, biases.makers, products) else None
                if own is not None:
                    yield own


def _is_product(name: str, makers: Mapping[str, onnx.NodeProto], products: set[str]) -> bool:
    node = makers.get(name)
    if name in products or node is None:
        return name in products
    if op_name(node) in _SCALINGS:
        return any(_is_product(factor, makers, products) for factor in node.input)
    # A Max with one constant is what `deploy` puts behind layers that onnxruntime would turn back
    # to integers.
    same = op_name(node) in _SAME_VALUES or (op_name(node) == "Max" and ".keep_float" in node.name)
    return same and _is_product(node.input[0], makers, products)


def _normalisations(
    nodes: list[onnx.NodeProto], floats: set[str], reads: Mapping[str, int]
) -> Iterator[Normalisation]:
    for node in nodes:
        names = list(node.input[1:5])
        if (
            op_name(node) == "BatchNormalization"
            and len(names) == 4
            and all(name in floats and reads[name] == 1 for name in names)
        ):
            yield Normalisation(node.name, node.input[0], *names)
