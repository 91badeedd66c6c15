"""Sizes that inference names or states are those of onnxruntime, at whatever size is fed:
conditions are folded on their word.
"""

from __future__ import annotations

import itertools

import numpy as np
import onnx
import onnx.parser
import onnxruntime as ort
import pytest

from cimrobust.onnx_io.shapes import infer_types

HEAD = (
    '<ir_version: 8, opset_import: ["": 17]> g (float[n, 4, h, w] x, float[n, 4, h2, w2] z,'
    " float[a] v, float[b] u, int64 k) => (y)"
)
CONSTANTS = """<int64[1] one = {1}, int64[1] minus = {-1}, int64[2] flat = {0, -1}, int64[4] like = {0, 0, 0, -1}, int64[1] four = {4}, int64[1] two = {2},
 int64[1] zero = {0}, int64[1] large = {9223372036854775807}, float[4] scales = {1.0, 1.0, 2.0, 2.0},
 int64[8] pads = {0, 0, 1, 1, 0, 0, 2, 2}, int64[4] tiles = {1, 2, 1, 3}, int64[2] pair = {2, -1}>"""  # noqa: E501
GRAPHS = {
    "element-wise": "y = Add(x, x) s = Relu(y)",
    "broadcast of two": "p = Add(x, z) y = Neg(p)",
    "broadcast with a number": "p = Add(v, c4) q = Add(u, v) y = Add(p, q)",
    "broadcast by Expand": "p = Expand(v, four) y = Expand(u, one)",
    "convolution": (
        "y = Conv(x, W) p = Conv <strides = [2, 2], pads = [1, 1, 1, 1]> (x, W) q = Conv <auto_pad"
        ' = "SAME_UPPER", strides = [2, 2]> (x, W)'
    ),
    "pooling": (
        "p = MaxPool <kernel_shape = [2, 2], strides = [2, 2], ceil_mode = 1> (x) q = AveragePool"
        " <kernel_shape = [3, 3]> (x) y = GlobalAveragePool(x)"
    ),
    "reshape": "p = Reshape(x, flat) q = Reshape(x, like) y = Flatten(x) r = Reshape(x, pair)",
    "reshape by shape": (
        "s = Shape(z) p = Reshape(z, s) h = Gather(s, two) t = Concat <axis = 0> (one, minus, h) y"
        " = Reshape(z, t)"
    ),
    "padding": "p = Pad(x, pads) y = Tile(x, tiles)",
    "resize": 'y = Resize <mode = "nearest"> (x, , scales)',
    "slices": (
        "p = Slice(x, one, large, two) q = Slice(x, zero, two, two) y = Slice(v, minus, large,"
        " zero)"
    ),
    "joined": (
        "p = Concat <axis = 0> (v, u) q = Concat <axis = 1> (x, x) y = Concat <axis = 2> (x, x)"
    ),
    "split": "p, q = Split <axis = 1> (x) y = Neg(p)",
    "gathered": "y = Gather <axis = 2> (x, one) q = Gather(v, zero) r = Gather <axis = 0> (x, one)",
    "moved": (
        "p = Transpose <perm = [0, 2, 3, 1]> (x) q = Unsqueeze(x, zero) r = Squeeze(q, zero) y ="
        " MatMul(p, M)"
    ),
    "squeezed": "p = Squeeze(v) y = Neg(p)",
    "reduced": (
        "p = ReduceMean <axes = [2, 3], keepdims = 0> (x) q = ReduceSum(x, one) y = ReduceMax(x)"
    ),
    "chosen": "p = Greater(x, x) y = Where(p, x, x) q = NonZero(p) r = ArgMax <axis = 1> (x)",
    "matrix products": (
        "t = Transpose <perm = [0, 1, 3, 2]> (x) y = MatMul(x, t) e = Einsum <equation ="
        ' "nchw,ncij->nhj"> (x, z)'
    ),
    "numbers": "s = Shape(x) p = ConstantOfShape(s) q = Size(x) y = Reshape(p, minus)",
    "a loop that grows": (
        """y = Loop(k, "", v) <body = f (int64 i, bool c, float[a] t) => (bool d, float[a] t2) { t2 = Concat <axis = 0> (t, u) d = Identity(c) }> m = Neg(y)"""  # noqa: E501
    ),
    "a loop that collects": (
        """l, y = Loop(k, "", v) <body = f (int64 i, bool c, float[a] t) => (bool d, float[a] t2, float[a] r) {
       t2 = Neg(t) r = Abs(t) d = Identity(c) }> m = Neg(y)"""  # noqa: E501
    ),
    "a scan": (
        """l, y = Scan <num_scan_inputs = 1, body = f (float[m] t, float[q] e) => (float[m] t2, float[q] r) { t2 = Neg(t) r = Neg(e) }> (u, v2) v2 = Unsqueeze(v, one)"""  # noqa: E501
    ),
    "a branch": (
        """i = Cast <to = 9> (k) y = If (i) <then_branch = p () => (float[a] t) { t = Neg(v) }, else_branch = q () => (float[a] e) { e = Neg(u) }> m = Abs(y)"""  # noqa: E501
    ),
    "normalised": (
        "p = Softmax(x) q = LayerNormalization(x, w0) w0 = ReduceSum <keepdims = 0> (v) y ="
        " Dropout(x)"
    ),
}
CHOICES = list(
    itertools.product(
        [
            (1, 5, 7, 3, 3, 1, 4),
            (2, 8, 4, 8, 4, 4, 1),
            (3, 6, 6, 6, 6, 4, 4),
            (1, 9, 3, 4, 8, 1, 1),
        ],
        [0, 1, 3],
    )
)


