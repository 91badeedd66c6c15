"""What nodes compute from the shapes of tensors, as expressions over sizes that are not known."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto

from cimrobust.onnx_io.evaluate import evaluate_node
from cimrobust.onnx_io.symbolic import Algebra, Expression, TooMuchWorkError, Work, number
from cimrobust.onnx_io.walk import attributes, int_attribute

if TYPE_CHECKING:
    from cimrobust.array_shapes import Int64, Shaped
    from cimrobust.onnx_io.fold import Constants
    from cimrobust.onnx_io.shapes import TensorType

#: Least and largest number of the integer types that sizes are computed in.
_RANGES: Mapping[int, tuple[int, int]] = {
    TensorProto.BOOL: (0, 1),
    TensorProto.INT8: (-(2**7), 2**7 - 1),
    TensorProto.INT16: (-(2**15), 2**15 - 1),
    TensorProto.INT32: (-(2**31), 2**31 - 1),
    TensorProto.INT64: (-(2**63), 2**63 - 1),
    TensorProto.UINT8: (0, 2**8 - 1),
    TensorProto.UINT16: (0, 2**16 - 1),
    TensorProto.UINT32: (0, 2**32 - 1),
    TensorProto.UINT64: (0, 2**64 - 1),
}

#: Operators that move elements of their first input (Concat: of all); what else they read must be
#: constant.
_MOVING = frozenset(
    {
        "Concat",
        "Expand",
        "Flatten",
        "Gather",
        "Identity",
        "Reshape",
        "Slice",
        "Split",
        "Squeeze",
        "Tile",
        "Transpose",
        "Unsqueeze",
    }
)

#: Most elements of a tensor that is looked at.
_MAX_ELEMENTS = 256

#: What one node costs, in steps of arithmetic on expressions.
_NODE_STEPS = 100

_Arrays = Sequence[np.ndarray]


class SizeValues:
    """Integer and boolean tensors of a sorted graph, elements as expressions.

    What is the same for all sizes is a number.

    Every size that `types` names is one unknown wherever it is named, every one that it does not
    name an unknown of its own. Integers that depend on data are unknowns too, one an element.
    """

    def __init__(
        self,
        graph: onnx.GraphProto,
        constants: Constants,
        opsets: Mapping[str, int],
        types: Mapping[str, TensorType],
        work: Work,
    ) -> None:
        self._makers = {name: node for node in graph.node for name in node.output if name}
        self._constants = constants
        self._opsets = opsets
        self._types = types
        self._work = work
        self._algebra = Algebra(work)
        self._values: dict[str, Shaped[np.ndarray, "..."] | None] = {}

    def value(self, name: str) -> Shaped[np.ndarray, "..."] | None:
        """Return the elements of a tensor, an object array.

        None where not even its shape or type is known, or it is no integer.
        """
        pending = [name]
        while pending:
            current = pending[-1]
            node = self._makers.get(current)
            known = (
                node is None
                or self._constants.is_constant(current)
                or node.op_type in ("Shape", "Size")
            )
            missing = (
                []
                if known or node is None
                else [source for source in node.input if source and source not in self._values]
            )
            if missing and current not in self._values:
                pending += missing
                continue
            pending.pop()
            if current not in self._values:
                self._work.spend(_NODE_STEPS)
                self._values[current] = self._unknown(current)
                self._values.update(self._computed(current, node))
        return self._values[name]

    def number(self, name: str) -> int | None:
        """Return the value of a tensor of one element if it is the same for all sizes.

        Return None where it is not, or where proving that takes more work than the limit allows.
        """
        try:
            value = self.value(name)
        except TooMuchWorkError:
            return None
        return None if value is None or value.size != 1 else value.reshape(-1)[0].constant

    def _unknown(self, name: str) -> Shaped[np.ndarray, "..."] | None:
        """Return a tensor of which its shape and type are known at most."""
        kind = self._types.get(name)
        shape = kind.static_shape if kind is not None else None
        if (
            kind is None
            or shape is None
            or kind.elem_type not in _RANGES
            or math.prod(shape) > _MAX_ELEMENTS
        ):
            return None
        low, high = _RANGES[kind.elem_type]
        return _array(
            [
                self._algebra.atom(("element", name, index), low, high)
                for index in range(math.prod(shape))
            ],
            shape,
        )

    def _computed(
        self, name: str, node: onnx.NodeProto | None
    ) -> dict[str, Shaped[np.ndarray, "..."]]:
        """Return what is known of a tensor and of others that its node makes.

        Return nothing where that is no more than the types say.
        """
        if self._constants.is_constant(name):
            value = self._constants.value(name)
            if value is None or value.dtype.kind not in "iub" or value.size > _MAX_ELEMENTS:
                return {}
            return {
                name: _array([number(int(element)) for element in value.reshape(-1)], value.shape)
            }
        if node is None or node.domain:
            return {}
        if node.op_type in ("Shape", "Size"):
            return self._sizes_of(node)
        inputs = [self._values.get(source) if source else None for source in node.input]
        given = [
            value
            for source, value in zip(node.input, inputs, strict=True)
            if source and value is not None
        ]
        if len(given) < sum(1 for source in node.input if source) or not given:
            return {}
        try:
            results = (
                self._moved(node, inputs)
                if node.op_type in _MOVING
                else self._arithmetic(node, given)
            )
        except (
            ValueError,
            IndexError,
            NotImplementedError,
        ):  # shapes that do not go together, or a form that is not covered
            return {}
        return {
            output: value for output, value in zip(node.output, results, strict=False) if output
        }

    def _sizes_of(self, node: onnx.NodeProto) -> dict[str, Shaped[np.ndarray, "..."]]:
        kind = self._types.get(node.input[0])
        if kind is None or kind.shape is None:
            return {}
        named = [
            dim if dim is not None else (node.input[0], axis) for axis, dim in enumerate(kind.shape)
        ]
        sizes = [number(dim) if isinstance(dim, int) else self._algebra.size(dim) for dim in named]
        if node.op_type == "Size":
            total = reduce(self._algebra.multiply, sizes, number(1))
            return {node.output[0]: self._in_range(_array([total], ()), TensorProto.INT64)}
        part = sizes[int_attribute(node, "start", 0) : int_attribute(node, "end", len(sizes))]
        return {node.output[0]: _array(part, (len(part),))}

    def _moved(
        self, node: onnx.NodeProto, inputs: Sequence[Shaped[np.ndarray, "..."] | None]
    ) -> list[Shaped[np.ndarray, "..."]]:
        """Move positions in place of elements, by the operator itself."""
        if node.op_type == "Identity":
            return [array for array in inputs if array is not None]
        for output in node.output:
            kind = self._types.get(output)
            shape = kind.static_shape if kind is not None else None
            if output and (shape is None or math.prod(shape) > _MAX_ELEMENTS):
                raise NotImplementedError
        count = len(inputs) if node.op_type == "Concat" else 1
        elements: list[Expression] = []
        arguments: list[Shaped[np.ndarray, "..."] | None] = []
        for index, array in enumerate(inputs):
            if array is None:
                arguments.append(None)
            elif index < count:
                arguments.append(
                    np.arange(array.size, dtype=np.int64).reshape(array.shape) + len(elements)
                )
                elements += array.reshape(-1).tolist()
            else:
                arguments.append(_numbers(array))
        moved = evaluate_node(node, arguments, self._opsets)
        return [
            _array([elements[place] for place in places.reshape(-1)], places.shape)
            for places in moved
        ]

    def _arithmetic(self, node: onnx.NodeProto, inputs: _Arrays) -> list[Shaped[np.ndarray, "..."]]:
        kind = self._types.get(node.output[0])
        if kind is None or kind.elem_type not in _RANGES:
            return []
        if node.op_type in _REDUCTIONS:
            made = self._reduced(node, inputs)
        elif node.op_type == "Cast":
            made = self._cast(inputs[0], kind.elem_type)
        else:
            made = self._elementwise(node, inputs)
        return [self._in_range(made, kind.elem_type)]

    def _elementwise(self, node: onnx.NodeProto, inputs: _Arrays) -> Shaped[np.ndarray, "..."]:
        compute = _ELEMENTWISE.get(node.op_type)
        if (
            compute is None
            or math.prod(np.broadcast_shapes(*(array.shape for array in inputs))) > _MAX_ELEMENTS
        ):
            raise NotImplementedError
        together = np.broadcast_arrays(*inputs)
        rows = zip(*(array.reshape(-1) for array in together), strict=True)
        return _array([compute(self._algebra, node, row) for row in rows], together[0].shape)

    def _cast(self, array: Shaped[np.ndarray, "*shape"], to: int) -> Shaped[np.ndarray, "*shape"]:
        if to != TensorProto.BOOL:
            return array
        return _array(
            [self._algebra.invert(self._algebra.is_zero(value)) for value in array.reshape(-1)],
            array.shape,
        )

    def _in_range(
        self, array: Shaped[np.ndarray, "*shape"], kind: int
    ) -> Shaped[np.ndarray, "*shape"]:
        """Return elements that may leave the range of their type as unknowns.

        Machines wrap around there.
        """
        low, high = _RANGES[kind]

        def held(value: Expression) -> Expression:
            least, most = value.bounds
            return (
                value
                if low <= least and most <= high
                else self._algebra.atom(("wrapped", kind, value), low, high)
            )

        return _array([held(value) for value in array.reshape(-1)], array.shape)

    def _reduced(self, node: onnx.NodeProto, inputs: _Arrays) -> Shaped[np.ndarray, "..."]:
        array, attribute = inputs[0], attributes(node).get("axes")
        stated = (
            _numbers(inputs[1]).tolist()
            if len(inputs) > 1
            else attribute
            if isinstance(attribute, list)
            else []
        )
        if not stated and int_attribute(node, "noop_with_empty_axes", 0):
            return array
        axes = sorted({axis % array.ndim for axis in stated}) if stated else list(range(array.ndim))
        kept = [axis for axis in range(array.ndim) if axis not in axes]
        rows = array.transpose(*kept, *axes).reshape(
            math.prod(array.shape[axis] for axis in kept), -1
        )
        if rows.shape[1] == 0:
            raise NotImplementedError
        shape = [1 if axis in axes else length for axis, length in enumerate(array.shape)]
        if not int_attribute(node, "keepdims", 1):
            shape = [array.shape[axis] for axis in kept]
        return _array(
            [_REDUCTIONS[node.op_type](self._algebra, row.tolist()) for row in rows], tuple(shape)
        )


def _array(elements: Sequence[Expression], shape: Sequence[int]) -> Shaped[np.ndarray, "..."]:
    array = np.empty(len(elements), object)
    array[:] = elements
    return array.reshape(tuple(shape))


def _numbers(array: Shaped[np.ndarray, "*shape"]) -> Int64[np.ndarray, "*shape"]:
    """Return the numbers of a tensor that must be known.

    Raises:
        ValueError: One is not.
    """
    known = [value.constant for value in array.reshape(-1)]
    if any(value is None for value in known):
        raise ValueError("a number is not known")
    return np.asarray(known, np.int64).reshape(array.shape)


_Row = tuple[Expression, ...]


def _divide(algebra: Algebra, _node: onnx.NodeProto, row: _Row) -> Expression:
    found = algebra.quotient(row[0], row[1])
    if found is None:
        raise NotImplementedError
    return found


def _remainder(algebra: Algebra, node: onnx.NodeProto, row: _Row) -> Expression:
    divisor = row[1].constant
    # With fmod the sign is that of the dividend.
    if divisor is None or divisor <= 0 or (int_attribute(node, "fmod", 0) and row[0].bounds[0] < 0):
        raise NotImplementedError
    return algebra.remainder(row[0], divisor)


def _either(algebra: Algebra, first: Expression, second: Expression) -> Expression:
    return algebra.subtract(algebra.add(first, second), algebra.multiply(first, second))


def _less(algebra: Algebra, first: Expression, second: Expression) -> Expression:
    return algebra.is_positive(algebra.subtract(second, first))


_ELEMENTWISE: Mapping[str, Callable[[Algebra, onnx.NodeProto, _Row], Expression]] = {
    "Abs": lambda algebra, _, row: algebra.largest([row[0], algebra.subtract(number(0), row[0])]),
    "Add": lambda algebra, _, row: algebra.add(row[0], row[1]),
    "And": lambda algebra, _, row: algebra.multiply(*row),
    "Div": _divide,
    "Equal": lambda algebra, _, row: algebra.is_zero(algebra.subtract(*row)),
    "Greater": lambda algebra, _, row: _less(algebra, row[1], row[0]),
    "GreaterOrEqual": lambda algebra, _, row: algebra.invert(_less(algebra, row[0], row[1])),
    "Less": lambda algebra, _, row: _less(algebra, row[0], row[1]),
    "LessOrEqual": lambda algebra, _, row: algebra.invert(_less(algebra, row[1], row[0])),
    "Max": lambda algebra, _, row: algebra.largest(row),
    "Min": lambda algebra, _, row: algebra.smallest(row),
    "Mod": _remainder,
    "Mul": lambda algebra, _, row: algebra.multiply(*row),
    "Neg": lambda algebra, _, row: algebra.subtract(number(0), row[0]),
    "Not": lambda algebra, _, row: algebra.invert(row[0]),
    "Or": lambda algebra, _, row: _either(algebra, *row),
    "Sub": lambda algebra, _, row: algebra.subtract(*row),
    "Sum": lambda algebra, _, row: reduce(algebra.add, row),
    "Where": lambda algebra, _, row: algebra.choose(*row),
    "Xor": lambda algebra, _, row: algebra.invert(algebra.is_zero(algebra.subtract(*row))),
}

_REDUCTIONS: Mapping[str, Callable[[Algebra, list[Expression]], Expression]] = {
    "ReduceMax": lambda algebra, row: algebra.largest(row),
    "ReduceMin": lambda algebra, row: algebra.smallest(row),
    "ReduceProd": lambda algebra, row: reduce(algebra.multiply, row),
    "ReduceSum": lambda algebra, row: reduce(algebra.add, row),
}
