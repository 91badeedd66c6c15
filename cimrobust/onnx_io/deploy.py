"""Bringing a scanned network into the form in which engines run it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto

from cimrobust.late_arrays import LateArrays
from cimrobust.onnx_io.batch import batch_notes, find_batch
from cimrobust.onnx_io.deployed import Deployed
from cimrobust.onnx_io.fold import replace_nodes
from cimrobust.onnx_io.integer import Rewriting, casts_to_float, is_integer_layer, rewrite
from cimrobust.onnx_io.large_models import without_data
from cimrobust.onnx_io.memory_needs import require_memory
from cimrobust.onnx_io.normalise import drop_dead_parts, name_nodes, sort_nodes
from cimrobust.onnx_io.shapes import TensorType, infer_types, spec_of
from cimrobust.onnx_io.tensors import encode, num_bytes
from cimrobust.onnx_io.unsigned import exact_products
from cimrobust.onnx_io.views import FLOAT_TYPES, data_inputs
from cimrobust.onnx_io.walk import NameMaker, all_graphs, all_nodes, defined_names
from cimrobust.onnx_io.weights import Weights, WeightUse, weights_of
from cimrobust.onnx_io.widened_batch import widen_batch

if TYPE_CHECKING:
    from cimrobust.array_shapes import Float32
    from cimrobust.onnx_io.layers import LayerScan
    from cimrobust.onnx_io.network import Network

_QUANTISED_BACK = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


def deploy(
    network: Network,
    scan: LayerScan,
    *,
    widen: bool = True,
    has_batch: bool = True,
    holds: bool = True,
) -> Deployed:
    """Return the network with every stored weight as one float32 initializer of its own name.

    Args:
        network: Loaded network.
        scan: Its layers, from scan_layers.
        widen: Make a batch axis of fixed size symbolic. Whether the result computes the same must
            be proved by running both.
        has_batch: False where samples have as many axes as the graph input: one sample a run,
            nothing is widened.
        holds: Let the model have the values of stored weights.

    Raises:
        ModelNotCoveredError: The network does not fit into memory once more.
    """
    _require_memory(network, scan, holds=holds)
    model = without_data(network.model, [layer.initializer for layer in scan.layers])
    _Deployment(
        model, scan, weights_of(network.model), infer_types(network.model, strict=False)
    ).run()
    batch, batch_size = find_batch(model, has_batch=has_batch)
    notes = batch_notes(model)
    if batch == "fixed" and widen:
        widened = widen_batch(model, batch_size)
        if widened is not None:
            model, changes = widened
            notes += changes
            batch, batch_size = "widened", None
    # Last: the inputs that this may add are constants, and no samples.
    inputs, outputs = (
        tuple(spec_of(value) for value in values)
        for values in (model.graph.input, model.graph.output)
    )
    model = exact_products(model) or model
    if holds:
        _fill(model, scan)
    return Deployed(
        model=model,
        weight_names=tuple(layer.initializer for layer in scan.layers),
        weight_shapes={layer.initializer: layer.shape for layer in scan.layers},
        inputs=inputs,
        outputs=outputs,
        batch=batch,
        batch_size=batch_size,
        notes=notes,
        late_weights=None if holds else late_weights(scan),
    )


def late_weights(scan: LayerScan) -> Mapping[str, Float32[np.ndarray, "..."]]:
    """Return the weights of the file by initializer, float32, each made when it is read."""
    layers = {layer.initializer: layer for layer in scan.layers}
    return LateArrays(layers, lambda name: layers[name].values)


def _fill(model: onnx.ModelProto, scan: LayerScan) -> None:
    """Put the float32 values of stored weights into a deployed model, in place.

    Last of all: a message that is copied or changed keeps what it held before.
    """
    layers = {layer.initializer: layer for layer in scan.layers}
    for tensor in model.graph.initializer:
        if tensor.name in layers:
            tensor.raw_data = np.ascontiguousarray(layers[tensor.name].values).tobytes()


def _require_memory(network: Network, scan: LayerScan, *, holds: bool) -> None:
    """Raise ModelNotCoveredError unless the deployed network fits.

    What is run with it is for `engine.opening_memory` to count.
    """
    stored = {layer.initializer: layer.num_weights for layer in scan.layers}
    digital = sum(
        num_bytes(tensor) for tensor in network.model.graph.initializer if tensor.name not in stored
    )
    require_memory(
        digital + (4 * sum(stored.values()) if holds else 0),
        what="the network with stored weights as float32",
        where=network.path,
        hint="use a machine with more memory, or a smaller network",
    )


class _Deployment:
    """The work on one copy of a model, in place."""

    def __init__(
        self,
        model: onnx.ModelProto,
        scan: LayerScan,
        weights: Weights,
        types: Mapping[str, TensorType],
    ) -> None:
        self.model = model
        self.scan = scan
        self.weights = weights
        self.types = types
        self.names = NameMaker(
            name for inner in all_graphs(model.graph) for name in defined_names(inner)
        )
        mapped = {(use.node, use.role) for layer in scan.layers for use in layer.uses}
        self.uses = [use for use in weights.uses() if (use.node.name, use.slot.role) in mapped]
        self.chain = {node.name: node for use in self.uses for node in use.trace.nodes}
        self.stored = {layer.initializer for layer in scan.layers}
        self.stored_tensors = self.stored | {
            name for node in self.chain.values() for name in node.output if name
        }

    def run(self) -> None:
        """Do all of it."""
        self._split_off_digital_reads()
        self._place_floats()
        self._rewrite_integer_layers()
        self._bypass_dequantisers()
        self._keep_float()
        problems = sort_nodes(self.model.graph)
        assert not problems, problems
        drop_dead_parts(self.model.graph)
        name_nodes(self.model.graph)

    def _split_off_digital_reads(self) -> None:
        """Let digital reads of a stored tensor read a copy of the original.

        Every node that reads the tensor without multiplying by it in a crossbar gets the copy.
        """
        slots = {(use.node.name, use.slot.index) for use in self.uses}
        copies: dict[str, str] = {}
        for inner in all_graphs(self.model.graph):
            for node in inner.node:
                is_chain = node.name in self.chain
                for index, name in enumerate(node.input):
                    stays = (node.name, index) in slots or (is_chain and name in data_inputs(node))
                    if name in self.stored_tensors and not stays:
                        node.input[index] = self._digital(name, copies)

    def _digital(self, name: str, copies: dict[str, str]) -> str:
        """Return the name of the digital copy of a stored tensor, made on first use."""
        if name in copies:
            return copies[name]
        copies[name] = self.names.take(f"{name}.digital")
        if name in self.stored:
            tensor = self.model.graph.initializer.add()
            source = self.weights.constants.tensor(name)
            assert source is not None
            tensor.CopyFrom(source)
            tensor.name = copies[name]
            return copies[name]
        maker = self.weights.constants.maker(name)
        assert maker is not None
        moved = data_inputs(maker)
        inputs = [
            self._digital(source, copies) if source in moved else source for source in maker.input
        ]
        node = onnx.NodeProto()
        node.CopyFrom(maker)
        node.name = f"{maker.name}.digital"
        node.input[:] = inputs
        for index, output in enumerate(maker.output):
            copies.setdefault(output, self.names.take(f"{output}.digital"))
            node.output[index] = copies[output]
        self.model.graph.node.append(node)
        return copies[name]

    def _place_floats(self) -> None:
        """Let every stored initializer have float32 values, which it gets at the end.

        Where other float types are needed, cast behind it.
        """
        layers = {layer.initializer: layer for layer in self.scan.layers}
        kinds: dict[str, int] = {}
        for tensor in self.model.graph.initializer:
            if tensor.name in layers:
                kinds[tensor.name] = tensor.data_type
                tensor.data_type = TensorProto.FLOAT
                tensor.dims[:] = layers[tensor.name].shape
        for name, kind in kinds.items():
            if kind in FLOAT_TYPES and kind != TensorProto.FLOAT:
                output = self.names.take(f"{name}.cast")
                self._redirect(name, output, but=frozenset({"Cast", "CastLike"}))
                self.model.graph.node.append(
                    onnx.helper.make_node("Cast", [name], [output], name=output, to=kind)
                )

    def _redirect(self, old: str, new: str, but: frozenset[str] = frozenset()) -> None:
        """Let all nodes read `new` in place of `old`, except those of the operators in `but`."""
        for node in all_nodes(self.model.graph):
            if node.op_type not in but:
                node.input[:] = [new if name == old else name for name in node.input]

    def _rewrite_integer_layers(self) -> None:
        by_name: dict[str, WeightUse] = {
            use.node.name: use for use in self.uses if is_integer_layer(use.node)
        }
        if not by_name:
            return
        for inner in all_graphs(self.model.graph):
            kept: list[onnx.NodeProto] = []
            for node in inner.node:
                kept += (
                    self._rewritten(node, by_name[node.name], inner)
                    if node.name in by_name
                    else [node]
                )
            replace_nodes(inner, kept)

    def _rewritten(
        self, node: onnx.NodeProto, use: WeightUse, graph: onnx.GraphProto
    ) -> list[onnx.NodeProto]:
        output = node.output[0]
        readers = [reader for reader in all_nodes(self.model.graph) if output in reader.input]
        is_output = any(output == value.name for value in graph.output)
        opset = self.weights.opsets.get("", 0)
        feeds_casts = (
            bool(readers) and not is_output and all(casts_to_float(reader) for reader in readers)
        )
        job = Rewriting(node, use.slot, self.weights.constants, self.names, opset, feeds_casts)
        rewrite(job)
        self.model.graph.initializer.extend(job.initializers)
        return job.nodes

    def _bypass_dequantisers(self) -> None:
        """Remove the DequantizeLinear nodes of stored weights.

        The initializer holds what they would make.
        """
        gone = {item.node.name: item.node for use in self.uses for item in use.trace.dequantisers}
        outputs = {value.name for inner in all_graphs(self.model.graph) for value in inner.output}
        for inner in all_graphs(self.model.graph):
            kept = [node for node in inner.node if node.name not in gone]
            for name in [node.name for node in inner.node if node.name in gone]:
                node = gone[name]
                kind = self.types.get(node.output[0], TensorType(TensorProto.FLOAT, None)).elem_type
                if kind == TensorProto.FLOAT and node.output[0] not in outputs:
                    self._redirect(node.output[0], node.input[0])
                else:
                    kept.append(
                        onnx.helper.make_node(
                            "Cast", [node.input[0]], [node.output[0]], name=node.name, to=kind
                        )
                    )
            if len(kept) != len(inner.node) or any(node.name in gone for node in kept):
                replace_nodes(inner, kept)

    def _keep_float(self) -> None:
        """Put an operator without effect behind every stored layer that reads dequantised values.

        Where its result is quantised, onnxruntime turns the layer back into an integer one,
        whatever the weights: it would round programmed weights to the nearest levels, in our
        sessions and in those of anybody who runs the witness. No optimisation removes a Max with
        the lowest float.
        """
        made_by = {name: node for node in all_nodes(self.model.graph) for name in node.output}
        lowest = ""
        for inner in all_graphs(self.model.graph):
            outputs = {value.name for value in inner.output}
            kept: list[onnx.NodeProto] = []
            for node in inner.node:
                kept.append(node)
                if not self._may_be_quantised(node, made_by) or node.output[0] in outputs:
                    continue
                if not lowest:
                    lowest = self.names.take("lowest_float")
                    self.model.graph.initializer.append(
                        encode(np.array(np.finfo(np.float32).min, dtype=np.float32), lowest)
                    )
                result, node.output[0] = node.output[0], self.names.take(f"{node.output[0]}.float")
                kept.append(
                    onnx.helper.make_node(
                        "Max",
                        [node.output[0], lowest],
                        [result],
                        name=self.names.take(f"{node.name}.keep_float"),
                    )
                )
            if len(kept) != len(inner.node):
                replace_nodes(inner, kept)

    def _may_be_quantised(
        self, node: onnx.NodeProto, made_by: Mapping[str, onnx.NodeProto]
    ) -> bool:
        """Tell whether a node multiplies dequantised values by a stored float weight."""
        if node.op_type not in _QUANTISED_BACK or not any(
            name in self.stored_tensors for name in node.input
        ):
            return False
        return any(
            name in made_by and made_by[name].op_type == "DequantizeLinear" for name in node.input
        )
