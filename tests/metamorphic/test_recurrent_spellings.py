"""One recurrent network as a node, as Scan, as Loop and unrolled, with time or batch first."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

STEPS, INPUTS, HIDDEN, CLASSES, SAMPLES = 5, 6, 8, 4, 48
TOLERANCE = 0.08

_DRAW = np.random.default_rng(12)
W, R, B = (
    _DRAW.normal(size=shape).astype(np.float32) / 2
    for shape in ((3 * HIDDEN, INPUTS), (3 * HIDDEN, HIDDEN), (6 * HIDDEN,))
)
V = _DRAW.normal(size=(HIDDEN, CLASSES)).astype(np.float32)
X = _DRAW.normal(size=(SAMPLES, STEPS, INPUTS)).astype(np.float32)

Node = onnx.NodeProto


def node(op: str, inputs: list[str], outputs: list[str], **attributes: object) -> Node:
    return helper.make_node(op, inputs, outputs, **attributes)


def model(
    nodes: list[Node], arrays: dict[str, np.ndarray], *, batch: int | str = "n"
) -> onnx.ModelProto:
    """Return a model of x [batch, time, inputs] that ends in y = last V."""
    nodes = [*nodes, node("MatMul", ["last", "v"], ["y"])]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, STEPS, INPUTS])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, CLASSES])],
        [numpy_helper.from_array(value, name) for name, value in {**arrays, "v": V}.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


GRU = {"w": W[None], "r": R[None], "b": B[None], "zero": ints(0)}
HOW = {"hidden_size": HIDDEN, "linear_before_reset": 1}
TIME_FIRST = node("Transpose", ["x"], ["t"], perm=[1, 0, 2])


def plain() -> onnx.ModelProto:
    return model(
        [
            TIME_FIRST,
            node("GRU", ["t", "w", "r", "b"], ["", "h"], **HOW),
            node("Squeeze", ["h", "zero"], ["last"]),
        ],
        GRU,
    )


def _labels() -> np.ndarray:
    session = onnxruntime.InferenceSession(
        plain().SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return np.asarray(session.run(None, {"x": X})[0]).argmax(1)


LABELS = _labels()


def last_of_all() -> onnx.ModelProto:

    return model(
        [
            node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
            node("GRU", ["t", "w", "r", "b"], ["all", ""], **HOW),
            node("Gather", ["all", "end"], ["e"], axis=0),
            node("Squeeze", ["e", "zero"], ["last"]),
        ],
        {**GRU, "end": np.array(-1, np.int64)},
    )


def with_zero_state(batch: int | str) -> onnx.ModelProto:
    """Return it as exporters write a first state of zeros: a constant where the batch is fixed,
    else of the input's size.
    """
    nodes = [TIME_FIRST]
    arrays = dict(GRU)
    if batch == 1:
        arrays["h0"] = np.zeros((1, 1, HIDDEN), np.float32)
    else:
        nodes += [
            node("Shape", ["x"], ["shape"]),
            node("Slice", ["shape", "zero", "one"], ["count"]),
            node("Concat", ["one", "count", "width"], ["target"], axis=0),
            node("ConstantOfShape", ["target"], ["h0"]),
        ]
        arrays |= {"one": ints(1), "width": ints(HIDDEN)}
    nodes += [
        node("GRU", ["t", "w", "r", "b", "", "h0"], ["", "h"], **HOW),
        node("Squeeze", ["h", "zero"], ["last"]),
    ]
    return model(nodes, arrays, batch=batch)


def reversed_twice() -> onnx.ModelProto:
    """Return a GRU that runs backwards over the input turned round."""
    arrays = {**GRU, "start": ints(-1), "stop": ints(-STEPS - 1), "axis": ints(1), "back": ints(-1)}
    return model(
        [
            node("Slice", ["x", "start", "stop", "axis", "back"], ["turned"]),
            node("Transpose", ["turned"], ["t"], perm=[1, 0, 2]),
            node("GRU", ["t", "w", "r", "b"], ["", "h"], direction="reverse", **HOW),
            node("Squeeze", ["h", "zero"], ["last"]),
        ],
        arrays,
    )


def with_lengths() -> onnx.ModelProto:
    arrays = {**GRU, "steps": np.array([STEPS], np.int32), "one": ints(1)}
    nodes = [
        TIME_FIRST,
        node("Shape", ["x"], ["shape"]),
        node("Slice", ["shape", "zero", "one"], ["count"]),
        node("Expand", ["steps", "count"], ["lengths"]),
        node("GRU", ["t", "w", "r", "b", "lengths"], ["", "h"], **HOW),
        node("Squeeze", ["h", "zero"], ["last"]),
    ]
    return model(nodes, arrays)


def cell(inputs: str, state: str, new: str, prefix: str) -> list[Node]:
    """Return the nodes of one step: products of the inputs and state in, new state out."""

    def name(part: str) -> str:
        return f"{prefix}{part}"

    return [
        node("MatMul", [state, "rt"], [name("m")]),
        node("Add", [name("m"), "rb"], [name("s")]),
        node("Split", [inputs, "thirds"], [name("xz"), name("xr"), name("xn")], axis=1),
        node("Split", [name("s"), "thirds"], [name("sz"), name("sr"), name("sn")], axis=1),
        node("Add", [name("xz"), name("sz")], [name("az")]),
        node("Sigmoid", [name("az")], [name("z")]),
        node("Add", [name("xr"), name("sr")], [name("ar")]),
        node("Sigmoid", [name("ar")], [name("g")]),
        node("Mul", [name("g"), name("sn")], [name("gn")]),
        node("Add", [name("xn"), name("gn")], [name("an")]),
        node("Tanh", [name("an")], [name("n")]),
        node("Sub", [state, name("n")], [name("d")]),
        node("Mul", [name("z"), name("d")], [name("zd")]),
        node("Add", [name("n"), name("zd")], [new]),
    ]


PARTS = {
    "wt": np.ascontiguousarray(W.T),
    "rt": np.ascontiguousarray(R.T),
    "wb": B[: 3 * HIDDEN],
    "rb": B[3 * HIDDEN :],
    "thirds": ints(*[HIDDEN] * 3),
}
PRODUCTS = [TIME_FIRST, node("MatMul", ["t", "wt"], ["p"]), node("Add", ["p", "wb"], ["sums"])]
FIRST_STATE = [
    node("Gather", ["sums", "start"], ["step0"], axis=0),
    node("Slice", ["step0", "zero", "width", "one"], ["narrow"]),
    node("Mul", ["narrow", "nothing"], ["h0"]),
]
STATE_PARTS = {
    "start": np.array(0, np.int64),
    "zero": ints(0),
    "width": ints(HIDDEN),
    "one": ints(1),
    "nothing": np.float32(0),
}


def value(name: str, *shape: int | str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))


def as_scan() -> onnx.ModelProto:
    body = helper.make_graph(
        cell("xin", "hin", "hout", "c."),
        "step",
        [value("hin", "n", HIDDEN), value("xin", "n", 3 * HIDDEN)],
        [value("hout", "n", HIDDEN)],
    )
    return model(
        [
            *PRODUCTS,
            *FIRST_STATE,
            node("Scan", ["h0", "sums"], ["last"], body=body, num_scan_inputs=1),
        ],
        {**PARTS, **STATE_PARTS},
    )


def as_loop() -> onnx.ModelProto:
    inside = [
        node("Gather", ["sums", "i"], ["now"], axis=0),
        *cell("now", "hin", "hout", "c."),
        node("Identity", ["going"], ["still"]),
    ]
    body = helper.make_graph(
        inside,
        "step",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            value("hin", "n", HIDDEN),
        ],
        [helper.make_tensor_value_info("still", TensorProto.BOOL, []), value("hout", "n", HIDDEN)],
    )
    count = {"count": np.array(STEPS, np.int64), "yes": np.array(True)}
    return model(
        [*PRODUCTS, *FIRST_STATE, node("Loop", ["count", "yes", "h0"], ["last"], body=body)],
        {**PARTS, **STATE_PARTS, **count},
    )


def unrolled() -> onnx.ModelProto:
    nodes = [*PRODUCTS, *FIRST_STATE]
    for step in range(STEPS):
        nodes.append(node("Gather", ["sums", f"at{step}"], [f"x{step}"], axis=0))
        nodes += cell(
            f"x{step}", f"h{step}", "last" if step == STEPS - 1 else f"h{step + 1}", f"c{step}."
        )
    places = {f"at{step}": np.array(step, np.int64) for step in range(STEPS)}
    return model(nodes, {**PARTS, **STATE_PARTS, **places})


SPELLINGS: dict[str, Callable[[], onnx.ModelProto]] = {
    "last of all steps": last_of_all,
    "zero state, batch of 1": lambda: with_zero_state(1),
    "zero state, any batch": lambda: with_zero_state("n"),
    "backwards over the input turned round": reversed_twice,
    "lengths that are all": with_lengths,
    "Scan": as_scan,
    "Loop": as_loop,
    "unrolled": unrolled,
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_a_spelling_is_the_same_network(same: Callable[..., None], name: str) -> None:
    same("recurrent", plain, SPELLINGS[name](), {"x": X}, LABELS, tolerance=TOLERANCE)
