"""Valid random ONNX networks: many operators, shapes, types, control flow, quantised forms,
functions and external data.

A network grows node by node from its input; what a step would make invalid is left out, so that
every network passes the ONNX checker.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Shape = tuple[int, ...]  # of one sample
NAMES = ("{}", "layer/{}", "a b {}", "é{}", "{}:0", "::{}", "$%s{}", "<b>{}</b>")


@dataclass
class Builder:
    """A graph that grows.

    Attributes:
        rng: Decides everything.
        opset: Standard operator set.
        batch: First dimension of the input: a name, or a number.
        current: The value that the next step takes, and its sample shape.
        past: Earlier float values.
    """

    rng: np.random.Generator
    opset: int
    batch: str | int
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: list[onnx.TensorProto] = field(default_factory=list)
    functions: list[onnx.FunctionProto] = field(default_factory=list)
    domains: set[str] = field(default_factory=set)
    stated: list[onnx.ValueInfoProto] = field(default_factory=list)
    current: tuple[str, Shape] = ("", ())
    past: list[tuple[str, Shape]] = field(default_factory=list)
    pattern: str = "{}"
    counter: int = 0

    def fresh(self) -> str:
        """Return a new name."""
        self.counter += 1
        return self.pattern.format(f"v{self.counter}")

    def weight(self, *shape: int, scale: float | None = None) -> str:
        """Add random float32 weights, as an initializer or as a constant node; return their name."""  # noqa: E501
        size = float(np.sqrt(max(int(np.prod(shape[1:] or shape)), 1)))
        values = self.rng.normal(size=shape).astype(np.float32) / np.float32(
            size if scale is None else 1 / scale
        )
        return self.constant(values)

    def constant(self, values: np.ndarray) -> str:
        """Add an array as an initializer, sometimes as the output of a node."""
        name = self.fresh()
        tensor = numpy_helper.from_array(values, name)
        if self.rng.random() < 0.1:
            self.nodes.append(helper.make_node("Constant", [], [name], value=tensor))
        else:
            self.initializers.append(tensor)
        return name

    def ints(self, *values: int) -> str:
        """Add int64 numbers."""
        return self.constant(np.array(values, dtype=np.int64))

    def add(
        self, op: str, inputs: list[str], outputs: int = 1, domain: str = "", **attributes: object
    ) -> str:
        """Add a node; return its first output."""
        names = [self.fresh() for _ in range(outputs)]
        label = "" if self.rng.random() < 0.2 else self.fresh()
        self.nodes.append(
            helper.make_node(op, inputs, names, name=label, domain=domain, **attributes)
        )
        self.domains |= {domain} - {""}
        return names[0]

    def state(self, name: str, shape: Shape) -> str:
        """State the shape of a value, which ONNX does not find by itself; return its name."""
        self.stated.append(
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [self.batch, *shape])
        )
        return name

    def pick(self, *options: object) -> object:
        """Return one of some options."""
        return options[int(self.rng.integers(len(options)))]

    def among(self, low: int, high: int) -> int:
        """Return a number from low to high, both included."""
        return int(self.rng.integers(low, high + 1))


Step = Callable[[Builder, str, Shape], str | None]


def _dense(b: Builder, x: str, shape: Shape) -> str | None:
    out = b.among(1, 9)
    if len(shape) == 1 and b.rng.random() < 0.6:
        turned = int(b.pick(0, 1))
        w = b.weight(out, shape[0]) if turned else b.weight(shape[0], out)
        bias = [b.weight(out)] if b.rng.random() < 0.7 or b.opset < 11 else []
        return b.add(
            "Gemm",
            [x, w, *bias],
            transB=turned,
            alpha=float(b.pick(1.0, 0.5, -2.0)),
            beta=float(b.pick(1.0, 3.0)),
        )
    y = b.add("MatMul", [x, b.weight(shape[-1], out)])
    return b.add("Add", [y, b.weight(out)]) if b.rng.random() < 0.7 else y


def _einsum(b: Builder, x: str, shape: Shape) -> str | None:
    if b.opset < 12 or len(shape) > 2:
        return None
    letters = "nab"[: len(shape) + 1]
    return b.add(
        "Einsum",
        [x, b.weight(shape[-1], b.among(1, 6))],
        equation=f"{letters},{letters[-1]}z->{letters[:-1]}z",
    )


def _conv(b: Builder, x: str, shape: Shape) -> str | None:
    if len(shape) not in (2, 3):
        return None
    channels, axes = shape[0], len(shape) - 1
    groups = int(b.pick(1, 1, channels, 2 if channels % 2 == 0 else 1))
    out = groups * b.among(1, 4)
    kernel = [b.among(1, min(3, size)) for size in shape[1:]]
    more: dict[str, object] = {
        "strides": [b.among(1, 2) for _ in kernel],
        "kernel_shape": kernel,
        "group": groups,
    }
    if b.rng.random() < 0.3:
        more["auto_pad"] = b.pick("SAME_UPPER", "SAME_LOWER", "VALID")
    else:
        more["pads"] = [b.among(0, 1) for _ in range(2 * axes)]
        more["dilations"] = [
            b.among(1, 2) if (size - 1) * 2 < room else 1
            for size, room in zip(kernel, shape[1:], strict=True)
        ]
    bias = [b.weight(out)] if b.rng.random() < 0.6 else []
    return b.add("Conv", [x, b.weight(out, channels // groups, *kernel), *bias], **more)


def _conv_transpose(b: Builder, x: str, shape: Shape) -> str | None:
    if len(shape) != 3 or max(shape[1:]) > 8:
        return None
    return b.add(
        "ConvTranspose",
        [x, b.weight(shape[0], b.among(1, 3), 2, 2)],
        strides=[2, int(b.pick(1, 2))],
        kernel_shape=[2, 2],
    )


UNARY = (
    "Relu",
    "LeakyRelu",
    "Sigmoid",
    "Tanh",
    "Elu",
    "Selu",
    "Softplus",
    "Softsign",
    "HardSigmoid",
    "Abs",
    "Neg",
    "Erf",
    "Sin",
    "Cos",
    "Atan",
    "Floor",
    "Ceil",
    "Round",
    "Sign",
    "Identity",
    "ThresholdedRelu",
    "Celu",
    "HardSwish",
    "Mish",
    "Gelu",
    "Exp",
    "Reciprocal",
)
SINCE = {
    "Round": 11,
    "Celu": 12,
    "HardSwish": 14,
    "Mish": 18,
    "Gelu": 20,
    "ThresholdedRelu": 10,
    "Erf": 9,
    "Sign": 9,
}


def _unary(b: Builder, x: str, shape: Shape) -> str | None:
    op = str(b.pick(*UNARY))
    if b.opset < SINCE.get(op, 1):
        return None
    if op == "Reciprocal":
        x = b.add("Add", [b.add("Abs", [x]), b.constant(np.float32(1).reshape(()))])
    return b.add(op, [x])


def _clip(b: Builder, x: str, shape: Shape) -> str | None:
    if b.opset < 11:
        return b.add("Clip", [x], min=-1.0, max=0.5)
    low = b.constant(np.array(-0.5, np.float32)) if b.rng.random() < 0.7 else ""
    high = b.constant(np.array(1.0, np.float32))
    return b.add("Clip", [x, low, high])


def _prelu(b: Builder, x: str, shape: Shape) -> str | None:
    return b.add("PRelu", [x, b.weight(shape[0], *[1] * (len(shape) - 1))])


def _pool(b: Builder, x: str, shape: Shape) -> str | None:
    if len(shape) != 3 or min(shape[1:]) < 2:
        return None
    op = str(b.pick("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "LpPool"))
    if op.startswith("Global"):
        return b.add(op, [x])
    more: dict[str, object] = {"kernel_shape": [2, 2], "strides": [b.among(1, 2), b.among(1, 2)]}
    if op == "AveragePool" and b.rng.random() < 0.5:
        more |= {"pads": [1, 0, 1, 1], "count_include_pad": b.among(0, 1)}
    if b.opset >= 10 and op != "LpPool" and b.rng.random() < 0.3:
        more["ceil_mode"] = 1
    return b.add(op, [x], **more)


def _norm(b: Builder, x: str, shape: Shape) -> str | None:
    op = str(b.pick("BatchNormalization", "InstanceNormalization", "LayerNormalization", "LRN"))
    if op == "BatchNormalization":
        parts = [
            b.weight(shape[0]),
            b.weight(shape[0]),
            b.weight(shape[0]),
            b.constant(np.abs(b.rng.normal(size=shape[0])).astype(np.float32) + 0.1),
        ]
        return b.add(op, [x, *parts], epsilon=float(b.pick(1e-5, 1e-3)))
    if op == "InstanceNormalization":
        return b.add(op, [x, b.weight(shape[0]), b.weight(shape[0])]) if len(shape) >= 2 else None
    if op == "LayerNormalization":
        return (
            b.add(op, [x, b.weight(shape[-1]), b.weight(shape[-1])], axis=-1)
            if b.opset >= 17
            else None
        )
    return b.add(op, [x], size=3) if len(shape) == 3 else None


def _softmax(b: Builder, x: str, shape: Shape) -> str | None:
    return b.add(
        str(b.pick("Softmax", "LogSoftmax")), [x], axis=-1 if b.opset >= 11 else len(shape)
    )


def _reduce(b: Builder, x: str, shape: Shape) -> str | None:
    if len(shape) < 2:
        return None
    op = str(
        b.pick("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL2", "ReduceLogSumExp")
    )
    axis, keep = b.among(1, len(shape)), b.among(0, 1)
    if b.opset >= (13 if op == "ReduceSum" else 18):
        return b.add(op, [x, b.ints(axis)], keepdims=keep)
    return b.add(op, [x], axes=[axis], keepdims=keep)


def _move(b: Builder, x: str, shape: Shape) -> str | None:
    op = str(b.pick("Transpose", "Flatten", "Reshape", "Unsqueeze"))
    if op == "Transpose":
        order = [1 + int(axis) for axis in b.rng.permutation(len(shape))]
        return b.add(op, [x], perm=[0, *order])
    if op == "Flatten":
        return b.add(op, [x], axis=1)
    if op == "Reshape":
        size = int(np.prod(shape))
        parts = [part for part in (2, 3, 4) if size % part == 0]
        target = (0, -1) if not parts or b.rng.random() < 0.5 else (0, int(b.pick(*parts)), -1)
        return b.add(op, [x, b.ints(*target)])
    if len(shape) > 2:
        return None
    return b.add(op, [x, b.ints(1)]) if b.opset >= 13 else b.add(op, [x], axes=[1])


def _computed_shape(b: Builder, x: str, shape: Shape) -> str | None:
    """Reshape to a shape that is computed from the shape of the input, as exporters of PyTorch
    write it.
    """
    sizes = b.add("Shape", [x])
    first = b.add("Gather", [sizes, b.constant(np.array(0, np.int64))], axis=0)
    first = (
        b.add("Unsqueeze", [first, b.ints(0)])
        if b.opset >= 13
        else b.add("Unsqueeze", [first], axes=[0])
    )
    return b.add("Reshape", [x, b.add("Concat", [first, b.ints(-1)], axis=0)])


def _join(b: Builder, x: str, shape: Shape) -> str | None:
    same = [name for name, other in b.past if other == shape and name != x]
    if same and b.rng.random() < 0.7:
        return b.add(str(b.pick("Add", "Sub", "Mul", "Max", "Min")), [x, str(b.pick(*same))])
    axis = b.among(1, len(shape))
    others = [
        name
        for name, other in b.past
        if len(other) == len(shape)
        and other[: axis - 1] + other[axis:] == shape[: axis - 1] + shape[axis:]
    ]
    return (
        b.add("Concat", [x, str(b.pick(*others))], axis=axis)
        if others and np.prod(shape) < 300
        else None
    )


def _scalar(b: Builder, x: str, shape: Shape) -> str | None:
    op = str(b.pick("Add", "Sub", "Mul", "Div", "Pow", "Mean", "Sum"))
    if op == "Pow":
        return b.add(
            op, [b.add("Abs", [x]), b.constant(np.array(b.pick(2.0, 0.5, 3.0), np.float32))]
        )
    other = (
        b.constant(np.array(b.rng.uniform(0.5, 2), np.float32))
        if b.rng.random() < 0.5
        else b.weight(shape[-1], scale=1.0)
    )
    if op == "Div":
        other = b.constant(np.array(b.rng.uniform(0.5, 2), np.float32))
    return b.add(op, [x, other] if b.rng.random() < 0.8 or op == "Div" else [other, x])


def _cut(b: Builder, x: str, shape: Shape) -> str | None:
    axis = b.among(1, len(shape))
    size = shape[axis - 1]
    if b.rng.random() < 0.4 and size % 2 == 0 and b.opset < 18:
        return b.add("Split", [x], outputs=2, axis=axis)
    end = b.among(1, size)
    if b.opset < 10:
        return b.add("Slice", [x], axes=[axis], starts=[0], ends=[end])
    return b.add("Slice", [x, b.ints(0), b.ints(end), b.ints(axis), b.ints(b.among(1, 2))])


def _pad(b: Builder, x: str, shape: Shape) -> str | None:
    if b.opset < 11 or np.prod(shape) > 200:
        return None
    amounts = [0, *[b.among(0, 1) for _ in shape], 0, *[b.among(0, 1) for _ in shape]]
    mode = "reflect" if min(shape) > 1 and b.rng.random() < 0.3 else str(b.pick("constant", "edge"))
    return b.add("Pad", [x, b.ints(*amounts)], mode=mode)


def _resize(b: Builder, x: str, shape: Shape) -> str | None:
    if b.opset < 13 or len(shape) != 3 or max(shape) > 6:
        return None
    scales = b.constant(np.array([1, 1, 2, float(b.pick(1.0, 2.0))], np.float32))
    return b.add(
        "Resize",
        [x, "", scales],
        mode=str(b.pick("nearest", "linear")),
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )


def _recurrent(b: Builder, x: str, shape: Shape) -> str | None:
    if len(shape) != 2 or shape[0] > 6:
        return None
    op, hidden = str(b.pick("LSTM", "GRU", "RNN")), b.among(1, 4)
    gates, ways = {"LSTM": 4, "GRU": 3, "RNN": 1}[op], b.among(1, 2)
    timed = b.add("Transpose", [x], perm=[1, 0, 2])
    parts = [b.weight(ways, gates * hidden, shape[1]), b.weight(ways, gates * hidden, hidden)]
    parts += [b.weight(ways, 2 * gates * hidden)] if b.rng.random() < 0.7 else []
    more: dict[str, object] = {"linear_before_reset": b.among(0, 1)} if op == "GRU" else {}
    y = b.add(
        op,
        [timed, *parts],
        hidden_size=hidden,
        direction="forward" if ways == 1 else "bidirectional",
        **more,
    )
    back = b.add("Transpose", [y], perm=[2, 0, 1, 3])
    return b.add("Reshape", [back, b.ints(0, shape[0], ways * hidden)])


def _attention(b: Builder, x: str, shape: Shape) -> str | None:
    if len(shape) != 2:
        return None
    size = shape[1]
    q, k, v = (b.add("MatMul", [x, b.weight(size, size)]) for _ in range(3))
    scores = b.add("MatMul", [q, b.add("Transpose", [k], perm=[0, 2, 1])])
    return b.add("MatMul", [b.add("Softmax", [scores], axis=-1 if b.opset >= 13 else 2), v])


def _fake_quantised(b: Builder, x: str, shape: Shape) -> str | None:
    """A layer with quantised weights and activations that are dequantised before it."""
    if b.opset < 10:
        return None
    scale, zero = b.constant(np.array(0.05, np.float32)), b.constant(np.array(128, np.uint8))
    read = b.add("DequantizeLinear", [b.add("QuantizeLinear", [x, scale, zero]), scale, zero])
    levels = b.rng.integers(-127, 128, size=(shape[-1], b.among(1, 5))).astype(np.int8)
    per = b.opset >= 13 and b.rng.random() < 0.5
    steps = (
        np.full(levels.shape[1], 0.01, np.float32)
        * b.rng.uniform(0.5, 2, levels.shape[1]).astype(np.float32)
        if per
        else np.array(0.01, np.float32)
    )
    zeros = np.zeros_like(steps, np.int8)
    more: dict[str, object] = {"axis": 1} if per else {}
    w = b.add(
        "DequantizeLinear", [b.constant(levels), b.constant(steps), b.constant(zeros)], **more
    )
    return b.add("MatMul", [read, w])


def _integer(b: Builder, x: str, shape: Shape) -> str | None:
    """A layer of whole numbers, statically or dynamically quantised."""
    if b.opset < 11:
        return None
    kind = b.pick(np.int8, np.uint8)
    levels = b.rng.integers(
        np.iinfo(kind).min, np.iinfo(kind).max + 1, size=(shape[-1], b.among(1, 5))
    ).astype(kind)
    w, zero_w = b.constant(levels), b.constant(np.array(b.pick(0, 3), kind))
    if b.rng.random() < 0.5:
        names = [b.fresh() for _ in range(3)]
        b.nodes.append(helper.make_node("DynamicQuantizeLinear", [x], names))
        product = b.add("MatMulInteger", [names[0], w, names[2], zero_w])
        scaled = b.add("Mul", [names[1], b.constant(np.array(0.01, np.float32))])
        return b.add("Mul", [b.add("Cast", [product], to=TensorProto.FLOAT), scaled])
    scale, zero = b.constant(np.array(0.05, np.float32)), b.constant(np.array(120, np.uint8))
    out_scale, out_zero = b.constant(np.array(0.1, np.float32)), b.constant(np.array(128, np.uint8))
    q = b.add("QuantizeLinear", [x, scale, zero])
    y = b.add(
        "QLinearMatMul",
        [q, scale, zero, w, b.constant(np.array(0.01, np.float32)), zero_w, out_scale, out_zero],
    )
    return b.add("DequantizeLinear", [y, out_scale, out_zero])


def _half(b: Builder, x: str, shape: Shape) -> str | None:
    w = b.constant(b.rng.normal(size=(shape[-1], b.among(1, 4))).astype(np.float16))
    return b.add(
        "Cast",
        [b.add("MatMul", [b.add("Cast", [x], to=TensorProto.FLOAT16), w])],
        to=TensorProto.FLOAT,
    )


def _branch(b: Builder, x: str, shape: Shape) -> str | None:
    """An If: on a constant, on the data, or on a size."""
    way = b.among(0, 2)
    if way == 0:
        condition = b.constant(np.array(bool(b.among(0, 1))))
    else:
        total = (
            b.add("ReduceMax", [x], keepdims=0)
            if way == 1
            else b.add("Cast", [b.add("Size", [x])], to=TensorProto.FLOAT)
        )
        condition = b.add("Greater", [total, b.constant(np.array(0.5, np.float32))])
    graphs = []
    for op in ("Relu", "Tanh"):
        name = b.fresh()
        out = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        graphs.append(helper.make_graph([helper.make_node(op, [x], [name])], op, [], [out]))
    return b.add("If", [condition], then_branch=graphs[0], else_branch=graphs[1])


def _loop(b: Builder, x: str, shape: Shape) -> str | None:
    if b.opset < 13:
        return None
    i, keep_in, keep, held, new = (b.fresh() for _ in range(5))
    nodes = [
        helper.make_node("Identity", [keep_in], [keep]),
        helper.make_node("Tanh", [held], [new]),
    ]
    values = [
        helper.make_tensor_value_info(i, TensorProto.INT64, []),
        helper.make_tensor_value_info(keep_in, TensorProto.BOOL, []),
    ]
    body = helper.make_graph(
        nodes,
        "body",
        [*values, helper.make_tensor_value_info(held, TensorProto.FLOAT, [None, *shape])],
        [
            helper.make_tensor_value_info(keep, TensorProto.BOOL, []),
            helper.make_tensor_value_info(new, TensorProto.FLOAT, [None, *shape]),
        ],
    )
    count = b.constant(np.array(b.among(0, 3), np.int64))
    return b.state(b.add("Loop", [count, b.constant(np.array(True)), x], body=body), shape)


def _function(b: Builder, x: str, shape: Shape) -> str | None:
    """A function of the model's own, sometimes called twice, sometimes with the name of a standard
    operator.
    """
    if b.opset < 15:
        return None
    name = str(b.pick("Block", "Relu", "MatMul"))
    if name not in {function.name for function in b.functions}:
        nodes = [helper.make_node("Tanh", ["p"], ["q"]), helper.make_node("Add", ["p", "q"], ["r"])]
        b.functions.append(
            helper.make_function(
                "local.fuzz", name, ["p"], ["r"], nodes, [helper.make_opsetid("", b.opset)]
            )
        )
    y = b.add(name, [x], domain="local.fuzz")
    return b.add(name, [y], domain="local.fuzz") if b.rng.random() < 0.4 else y


def _dropout(b: Builder, x: str, shape: Shape) -> str | None:
    return b.add("Dropout", [x])


def _where(b: Builder, x: str, shape: Shape) -> str | None:
    if b.opset < 9:
        return None
    condition = b.add("Less", [x, b.constant(np.array(0.1, np.float32))])
    return b.add("Where", [condition, x, b.add("Mul", [x, b.constant(np.array(0.5, np.float32))])])


def _contrib(b: Builder, x: str, shape: Shape) -> str | None:
    op = str(b.pick("Gelu", "FastGelu", "QuickGelu", "BiasGelu", "FusedMatMul"))
    if op == "FusedMatMul":
        return b.state(
            b.add(op, [x, b.weight(shape[-1], 3)], domain="com.microsoft"), (*shape[:-1], 3)
        )
    return b.state(
        b.add(op, [x, b.weight(shape[-1])] if op == "BiasGelu" else [x], domain="com.microsoft"),
        shape,
    )


STEPS: tuple[Step, ...] = (
    _dense,
    _dense,
    _conv,
    _conv,
    _einsum,
    _conv_transpose,
    _unary,
    _unary,
    _clip,
    _prelu,
    _pool,
    _norm,
    _softmax,
    _reduce,
    _move,
    _computed_shape,
    _join,
    _scalar,
    _cut,
    _pad,
    _resize,
    _recurrent,
    _attention,
    _fake_quantised,
    _integer,
    _half,
    _branch,
    _loop,
    _function,
    _dropout,
    _where,
    _contrib,
)


def random_model(seed: list[int]) -> onnx.ModelProto:
    """Return a network with one float input, or one of tokens, and scores of a few classes for
    output.

    Args:
        seed: Everything follows from it.
    """
    rng = np.random.default_rng(seed)
    opset = int(rng.choice([9, 11, 13, 15, 17, 18, 20, 21]))
    batch: str | int = str(rng.choice(["n", "batch", ""])) or int(rng.integers(1, 4))
    builder = Builder(rng, opset, batch)
    builder.pattern = str(builder.pick(*NAMES)) if rng.random() < 0.3 else "{}"
    shape: Shape = builder.pick(
        (builder.among(1, 12),),
        (builder.among(1, 4), 6, 6),
        (builder.among(1, 5), builder.among(2, 8)),
    )  # type: ignore[assignment]
    name = builder.fresh()
    kind = TensorProto.FLOAT
    builder.current = (name, shape)
    if len(shape) == 2 and rng.random() < 0.3:
        kind = TensorProto.INT64
        builder.current = (
            builder.add("Gather", [builder.weight(7, shape[1]), name], axis=0),
            shape,
        )
        shape = shape[:1]
    source = helper.make_tensor_value_info(name, kind, [batch, *shape])
    for _ in range(builder.among(1, 7)):
        _grow(builder, source)
    return _finish(builder, source)


def _grow(builder: Builder, source: onnx.ValueInfoProto) -> None:
    """Add one step, unless the shape of its result is then not known, or too large."""
    step = STEPS[int(builder.rng.integers(len(STEPS)))]
    saved = copy.deepcopy(
        (builder.nodes, builder.initializers, builder.functions, builder.domains, builder.stated)
    )
    made = step(builder, *builder.current)
    shape = None if made is None else _shape_of(builder, source, made)
    if (
        made is None
        or shape is None
        or not 1 <= len(shape) <= 4
        or min(shape) < 1
        or np.prod(shape) > 1000
    ):
        builder.nodes, builder.initializers, builder.functions, builder.domains, builder.stated = (
            saved
        )
        return
    builder.past.append(builder.current)
    builder.current = (made, shape)


def _shape_of(builder: Builder, source: onnx.ValueInfoProto, name: str) -> Shape | None:
    model = _model(builder, source, helper.make_empty_tensor_value_info(name))
    try:
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except Exception:  # what cannot be inferred is not used
        return None
    for value in (*inferred.graph.value_info, *inferred.graph.output):
        if value.name == name and value.type.tensor_type.HasField("shape"):
            dims = value.type.tensor_type.shape.dim
            if dims and all(dim.dim_value > 0 for dim in dims[1:]):
                return tuple(dim.dim_value for dim in dims[1:])
    return None


def _finish(builder: Builder, source: onnx.ValueInfoProto) -> onnx.ModelProto:
    """End with scores of some classes."""
    name, shape = builder.current
    size, classes = int(np.prod(shape)), builder.among(2, 5)
    flat = builder.add("Flatten", [name], axis=1)
    if builder.rng.random() < 0.5:
        flat = builder.add("Gemm", [flat, builder.weight(size, classes), builder.weight(classes)])
    else:
        flat = builder.add("MatMul", [flat, builder.weight(size, classes)])
    flat = builder.add("Softmax", [flat], axis=1) if builder.rng.random() < 0.2 else flat
    out = helper.make_tensor_value_info(flat, TensorProto.FLOAT, [builder.batch, classes])
    return _model(builder, source, out)


def _model(
    builder: Builder, source: onnx.ValueInfoProto, out: onnx.ValueInfoProto
) -> onnx.ModelProto:
    graph = helper.make_graph(
        builder.nodes, "fuzz", [source], [out], builder.initializers, value_info=builder.stated
    )
    opsets = [
        helper.make_opsetid("", builder.opset),
        *(helper.make_opsetid(domain, 1) for domain in sorted(builder.domains)),
    ]
    version = 8 if builder.opset < 19 else 10
    return helper.make_model(
        graph,
        opset_imports=opsets,
        functions=builder.functions,
        ir_version=version,
        producer_name="fuzz",
    )


def write_model(model: onnx.ModelProto, path: Path, rng: np.random.Generator) -> None:
    """Write a model, sometimes with its weights in a file beside it."""
    if rng.random() < 0.15 and model.graph.initializer:
        onnx.save_model(
            model, path, save_as_external_data=True, location=f"{path.stem}.bin", size_threshold=0
        )
    else:
        path.write_bytes(model.SerializeToString())


def random_inputs(model: onnx.ModelProto, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return samples for the input of a random model."""
    kind = model.graph.input[0].type.tensor_type
    shape = [count, *(dim.dim_value for dim in kind.shape.dim[1:])]
    if kind.elem_type == TensorProto.INT64:
        return rng.integers(0, 7, size=shape)
    return rng.normal(size=shape).astype(np.float32)
