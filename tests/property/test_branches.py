"""A condition on sizes is folded only where onnxruntime decides it the same way at every size."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from cimrobust.onnx_io.branches import resolve_branches
from cimrobust.onnx_io.normalise import drop_dead_parts
from cimrobust.onnx_io.walk import opset_versions

#: Axes of the two inputs; `n` is shared, one size is fixed, one has no name.
SHAPES = {"x": ["n", 3, "h", "w"], "z": ["n", None, "h2"]}
SIZES = st.tuples(*[st.sampled_from([0, 1, 2, 3, 4, 5, 7, 8, 12, 16, 33])] * 5)
_BINARY = ("Add", "Sub", "Mul", "Div", "Mod", "Min", "Max")
_COMPARE = ("Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual")


class Builder:
    """Builds one integer or boolean scalar from the shapes of two inputs."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.count = 0

    def add(self, op: str, inputs: list[str], **attributes: object) -> str:
        self.count += 1
        self.nodes.append(
            helper.make_node(op, inputs, [f"v{self.count}"], name=f"n{self.count}", **attributes)
        )
        return f"v{self.count}"

    def constant(self, value: int | list[int]) -> str:
        self.count += 1
        self.constants.append(
            numpy_helper.from_array(np.asarray(value, np.int64), f"v{self.count}")
        )
        return f"v{self.count}"

    def number(self, depth: int) -> str:
        kind = self.draw(st.integers(0, 9)) if depth else self.draw(st.integers(0, 2))
        if kind == 0:
            return self.constant(self.draw(st.integers(-3, 9)))
        if kind <= 2:
            return self.axis()
        if kind <= 6:
            return self.binary(depth)
        if kind == 7:
            return self.add(self.draw(st.sampled_from(["Neg", "Abs"])), [self.number(depth - 1)])
        if kind == 8:
            return self.add(
                "Where", [self.bit(depth - 1), self.number(depth - 1), self.number(depth - 1)]
            )
        return self.vector(depth)

    def axis(self) -> str:
        name = self.draw(st.sampled_from(list(SHAPES)))
        shape = self.add("Shape", [self.draw(st.sampled_from([name, self.add("Neg", [name])]))])
        if self.draw(st.integers(0, 5)) == 0:
            return self.add("Size", [shape])
        place = self.draw(st.integers(-len(SHAPES[name]), len(SHAPES[name]) - 1))
        return self.add("Gather", [shape, self.constant(place)])

    def binary(self, depth: int) -> str:
        op = self.draw(st.sampled_from(_BINARY))
        first = self.number(depth - 1)
        # A division by zero ends the process of onnxruntime.
        second = (
            self.constant(self.draw(st.sampled_from([1, 2, 3, 4, 6, 8, -2])))
            if op in ("Div", "Mod")
            else self.number(depth - 1)
        )
        return self.add(op, [first, second])

    def vector(self, depth: int) -> str:
        zero = self.constant([0])
        parts = [
            self.add("Unsqueeze", [self.number(depth - 1), zero])
            for _ in range(self.draw(st.integers(1, 3)))
        ]
        joined = self.add("Concat", parts, axis=0)
        op = self.draw(
            st.sampled_from(["ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "Gather"])
        )
        if op == "Gather":
            return self.add(
                op, [joined, self.constant(self.draw(st.integers(-len(parts), len(parts) - 1)))]
            )
        return (
            self.add(op, [joined, zero], keepdims=0)
            if op == "ReduceSum"
            else self.add(op, [joined], axes=[0], keepdims=0)
        )

    def bit(self, depth: int) -> str:
        kind = self.draw(st.integers(0, 3)) if depth else 0
        if kind <= 1:
            return self.add(
                self.draw(st.sampled_from(_COMPARE)), [self.number(depth), self.number(depth)]
            )
        if kind == 2:
            return self.add(
                self.draw(st.sampled_from(["And", "Or", "Xor"])),
                [self.bit(depth - 1), self.bit(depth - 1)],
            )
        return self.add("Not", [self.bit(depth - 1)])


def branch(name: str, value: float) -> onnx.GraphProto:
    tensor = numpy_helper.from_array(np.float32(value), f"{name}.value")
    node = helper.make_node("Constant", [], [name], value=tensor)
    return helper.make_graph(
        [node], name, [], [helper.make_tensor_value_info(name, TensorProto.FLOAT, [])]
    )


@st.composite
def models(draw: st.DrawFn) -> onnx.ModelProto:
    """Models whose output is 1 or 0 by a condition on the sizes of their inputs, and the condition
    itself.
    """
    builder = Builder(draw)
    condition = builder.bit(draw(st.integers(0, 3)))
    builder.nodes.append(
        helper.make_node(
            "If",
            [condition],
            ["y"],
            name="if",
            then_branch=branch("t", 1),
            else_branch=branch("e", 0),
        )
    )
    graph = helper.make_graph(
        builder.nodes,
        "g",
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in SHAPES.items()
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [])],
        builder.constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def run(model: onnx.ModelProto, sizes: tuple[int, ...]) -> float:
    n, h, w, middle, h2 = sizes
    feeds = {"x": np.zeros((n, 3, h, w), np.float32), "z": np.zeros((n, middle, h2), np.float32)}
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options)
    return float(
        session.run(["y"], {value.name: feeds[value.name] for value in session.get_inputs()})[0]
    )


@settings(max_examples=150, deadline=None)
@given(models(), st.lists(SIZES, min_size=6, max_size=6))
def test_what_is_folded_is_decided_the_same_way_at_every_size(
    model: onnx.ModelProto, sizes: list[tuple[int, ...]]
) -> None:
    folded = onnx.ModelProto()
    folded.CopyFrom(model)
    resolve_branches(folded, opset_versions(folded))
    drop_dead_parts(folded.graph)
    decided = {run(model, each) for each in sizes}
    if all(node.op_type != "If" for node in folded.graph.node):
        assert decided == {run(folded, sizes[0])}
