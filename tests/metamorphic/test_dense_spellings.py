"""Dense layers: operators, places of weights, files, names and order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

INPUTS, HIDDEN, CLASSES, SAMPLES = 16, 24, 6, 48
TOLERANCE = 0.08

_DRAW = np.random.default_rng(4)


def _half(*shape: int) -> np.ndarray:
    """Return numbers that 16 bits hold exactly."""
    return _DRAW.normal(size=shape).astype(np.float16).astype(np.float32)


WEIGHTS = {
    "w1": _half(INPUTS, HIDDEN) / 4,
    "b1": _half(HIDDEN) / 8,
    "w2": _half(HIDDEN, CLASSES) / 4,
    "b2": _half(CLASSES) / 8,
}


def _samples() -> tuple[np.ndarray, np.ndarray]:
    """Return samples and the network's own decisions, none of them close: no spelling may round one
    over.
    """
    x = np.random.default_rng(8).normal(size=(600, INPUTS)).astype(np.float16).astype(np.float32)
    scores = np.maximum(x @ WEIGHTS["w1"] + WEIGHTS["b1"], 0) @ WEIGHTS["w2"] + WEIGHTS["b2"]
    best = np.sort(scores, 1)
    kept = np.flatnonzero(best[:, -1] - best[:, -2] > 0.05)[:SAMPLES]
    return x[kept], scores[kept].argmax(1)


X, LABELS = _samples()


def text(
    body: str, *, opset: int = 17, batch: str = "N", more: str = "", **arrays: np.ndarray
) -> onnx.ModelProto:
    """Return a model given as ONNX text; all weights are initializers, those not read left out."""
    version = 8 if opset < 21 else 10
    model = parser.parse_model(
        f'<ir_version: {version}, opset_import: ["": {opset}]> g (float[{batch}, {INPUTS}] x) =>'
        f" (float[{batch}, {CLASSES}] y) <{more}> {{ {body} }}"
    )
    read = {name for node in model.graph.node for name in node.input}
    model.graph.initializer.extend(
        numpy_helper.from_array(value, name)
        for name, value in {**WEIGHTS, **arrays}.items()
        if name in read
    )
    return model


PLAIN = "a = Gemm(x, w1, b1) r = Relu(a) y = Gemm(r, w2, b2)"


def plain(**how: object) -> onnx.ModelProto:
    return text(PLAIN, **how)  # type: ignore[arg-type]


def transposed() -> dict[str, np.ndarray]:
    return {
        "t1": np.ascontiguousarray(WEIGHTS["w1"].T),
        "t2": np.ascontiguousarray(WEIGHTS["w2"].T),
    }


def kernels() -> dict[str, np.ndarray]:
    return {
        name: value[:, :, None, None]
        for name, value in zip(("k1", "k2"), transposed().values(), strict=True)
    }


def as_constant_nodes() -> onnx.ModelProto:
    model = plain()
    tensors = list(model.graph.initializer)
    del model.graph.initializer[:]
    for tensor in tensors:
        model.graph.node.insert(0, helper.make_node("Constant", [], [tensor.name], value=tensor))
    return model


def as_graph_inputs() -> onnx.ModelProto:
    model = plain()
    model.graph.input.extend(
        helper.make_tensor_value_info(tensor.name, TensorProto.FLOAT, tensor.dims)
        for tensor in model.graph.initializer
    )
    return model


def as_function_of_weights() -> onnx.ModelProto:
    model = text("a = Gemm(x, w1, b1) r = Relu(a) y = Gemm(r, w2, b2)")
    layer = helper.make_function(
        "own",
        "Dense",
        ["x", "w", "b"],
        ["y"],
        [helper.make_node("MatMul", ["x", "w"], ["m"]), helper.make_node("Add", ["m", "b"], ["y"])],
        [helper.make_opsetid("", 17)],
    )
    model.functions.append(layer)
    model.opset_import.append(helper.make_opsetid("own", 1))
    for node in model.graph.node:
        if node.op_type == "Gemm":
            node.op_type, node.domain = "Dense", "own"
    return model


def in_half_precision() -> onnx.ModelProto:
    model = text(
        "h = Cast<to = 10>(x) a = Gemm(h, w1, b1) r = Relu(a) z = Gemm(r, w2, b2) y = Cast<to ="
        " 1>(z)"
    )
    for tensor in model.graph.initializer:
        tensor.CopyFrom(
            numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name)
        )
    return model


def with_half_weights() -> onnx.ModelProto:
    model = text(
        "c1 = Cast<to = 1>(w1) c2 = Cast<to = 1>(w2) a = Gemm(x, c1, b1) r = Relu(a) y = Gemm(r,"
        " c2, b2)"
    )
    for tensor in model.graph.initializer:
        if tensor.name.startswith("w"):
            tensor.CopyFrom(
                numpy_helper.from_array(
                    numpy_helper.to_array(tensor).astype(np.float16), tensor.name
                )
            )
    return model


def out_of_order() -> onnx.ModelProto:
    model = plain()
    nodes = list(model.graph.node)[::-1]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    tensors = list(model.graph.initializer)[::-1]
    del model.graph.initializer[:]
    model.graph.initializer.extend(tensors)
    return model


def renamed() -> onnx.ModelProto:
    model = plain()
    names = {
        name: f"other/{index}" for index, name in enumerate(("b1", "a", "r", "w2", "b2", "w1"))
    }
    for tensor in model.graph.initializer:
        tensor.name = names[tensor.name]
    for node in model.graph.node:
        node.name = f"node of {node.output[0]}"
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    return model


EINSUM = (
    'a = Einsum<equation = "nk,ko->no">(x, w1) s = Add(a, b1) r = Relu(s) z = Einsum<equation ='
    ' "ok,nk->no">(t2, r) y = Add(z, b2)'
)
CONV = "i = Reshape(x, image) a = Conv(i, k1, b1) r = Relu(a) z = Conv(r, k2, b2) y = Flatten(z)"
SPELLINGS: dict[str, Callable[[], onnx.ModelProto]] = {
    "Gemm with transposed weights": lambda: text(
        "a = Gemm<transB = 1>(x, t1, b1) r = Relu(a) y = Gemm<transB = 1>(r, t2, b2)",
        **transposed(),
    ),
    "MatMul and Add": lambda: text(
        "m = MatMul(x, w1) a = Add(m, b1) r = Relu(a) n = MatMul(r, w2) y = Add(b2, n)"
    ),
    "weights on the left": lambda: text(
        "xt = Transpose(x) m = MatMul(t1, xt) mt = Transpose(m) a = Add(mt, b1) r = Relu(a) y ="
        " Gemm(r, w2, b2)",
        **transposed(),
    ),
    "Einsum": lambda: text(EINSUM, **transposed()),
    "1 x 1 Conv": lambda: text(CONV, more=f"int64[4] image = {{0, {INPUTS}, 1, 1}}", **kernels()),
    "transposed by a node": lambda: text(
        "u = Transpose(t1) v = Transpose(t2) a = Gemm(x, u, b1) r = Relu(a) y = Gemm(r, v, b2)",
        **transposed(),
    ),
    "reshaped by a node": lambda: text(
        "u = Reshape(flat, s) a = Gemm(x, u, b1) r = Relu(a) y = Gemm(r, w2, b2)",
        more=f"int64[2] s = {{{INPUTS}, {HIDDEN}}}",
        flat=WEIGHTS["w1"].reshape(-1),
    ),
    "computed from constants": lambda: text(
        "u = Mul(two, w1h) a = Gemm(x, u, b1) r = Relu(a) y = Gemm(r, w2, b2)",
        w1h=WEIGHTS["w1"] / 2,
        two=np.float32(2),
    ),
    "Constant nodes": as_constant_nodes,
    "initializers that are graph inputs": as_graph_inputs,
    "a function of its weights": as_function_of_weights,
    "16 bits": in_half_precision,
    "weights of 16 bits": with_half_weights,
    "Dropout left in": lambda: text(
        "a = Gemm(x, w1, b1) r = Relu(a) d = Dropout(r) y = Gemm(d, w2, b2)"
    ),
    "Identity nodes": lambda: text(
        "i = Identity(x) v = Identity(w1) a = Gemm(i, v, b1) j = Identity(a) r = Relu(j) k ="
        " Gemm(r, w2, b2) y = Identity(k)"
    ),
    "scores behind a Softmax": lambda: text(
        "a = Gemm(x, w1, b1) r = Relu(a) z = Gemm(r, w2, b2) y = Softmax(z)"
    ),
    "nodes and initializers in reverse": out_of_order,
    "other names": renamed,
    "batch of 1": lambda: plain(batch="1"),
    "batch of 4": lambda: plain(batch="4"),
    **{
        f"operator set {opset}": lambda opset=opset: plain(opset=opset)
        for opset in (7, 9, 11, 13, 18, 21, 23)
    },  # type: ignore[misc]
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_a_spelling_is_the_same_network(same: Callable[..., None], name: str) -> None:
    same("dense", plain, SPELLINGS[name](), {"x": X}, LABELS, tolerance=TOLERANCE)


def test_weights_beside_the_file(same: Callable[..., None], tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(plain(), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    same("dense", plain, path, {"x": X}, LABELS, tolerance=TOLERANCE)


@pytest.mark.parametrize("level", ["BASIC", "EXTENDED"])
@pytest.mark.parametrize(
    "name", ["MatMul and Add", "Einsum", "1 x 1 Conv", "transposed by a node", "16 bits"]
)
def test_as_onnxruntime_saves_it(
    same: Callable[..., None], tmp_path: Path, level: str, name: str
) -> None:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = getattr(
        onnxruntime.GraphOptimizationLevel, f"ORT_ENABLE_{level}"
    )
    options.optimized_model_filepath = str(tmp_path / "saved.onnx")
    onnxruntime.InferenceSession(
        SPELLINGS[name]().SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    same("dense", plain, tmp_path / "saved.onnx", {"x": X}, LABELS, tolerance=TOLERANCE)
