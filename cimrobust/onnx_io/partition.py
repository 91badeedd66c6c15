"""Cutting a deployed model at its crossbar nodes.

Sub-graphs that an ordinary runtime runs, and the crossbar nodes between them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto

from cimrobust.onnx_io.crossbar_nodes import CrossbarNode
from cimrobust.onnx_io.fold import Constants
from cimrobust.onnx_io.shapes import infer_values, read_type
from cimrobust.onnx_io.walk import opset_versions, read_names

if TYPE_CHECKING:
    from cimrobust.array_shapes import Shaped
    from cimrobust.onnx_io.deployed import Deployed


@dataclass(frozen=True)
class Segment:
    """A part of the network without crossbar nodes.

    Attributes:
        model: The part as a model of its own, with no more than the initializers it needs.
        inputs: Tensors it reads from the rest, the graph inputs of `model`.
        outputs: Tensors it hands to the rest, the graph outputs of `model`.
        weight_names: Stored initializers that it still holds: weights of layers that stay digital.
    """

    model: onnx.ModelProto
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    weight_names: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """How to compute one output.

    Attributes:
        steps: In an order in which they can run.
        constants: Values that crossbar nodes read at inputs other than stored weights, by tensor
            name: biases, initial states.
        releases: For every step, tensors that nothing reads after it.
    """

    steps: tuple[Segment | CrossbarNode, ...]
    constants: Mapping[str, Shaped[np.ndarray, "..."]]
    releases: tuple[tuple[str, ...], ...]


def partition(deployed: Deployed, nodes: Sequence[CrossbarNode], output: str) -> Plan:
    """Cut what one output depends on at the given nodes.

    All nodes that can run without a pending crossbar node form one segment; then come all crossbar
    nodes that can run, and so on. So a chain of layers has one segment a layer, and parallel layers
    share one.

    Args:
        deployed: The network.
        nodes: Nodes to compute elsewhere, from crossbar_nodes of the same network.
        output: Name of a graph output.
    """
    return _Partition(deployed, nodes, output).run()


@dataclass(frozen=True)
class _Step:
    """A step before its model is made: nodes of a segment, or one crossbar node."""

    nodes: tuple[onnx.NodeProto, ...]
    crossbar: CrossbarNode | None
    reads: frozenset[str]
    makes: tuple[str, ...]


class _Partition:
    """The work on one network."""

    def __init__(self, deployed: Deployed, nodes: Sequence[CrossbarNode], output: str) -> None:
        self.deployed = deployed
        self.graph = deployed.model.graph
        self.output = output
        self.values = infer_values(deployed.model, strict=False)
        self.initializers = {tensor.name: tensor for tensor in self.graph.initializer}
        self.crossbar = {node.name: node for node in nodes}
        self.constants = self._constant_inputs(nodes)

    def _constant_inputs(
        self, nodes: Sequence[CrossbarNode]
    ) -> dict[str, Shaped[np.ndarray, "..."]]:
        """Return the values of crossbar inputs that are known before the network runs."""
        types = {
            name: kind
            for name, value in self.values.items()
            if (kind := read_type(value)) is not None
        }
        known = Constants(self.graph, opset_versions(self.deployed.model), types)
        varying = self._made_from(self.deployed.weight_names)
        values: dict[str, Shaped[np.ndarray, "..."]] = {}
        for name in dict.fromkeys(name for node in nodes for name in node.data_inputs):
            value = None if name in varying else known.value(name)
            if value is not None:
                values[name] = value
        return values

    def _made_from(self, names: Iterable[str]) -> set[str]:
        """Return the tensors that depend on some tensors, those themselves included."""
        found = set(names)
        for node in self.graph.node:
            if found & read_names(node):
                found |= {name for name in node.output if name}
        return found

    def run(self) -> Plan:
        """Do all of it."""
        steps = self._schedule(self._wanted_nodes())
        last_reads: dict[str, int] = {}
        for position, step in enumerate(steps):
            last_reads.update(
                dict.fromkeys((*step.makes, *sorted(step.reads - set(self.initializers))), position)
            )
        last_reads.pop(self.output, None)
        handed = {self.output} | {name for step in steps for name in step.reads}
        releases: list[list[str]] = [[] for _ in steps]
        made: tuple[Segment | CrossbarNode, ...] = tuple(
            step.crossbar or self._segment(step, handed) for step in steps
        )
        for name, position in last_reads.items():
            if (
                name in handed or steps[position].crossbar is not None
            ):  # what only its own segment reads never leaves it
                releases[position].append(name)
        read = {
            name for step in made if isinstance(step, CrossbarNode) for name in step.data_inputs
        }
        constants = {name: value for name, value in self.constants.items() if name in read}
        return Plan(made, constants, tuple(tuple(names) for names in releases))

    def _reads(self, node: onnx.NodeProto) -> set[str]:
        """Return the tensors a node reads at run time, initializers of digital nodes included."""
        crossbar = self.crossbar.get(node.name)
        return (
            read_names(node)
            if crossbar is None
            else set(crossbar.data_inputs) - set(self.constants)
        )

    def _wanted_nodes(self) -> list[onnx.NodeProto]:
        """Return the nodes that the output depends on, in topological order."""
        wanted, nodes = {self.output}, []
        for node in reversed(self.graph.node):
            if wanted & set(node.output):
                nodes.append(node)
                wanted |= self._reads(node)
        return nodes[::-1]

    def _schedule(self, pending: list[onnx.NodeProto]) -> list[_Step]:
        available = set(self.initializers) | {value.name for value in self.graph.input}
        steps: list[_Step] = []
        while pending:
            ready, waiting = self._take_ready(pending, available)
            if ready:
                steps.append(self._digital_step(ready))
            pending = []
            started = [
                node
                for node in waiting
                if node.name in self.crossbar and self._reads(node) <= available
            ]
            for node in started:
                makes = tuple(name for name in node.output if name)
                steps.append(
                    _Step((), self.crossbar[node.name], frozenset(self._reads(node)), makes)
                )
                available.update(makes)
            names = {node.name for node in started}
            pending = [node for node in waiting if node.name not in names]
            assert ready or started, "the nodes of a deployed model are sorted"
        return steps

    def _take_ready(
        self, pending: list[onnx.NodeProto], available: set[str]
    ) -> tuple[list[onnx.NodeProto], list[onnx.NodeProto]]:
        """Split off the digital nodes that can run by now; add what they make to `available`."""
        ready: list[onnx.NodeProto] = []
        waiting: list[onnx.NodeProto] = []
        for node in pending:
            if node.name not in self.crossbar and self._reads(node) <= available:
                ready.append(node)
                available.update(name for name in node.output if name)
            else:
                waiting.append(node)
        return ready, waiting

    def _digital_step(self, nodes: list[onnx.NodeProto]) -> _Step:
        makes = tuple(name for node in nodes for name in node.output if name)
        reads = {name for node in nodes for name in self._reads(node)} - set(makes)
        return _Step(tuple(nodes), None, frozenset(reads), makes)

    def _segment(self, step: _Step, handed: Collection[str]) -> Segment:
        model = onnx.ModelProto(ir_version=self.deployed.model.ir_version)
        model.opset_import.extend(self.deployed.model.opset_import)
        model.functions.extend(self.deployed.model.functions)
        graph = model.graph
        graph.name = "segment"
        graph.node.extend(step.nodes)
        graph.initializer.extend(
            tensor for name, tensor in self.initializers.items() if name in step.reads
        )
        inputs = tuple(sorted(step.reads - set(self.initializers)))
        outputs = tuple(name for name in step.makes if name in handed)
        graph.input.extend(self._typed(name, TensorProto.FLOAT) for name in inputs)
        graph.output.extend(self._typed(name, TensorProto.UNDEFINED) for name in outputs)
        return Segment(
            model,
            inputs,
            outputs,
            tuple(name for name in self.deployed.weight_names if name in step.reads),
        )

    def _typed(self, name: str, fallback: int) -> onnx.ValueInfoProto:
        """Return a tensor as a graph input or output.

        Where inference knows no type, the fallback, and UNDEFINED leaves it to the runtime.
        """
        value = self.values.get(name, onnx.ValueInfoProto(name=name))
        kind = read_type(value)
        if kind is None and value.type.WhichOneof("value") is not None:
            return value
        elem_type = (kind.elem_type if kind is not None else 0) or fallback
        if not elem_type:
            return onnx.ValueInfoProto(name=name)
        return onnx.helper.make_tensor_value_info(
            name, elem_type, kind.shape if kind is not None else None
        )