def model_of(body: str) -> onnx.ModelProto:
    model = onnx.parser.parse_model(HEAD + CONSTANTS + "{" + body + "}")
    generator = np.random.default_rng(0)
    for name, shape in (("W", (8, 4, 3, 3)), ("M", (4, 4)), ("c4", (4,))):
        model.graph.initializer.append(
            onnx.numpy_helper.from_array(generator.standard_normal(shape).astype(np.float32), name)
        )
    return model


def ran_shapes(
    model: onnx.ModelProto, names: list[str], sizes: tuple[int, ...], count: int
) -> dict[str, tuple[int, ...]] | None:
    """Return the shapes of tensors in a run, None where the graph refuses these sizes."""
    n, h, w, h2, w2, a, b = sizes
    shapes = {"x": (n, 4, h, w), "z": (n, 4, h2, w2), "v": (a,), "u": (b,)}
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    feed = {name: np.ones(shape, np.float32) for name, shape in shapes.items()} | {
        "k": np.asarray(count)
    }
    try:
        values = ort.InferenceSession(model.SerializeToString(), options).run(names, feed)
    except Exception:  # onnxruntime has no base class for what it raises
        return None
    return {name: np.shape(value) for name, value in zip(names, values, strict=True)} | shapes


@pytest.mark.parametrize("name", list(GRAPHS))
def test_inferred_sizes_are_those_of_a_run(name: str) -> None:
    model = model_of(GRAPHS[name])
    types = infer_types(model, strict=False, ignore_output_shapes=True)
    names = [output for node in model.graph.node for output in node.output]
    for value in list(model.graph.output):
        model.graph.output.remove(value)
    model.graph.output.extend(onnx.ValueInfoProto(name=output) for output in names)
    compared = 0
    for sizes, count in CHOICES:
        shapes = ran_shapes(model, names, sizes, count)
        if shapes is None:
            continue
        found: dict[str, int] = {}
        for tensor, shape in shapes.items():
            inferred = types[tensor].shape if tensor in types else None
            if inferred is None:
                continue
            assert len(inferred) == len(shape), (tensor, inferred, shape)
            compared += 1
            for dim, length in zip(inferred, shape, strict=True):
                assert (
                    dim == length
                    if isinstance(dim, int)
                    else dim is None or found.setdefault(dim, length) == length
                ), (
                    tensor,
                    inferred,
                    shape,
                )
    assert compared > 4
