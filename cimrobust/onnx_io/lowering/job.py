"""What a lowering sees of its node, and what it builds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper

from cimrobust.onnx_io.lowering.lowering_errors import RefusedError, StaysError, UnknownTypeError
from cimrobust.onnx_io.shapes import TensorType, rank_of
from cimrobust.onnx_io.tensors import decode, encode, num_elements
from cimrobust.onnx_io.walk import NameMaker, attributes

if TYPE_CHECKING:
    from cimrobust.array_shapes import Shaped

Attribute = int | float | str | Sequence[int] | Sequence[float]

_SHORT_FLOATS = (TensorProto.FLOAT16, TensorProto.BFLOAT16)

_NOTHING: Mapping[str, Attribute] = MappingProxyType({})


@dataclass
class Stored:
    """Weights that lowerings make of what a file holds in another form.

    Attributes:
        names: Name of every weight, by what it is made of and how.
        bits: Bits of a stored weight where the file states them, by name.
        instead: Why the file itself cannot be the reference of what is read here, one reason an
            entry.
        notes: What a reader wants to know of a weight, by its name, for which ``{}`` stands.
        sources: Initializers of the file that weights were made of.
        num_new: Numbers that the weights have more than what they were made of.
    """

    names: dict[tuple[str, str, bytes], str] = field(default_factory=dict)
    bits: dict[str, int] = field(default_factory=dict)
    instead: dict[str, None] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    sources: set[str] = field(default_factory=set)
    num_new: int = 0

    def copy(self) -> Stored:
        """Return what is known so far, to go back to when a lowering gives up half-way."""
        return Stored(
            dict(self.names),
            dict(self.bits),
            dict(self.instead),
            dict(self.notes),
            set(self.sources),
            self.num_new,
        )


@dataclass
class Job:
    """One node that is lowered, and the standard nodes that take its place.

    Attributes:
        node: The node.
        opset: Standard operator set of the model; the nodes that are added must be of it.
        types: Types of all tensors, as far as inference got.
        makers: Node that makes a tensor.
        constants: Initializers by name.
        names: Maker of tensor names.
        node_names: Maker of node names.
        nodes: Nodes made so far.
        initializers: Initializers made so far.
        stored: What lowerings of the whole model say of the weights that they make, see `weight`.
    """

    node: onnx.NodeProto
    opset: int
    types: dict[str, TensorType]
    makers: Mapping[str, onnx.NodeProto]
    constants: Mapping[str, TensorProto]
    names: NameMaker
    node_names: NameMaker
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: list[TensorProto] = field(default_factory=list)
    stored: Stored = field(default_factory=Stored)
    _wide: dict[str, str] = field(default_factory=dict)
    _narrow: int = TensorProto.UNDEFINED
    _bound: dict[str, str] = field(default_factory=dict)
    _known: dict[tuple[str, bytes], str] = field(default_factory=dict)

    # What the node says.

    def input(self, index: int) -> str:
        """Return the name of an input, ``""`` if it is left out."""
        name = self.node.input[index] if index < len(self.node.input) else ""
        return self._wide.get(name, name)

    def wants(self, index: int) -> bool:
        """Return whether an output has a name."""
        return index < len(self.node.output) and self.node.output[index] != ""

    def integer(self, name: str, default: int) -> int:
        """Return an integer attribute."""
        value = attributes(self.node).get(name, default)
        return value if isinstance(value, int) else default

    def number(self, name: str, default: float) -> float:
        """Return a float attribute."""
        value = attributes(self.node).get(name, default)
        return float(value) if isinstance(value, int | float) else default

    def text(self, name: str, default: str = "") -> str:
        """Return a text attribute."""
        return str(attributes(self.node).get(name, default))

    def integers(self, name: str) -> list[int]:
        """Return a list of integers, empty where the attribute is left out."""
        value = attributes(self.node).get(name, [])
        return [int(item) for item in value] if isinstance(value, list) else []

    def numbers(self, name: str) -> list[float]:
        """Return a list of floats, empty where the attribute is left out."""
        value = attributes(self.node).get(name, [])
        return [float(item) for item in value] if isinstance(value, list) else []

    def given(self, *names: str) -> dict[str, Attribute]:
        """Return those of some attributes that the node states, to take them over."""
        stated = attributes(self.node)
        return {name: stated[name] for name in names if name in stated}  # type: ignore[misc]

    def widen(self) -> None:
        """Cast inputs of 16-bit floating-point types to float32.

        The lowering then computes in float32; `finish` casts back.

        Raises:
            UnknownTypeError: Only some of the types are known.
        """
        names = list(dict.fromkeys(name for name in self.node.input if name))
        short = [
            name
            for name in names
            if (kind := self.types.get(name)) is not None and kind.elem_type in _SHORT_FLOATS
        ]
        unknown = [
            name for name in names if name not in self.types or not self.types[name].elem_type
        ]
        if short and unknown:
            raise UnknownTypeError(unknown[0])
        for name in short:
            kind = self.types[name]
            self._narrow = kind.elem_type
            self._wide[name] = self.add("Cast", name, wish="wide", to=TensorProto.FLOAT)
            self.types[self._wide[name]] = TensorType(TensorProto.FLOAT, kind.shape)

    # What is known of tensors.

    def elem_type(self, name: str) -> int:
        """Return the ONNX element type of a tensor.

        Raises UnknownTypeError where it is not known (yet).
        """
        kind = self.types.get(needed(name))
        if kind is None or kind.elem_type == TensorProto.UNDEFINED:
            raise UnknownTypeError(name)
        return kind.elem_type

    def rank(self, name: str) -> int:
        """Return the number of axes of a tensor.

        Raises UnknownTypeError where it is not known (yet).
        """
        rank = rank_of(needed(name), self.types, self.makers)
        if rank is None:
            raise UnknownTypeError(name)
        return rank

    def shape(self, name: str) -> tuple[int | str | None, ...]:
        """Return the shape of a tensor, symbols and unknown sizes included.

        Raises UnknownTypeError where not even the rank is known (yet).
        """
        kind = self.types.get(needed(name))
        if kind is None or kind.shape is None:
            raise UnknownTypeError(name)
        return kind.shape

    def batch(self, name: str) -> int | str | None:
        """Return the size of the first axis of a tensor, None where it is not known."""
        kind = self.types.get(name)
        return kind.shape[0] if kind is not None and kind.shape else None

    def value(self, name: str) -> Shaped[np.ndarray, "..."] | None:
        """Return the value of an initializer, None for other tensors."""
        tensor = self.constants.get(name)
        return None if tensor is None else decode(tensor)

    def known(self, *names: str) -> str:
        """Return the first of several tensors of one type whose type is known."""
        present = [name for name in names if name]
        return next(
            (name for name in present if (kind := self.types.get(name)) and kind.elem_type),
            present[0] if present else "",
        )

    # What it builds.

    def add(
        self,
        op: str,
        *inputs: str,
        wish: str = "",
        taken: Mapping[str, Attribute] = _NOTHING,
        **values: Attribute,
    ) -> str:
        """Add a standard node; return the name of its (first) output.

        Args:
            op: Operator of the standard domain.
            inputs: Names of what it reads; those left out at the end are cut off.
            wish: What its name ends on; ``""``: the operator.
            taken: Attributes taken over, see `given`.
            values: Further attributes.
        """
        return self.many(op, *inputs, wish=wish, outputs=1, taken=taken, **values)[0]

    def many(
        self,
        op: str,
        *inputs: str,
        outputs: int,
        wish: str = "",
        taken: Mapping[str, Attribute] = _NOTHING,
        **values: Attribute,
    ) -> list[str]:
        """As `add`, for a node with several outputs; return their names."""
        read = list(inputs)
        while read and not read[-1]:
            read.pop()
        if len(read) < _least_inputs(op, self.opset):
            needed("")  # which refuses
        name = f"{self.node.name}.{wish or op}"
        made = [self.names.take(name) for _ in range(outputs)]
        node = helper.make_node(op, read, made, name=self.node_names.take(name))
        node.attribute.extend(
            helper.make_attribute(key, value) for key, value in {**taken, **values}.items()
        )
        self.nodes.append(node)
        return made

    def constant(self, value: Shaped[np.ndarray, "..."], wish: str = "constant") -> str:
        """Add an initializer (one for equal values of a node); return its name."""
        array = np.asarray(value)
        key = (f"{array.dtype}{array.shape}", array.tobytes())
        if key not in self._known:
            name = self.names.take(f"{self.node.name}.{wish}")
            self.initializers.append(encode(array, name))
            self._known[key] = name
        return self._known[key]

    def weight(
        self,
        source: str,
        value: Shaped[np.ndarray, "..."],
        suffix: str,
        *,
        bits: int | None = None,
        note: str = "",
    ) -> str:
        """Add an initializer that another tensor of the file is read as; return its name.

        It is added once for all nodes that read the tensor in this way.

        Args:
            source: The tensor of the file, an input of the node, or what else the weight is to be
                called after.
            value: What it is read as.
            suffix: How the name goes on.
            bits: Bits of its integers, where the file states them.
            note: A sentence for the reader; ``{}`` stands for the name.
        """
        array = np.asarray(value)
        key = (source, f"{suffix}{array.dtype}{array.shape}", array.tobytes())
        if key not in self.stored.names:
            name = self.names.take(f"{source}.{suffix}")
            self.initializers.append(encode(array, name))
            self.stored.names[key] = name
            self.stored.num_new += array.size
            if (
                source in self.node.input
                and source in self.constants
                and source not in self.stored.sources
            ):
                self.stored.sources.add(source)
                self.stored.num_new -= num_elements(self.constants[source])
            if bits is not None:
                self.stored.bits[name] = bits
            if note:
                self.stored.notes[name] = note
        return self.stored.names[key]

    def axes(self, *values: int) -> str:
        """Add a vector of int64, for axes and shapes; return its name."""
        return self.constant(np.asarray(values, np.int64), "ints")

    def index(self, value: int) -> str:
        """Add one int64; return its name."""
        return self.constant(np.asarray(value, np.int64), "index")

    def scalar(self, value: float, *, like: str) -> str:
        """Add a number of the element type of another tensor; return its name."""
        kind = helper.tensor_dtype_to_np_dtype(self.elem_type(like))
        return self.constant(np.asarray(value, kind), "number")

    def finish(self, *results: str, integers: Sequence[int] = ()) -> None:
        """Say which tensors are the outputs of the node, in its order.

        Args:
            results: Their names; ``""`` for one that is not made.
            integers: Indices of those that are no floating-point numbers.

        Raises:
            StaysError: An output that has a name is not made.
        """
        for index, output in enumerate(self.node.output):
            if not output:
                continue
            result = results[index] if index < len(results) else ""
            if not result:
                raise StaysError(
                    f"its output {index} ('{output}') is not made by standard operators"
                )
            if self._narrow and index not in integers:
                result = self.add("Cast", result, wish="narrow", to=self._narrow)
            self._bind(output, result)

    def _bind(self, output: str, result: str) -> None:
        """Give a tensor the name of an output.

        One that has such a name already, or is no tensor of ours, is copied.
        """
        if result in self._bound or result not in {
            name for node in self.nodes for name in node.output
        }:
            self.add("Identity", self._bound.get(result, result))
            self.nodes[-1].output[0] = output
            return
        for node in self.nodes:
            node.input[:] = [output if name == result else name for name in node.input]
            node.output[:] = [output if name == result else name for name in node.output]
        self._bound[result] = output


@cache
def _least_inputs(op: str, opset: int) -> int:
    """Return how many inputs a standard operator cannot be without."""
    try:
        return int(onnx.defs.get_schema(op, opset).min_input)
    except onnx.defs.SchemaError:
        return 0  # a set without the operator, which the checker refuses


def needed(name: str) -> str:
    """Return the name of a tensor that an operator cannot be without.

    Raises:
        RefusedError: It is ``""``: left out.
    """
    if not name:
        raise RefusedError("it has not all the inputs that its operator needs")
    return name
