"""Integer products in a form whose sums are exact in onnxruntime on every processor.

The numbers multiplied stay the same.

On x86 without VNNI, onnxruntime multiplies u8 by s8 with vpmaddubsw, which adds pairs of products
in 16 bits and saturates. Products of two unsigned or of two signed operands, and those of a signed
left with an unsigned right operand, are added in 32 bits everywhere. An s8 operand `w` with zero
point `z` stands for the same numbers as the u8 operand `w + 128` with zero point `z + 128`, so that
is what is run.

The session option ``session.x64quantprecision`` does this for some operators only (onnxruntime 1.23
to 1.32, avx2_weight_s8_to_u8.cc): not for QLinearConv of com.microsoft, not for QLinearMatMul of
opset 21, not for operands that are no constants of their own graph. Where *both* operands are
signed, it rewrites one and leaves an operator that has no kernel: `_hold_open` keeps it away from
those, which are exact as they are. And it stops with an error on some files with signed
QuantizeLinear and DequantizeLinear, which therefore become unsigned here, all of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto

from cimrobust.onnx_io.external import ExternalFiles
from cimrobust.onnx_io.large_models import require_one_message, tensor_bytes
from cimrobust.onnx_io.normalise import drop_initializer_inputs, make_names_unique
from cimrobust.onnx_io.shapes import infer_types
from cimrobust.onnx_io.signed_operands import DEQUANTISERS, MICROSOFT, OPERANDS, QUANTISERS, Operand
from cimrobust.onnx_io.tensors import decode, encode
from cimrobust.onnx_io.walk import (
    all_graphs,
    all_nodes,
    all_tensors,
    int_attribute,
    op_name,
    read_names,
)

if TYPE_CHECKING:
    from jaxtyping import Int8, Shaped, UInt8

_HALF = 128
#: Two products of 255 and a weight of at most this magnitude fit in 16 bits.
_SAFE = 64
#: What stands between a stored weight and its DequantizeLinear, and moves it.
_MOVES = frozenset(
    {"Identity", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Slice", "Gather"}
)
#: Levels of `accuracy_level` above this let MatMulNBits round its activations to 8 bits.
_FLOAT_ACTIVATIONS = 1


def may_saturate(model: onnx.ModelProto) -> bool:
    """Return whether a model has operators that `exact_products` looks at; cheap."""
    names = {op_name(node) for node in all_nodes(model.graph)}
    return bool(names & ({*OPERANDS, f"{MICROSOFT}MatMulNBits"} | DEQUANTISERS))


def file_may_saturate(content: bytes) -> bool:
    """Return what `may_saturate` does of a model file, whose tensors need no data."""
    return may_saturate(onnx.ModelProto.FromString(content))


def exact_products(model: onnx.ModelProto) -> onnx.ModelProto | None:
    """Return a copy of a model whose integer products are exact on every processor.

    They are exact in onnxruntime. Return None where the model is that already.

    The copy computes the same function, inputs and outputs have the same names. Nodes with local
    functions are left as they are.

    Args:
        model: The model, all its data inside.
    """
    if not may_saturate(model):
        return None
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    work = _Work(copy)
    work.run()
    return copy if work.changed else None


def exact_file(content: bytes, folder: Path) -> bytes | None:
    """Return a model file as `exact_products` makes it, all its data inside.

    None where nothing has to change.

    Args:
        content: The model file, which was loaded before.
        folder: Where its external data are.

    Raises:
        ModelNotCoveredError: It has to change, and is more than one message holds.
    """
    model = onnx.ModelProto.FromString(content)
    if not may_saturate(model):
        return None
    require_one_message(
        tensor_bytes(model),
        what="a network of integer products that this processor may add inexactly",
        where=folder,
        hint="export its weights as unsigned integers, or use a smaller network",
    )
    files = ExternalFiles(folder.absolute())
    external = [t for t in all_tensors(model) if t.data_location == TensorProto.EXTERNAL]
    if files.embed(external):
        return None
    exact = exact_products(model)
    return None if exact is None else bytes(exact.SerializeToString())


@dataclass
class _Work:
    """The work on one copy of a model, in place.

    Attributes:
        model: The copy.
        changed: Something was rewritten.
    """

    model: onnx.ModelProto
    changed: bool = False
    _shifted: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        graph = self.model.graph
        self._names = make_names_unique(graph)
        drop_initializer_inputs(self.model)
        self._types = {
            name: kind.elem_type for name, kind in infer_types(self.model, strict=False).items()
        }
        self._makers = {name: node for node in all_nodes(graph) for name in node.output if name}
        self._outputs = {value.name for inner in all_graphs(graph) for value in inner.output}
        self._readers: dict[str, list[onnx.NodeProto]] = {}
        for node in all_nodes(graph):
            for name in set(node.input):
                self._readers.setdefault(name, []).append(node)
        self._stored: dict[str, onnx.TensorProto] = {}
        for inner in all_graphs(graph):
            self._stored.update((tensor.name, tensor) for tensor in inner.initializer)
        for node in all_nodes(graph):
            if node.op_type == "Constant" and not node.domain:
                self._stored.update(
                    (node.output[0], attribute.t)
                    for attribute in node.attribute
                    if attribute.name == "value"
                )

    def run(self) -> None:
        """Do all of it."""
        plans: list[tuple[onnx.GraphProto, list[onnx.NodeProto]]] = []
        for inner in all_graphs(self.model.graph):
            kept: list[onnx.NodeProto] = []
            for node in inner.node:
                kept += [*self._exact(node), node]
            plans.append((inner, kept))
        # Copied when all is done, bodies first: a quantiser and its readers are changed together,
        # wherever they are.
        for inner, kept in reversed(plans):
            if len(kept) != len(inner.node):
                nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in kept]
                del inner.node[:]
                inner.node.extend(nodes)
        self._drop_unread()

    def _exact(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """Make a node's operands unsigned where it needs that; return nodes to run before it."""
        before: list[onnx.NodeProto] = []
        name = op_name(node)
        if name in DEQUANTISERS:
            before += self._shift_stored_weight(node)
        elif name in QUANTISERS:
            self._shift_quantised(node)
        elif name == f"{MICROSOFT}MatMulNBits":
            self._keep_activations(node)
        for operand in OPERANDS.get(name, ()):
            given = _input(node, operand.index)
            if self._kind(
                node, operand.index, operand.zero
            ) != TensorProto.INT8 or not self._is_large(given):
                continue
            other = (
                TensorProto.UINT8
                if operand.other is None
                else self._kind(node, operand.other, operand.other_zero)
            )
            if other == TensorProto.UINT8:
                before += self._shift(node, operand)
            elif other == TensorProto.INT8 and operand.converted and given in self._stored:
                self._hold_open(node, operand)
        return before

    def _drop_unread(self) -> None:
        """Take away what was stored signed where nothing reads it any more."""
        graph = self.model.graph
        read = {value.name for value in graph.output}.union(
            *(read_names(node) for node in graph.node)
        )
        gone = [
            tensor
            for tensor in graph.initializer
            if tensor.name in self._shifted and tensor.name not in read
        ]
        for tensor in gone:
            graph.initializer.remove(tensor)

    def _kind(self, node: onnx.NodeProto, index: int, zero: int | None) -> int | None:
        """Return the element type of an operand.

        Its zero point's, its own, or what the node that makes it says.
        """
        for place in (zero, index):
            name = "" if place is None else _input(node, place)
            if name in self._stored:
                return int(self._stored[name].data_type)
            if self._types.get(name):
                return self._types[name]
        maker = self._makers.get(_input(node, index))
        if maker is None or not op_name(maker).startswith(MICROSOFT):
            return None
        # Operators of com.microsoft on levels have the zero point of their output last.
        return self._kind(maker, len(maker.input) - 1, None) if maker.input else None

    def _is_large(self, name: str) -> bool:
        tensor = self._stored.get(name)
        return tensor is None or bool((np.abs(decode(tensor).astype(np.int16)) > _SAFE).any())

    def _shift(self, node: onnx.NodeProto, operand: Operand) -> list[onnx.NodeProto]:
        """Replace a signed operand and its zero point by unsigned ones.

        Return the nodes that make them.
        """
        self.changed = True
        before = self._shift_input(node, operand.index)
        if _input(node, operand.zero):
            return [*before, *self._shift_input(node, operand.zero)]
        _set_input(
            node,
            operand.zero,
            self._constant(np.asarray(_HALF, np.uint8), f"{node.input[operand.index]}.zero"),
        )
        return before

    def _shift_input(self, node: onnx.NodeProto, index: int) -> list[onnx.NodeProto]:
        name = node.input[index]
        if name in self._stored:
            if name not in self._shifted:
                self._shifted[name] = self._constant(
                    _shifted(decode(self._stored[name])), f"{name}.unsigned"
                )
            node.input[index] = self._shifted[name]
            return []
        wide, moved, result = (
            self._names.take(f"{name}.{part}") for part in ("wide", "moved", "unsigned")
        )
        half = self._constant(np.asarray(_HALF, np.int32), f"{name}.half")
        node.input[index] = result
        return [
            onnx.helper.make_node("Cast", [name], [wide], name=wide, to=TensorProto.INT32),
            onnx.helper.make_node("Add", [wide, half], [moved], name=moved),
            onnx.helper.make_node("Cast", [moved], [result], name=result, to=TensorProto.UINT8),
        ]

    def _shift_stored_weight(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """Make the weight that a DequantizeLinear reads unsigned, stored or moved from stored.

        Onnxruntime fuses it with its reader. Return the nodes that make it.
        """
        weight = self._stored.get(self._unmoved(_input(node, 0)))
        scale, zero = (self._stored.get(_input(node, index)) for index in (1, 2))
        if weight is None or scale is None or weight.data_type != TensorProto.INT8:
            return []
        if zero is None and _input(node, 2):
            return []
        self._shift_zero(node, scale)
        return self._shift_input(node, 0)

    def _unmoved(self, name: str) -> str:
        """Return the tensor that one is moved from."""
        maker = self._makers.get(name)
        while name not in self._stored and maker is not None and op_name(maker) in _MOVES:
            name = maker.input[0]
            maker = self._makers.get(name)
        return name

    def _shift_zero(self, node: onnx.NodeProto, scale: onnx.TensorProto) -> None:
        """Shift the stored zero point of a quantiser.

        Where it has none, which stands for 0, give it one of the shape of its scale.
        """
        self.changed = True
        if _input(node, 2):
            self._shift_input(node, 2)
        else:
            _set_input(
                node,
                2,
                self._constant(
                    np.full(tuple(scale.dims), _HALF, np.uint8), f"{node.output[0]}.zero"
                ),
            )

    def _shift_quantised(self, node: onnx.NodeProto) -> None:
        """Make a QuantizeLinear give unsigned levels where only DequantizeLinear reads them."""
        zero, scale = self._stored.get(_input(node, 2)), self._stored.get(_input(node, 1))
        if (
            zero is None
            or scale is None
            or zero.data_type != TensorProto.INT8
            or node.output[0] in self._outputs
        ):
            return
        readers = self._readers.get(node.output[0], [])
        if not all(self._may_follow(reader, node.output[0]) for reader in readers):
            return
        kept = [attribute for attribute in node.attribute if attribute.name != "output_dtype"]
        del node.attribute[:]
        node.attribute.extend(kept)
        self._shift_zero(node, scale)
        for reader in readers:
            self._shift_zero(reader, self._stored[reader.input[1]])

    def _may_follow(self, reader: onnx.NodeProto, name: str) -> bool:
        """Return whether a reader of levels is a DequantizeLinear that can follow their shift.

        Its zero point is shifted with the levels.
        """
        if (
            op_name(reader) not in DEQUANTISERS
            or list(reader.input).count(name) != 1
            or reader.input[0] != name
        ):
            return False
        zero = self._stored.get(_input(reader, 2))
        return _input(reader, 1) in self._stored and (
            not _input(reader, 2) or (zero is not None and zero.data_type == TensorProto.INT8)
        )

    def _keep_activations(self, node: onnx.NodeProto) -> None:
        """Let MatMulNBits multiply the activations that it is given.

        How it would round them depends on the processor.
        """
        if int_attribute(node, "accuracy_level", 0) <= _FLOAT_ACTIVATIONS:
            return
        for attribute in node.attribute:
            if attribute.name == "accuracy_level":
                attribute.i = _FLOAT_ACTIVATIONS
        self.changed = True

    def _hold_open(self, node: onnx.NodeProto, operand: Operand) -> None:
        """Give a node a zero point that a caller could override, though nobody does.

        That keeps the session option away.
        """
        zero = self._stored.get(_input(node, operand.zero))
        if zero is None and _input(node, operand.zero):
            return
        self.changed = True
        values = np.zeros((), np.int8) if zero is None else decode(zero)
        name = self._constant(values, f"{node.input[operand.index]}.zero")
        _set_input(node, operand.zero, name)
        self.model.graph.input.append(
            onnx.helper.make_tensor_value_info(name, TensorProto.INT8, list(values.shape))
        )

    def _constant(self, values: Shaped[np.ndarray, "..."], wish: str) -> str:
        name = self._names.take(wish)
        self.model.graph.initializer.append(encode(values, name))
        return name


def _shifted(values: Int8[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
    return np.asarray(values.astype(np.int16) + _HALF, np.uint8)


def _input(node: onnx.NodeProto, index: int) -> str:
    return node.input[index] if index < len(node.input) else ""


def _set_input(node: onnx.NodeProto, index: int, name: str) -> None:
    node.input.extend([""] * (index + 1 - len(node.input)))
    node.input[index] = name
