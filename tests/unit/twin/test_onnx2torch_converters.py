"""`onnx2torch.convert` with our converters in its table."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx2torch
import pytest
import torch
from onnx import defs, parser
from onnx2torch.node_converters import registry as table

from cimrobust.twin import onnx2torch_converters
from cimrobust.twin.onnx2torch_converters import ConvertedNode, register
from cimrobust.twin.ops import converter_registry
from tests.zoo_networks import zoo_entries

from .conftest import run_onnxruntime

X = np.array([[1.5, -2.0, 3.25]], np.float32)
HEAD = '<ir_version: 10, opset_import: ["" : %d]> g '
MODELS = {
    "opset 21": (
        21,
        """(float[1, 3] x) => (float[3, 1] y, int64[2] s) <float[3, 3] w = {1,2,3,4,5,6,7,8,9}> {
            a = MatMul(x, w) b = Relu(a) y = Transpose<perm = [1, 0]>(b) s = Shape(y) }""",
    ),
    "quantisers": (
        19,
        """(float[1, 3] x) => (float[1, 3] y, int8[1, 3] q) <float s = {0.5}, int8 z = {1}> {
            q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z) }""",
    ),
    "integer product": (
        13,
        """(float[1, 3] x) => (int32[1, 2] y) <uint8[3, 2] w = {1, 2, 3, 4, 5, 6}> {
            q, s, z = DynamicQuantizeLinear(x) y = MatMulInteger(q, w, z) }""",
    ),
    "branch": (
        17,
        """(float[1, 3] x) => (float[1, n] y)
            <float[3, 2] w = {1, 2, 3, 4, 5, 6}, float zero = {0}> {
            t = ReduceSum<keepdims = 0>(x) c = Greater(t, zero)
            y = If (c) <then_branch = a () => (float[1, n] p) { p = MatMul(x, w) },
                        else_branch = b () => (float[1, n] q) { q = Neg(x) }> }""",
    ),
    "loop": (
        16,
        """(float[1, 3] x) => (float[1, 3] y, float[4, 1, 3] all)
            <int64 n = {4}, bool go = {1}> {
            y, all = Loop (n, go, x) <body = b (int64 i, bool before, float[1, 3] s)
                => (bool after, float[1, 3] t, float[1, 3] out) {
                after = Identity(before) f = Cast<to = 1>(i)
                t = Add(s, f) out = Softplus(t) }> }""",
    ),
    "input left out": (
        14,
        """(float[1, 3] x) => (float[1, 1, 1, 2] y) <int64[1] axis = {0}, float[1, 6, 3] w = {
            1, 2, 3, -1, 0, 1, 1, 0, 2, 0, 0, 1, 1, 1, 1, 2, 0, -1}, float[1, 6, 2] r = {
            1, 2, 3, -1, 0, 1, 1, 0, 2, 0, 0, 1}, float[1, 1, 2] h = {0.5, -0.5}> {
            t = Unsqueeze(x, axis) y = GRU<hidden_size = 2>(t, w, r, , , h) }""",
    ),
    "function body": (
        18,
        """(float[1, 3] x) => (float[2, 5] y) <int64[2] size = {2, 5}> {
            y = CenterCropPad(x, size) }""",
    ),
    "no floats": (
        13,
        "(float[1, 3] x) => (int64 y) { y = Size(x) }",
    ),
    "double": (
        20,
        """(float[1, 3] x) => (double[1, 3] y) { d = Cast<to = 11>(x) y = Exp(d) }""",
    ),
}  # fmt: skip


@pytest.fixture
def alone() -> Iterator[None]:
    """Take our converters out of the table for one test."""
    ours = {
        key: table._CONVERTER_REGISTRY.pop(key)
        for key in list(table._CONVERTER_REGISTRY)
        if (key.operation_type, key.version) in register() and not key.domain
    }
    yield
    table._CONVERTER_REGISTRY.update(ours)


def model(name: str) -> onnx.ModelProto:
    opset, text = MODELS[name]
    return parser.parse_model(HEAD % opset + text)


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("name", MODELS)
def test_onnx2torch_alone_refuses(name: str) -> None:
    with pytest.raises(NotImplementedError):
        onnx2torch.convert(model(name))


@pytest.mark.parametrize("name", MODELS)
def test_converted_network_agrees_with_onnxruntime(name: str) -> None:
    module = onnx2torch.convert(model(name)).eval()
    got = module(torch.from_numpy(X))
    # onnx2torch gives the outputs node by node, those of one node as a tuple.
    parts = got if isinstance(got, (list, tuple)) else [got]
    flat = [value for part in parts for value in (part if isinstance(part, tuple) else (part,))]
    for value, want in zip(flat, run_onnxruntime(model(name), {"x": X}), strict=True):
        assert value.numpy().dtype == want.dtype
        np.testing.assert_allclose(value.numpy(), want, rtol=1e-6, atol=1e-6)


def test_gradients_pass_a_converted_node() -> None:
    module = onnx2torch.convert(model("opset 21")).eval()
    x = torch.from_numpy(X).requires_grad_()
    module(x)[0].sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0


def test_converters_of_onnx2torch_stay() -> None:
    entries = {(key.operation_type, key.version): key for key in table._CONVERTER_REGISTRY}
    theirs = table._CONVERTER_REGISTRY[entries["Conv", 11]]
    ours = table._CONVERTER_REGISTRY[entries["Conv", 22]]
    assert theirs.__module__ == "onnx2torch.node_converters.conv"
    assert ours.__module__ == onnx2torch_converters.__name__


def test_bodies_are_read_alike_by_all_operator_sets_of_a_version() -> None:
    edges = {
        edge
        for entries in converter_registry._TABLE.values()
        for entry in entries
        for edge in (entry.since, entry.until + 1)
    }
    for op in onnx2torch_converters._BODIES:
        versions = [since for name, since in register() if name == op]
        for since in versions:
            newest = next(
                opset
                for opset in range(defs.onnx_opset_version(), 0, -1)
                if defs.get_schema(op, opset).since_version == since
            )
            assert not edges & set(range(since + 1, newest + 1)), (op, since)


@pytest.mark.parametrize("name", ["acasxu_1_1", "rul_cnn"])
def test_zoo_networks_that_onnx2torch_alone_refuses(zoo: Path, name: str) -> None:
    path = zoo / zoo_entries(zoo)[name]["file"]
    raw = onnx.load(path)
    module = onnx2torch.convert(str(path)).eval()
    assert any(isinstance(part, ConvertedNode) for part in module.modules())
    feeds = {
        value.name: np.random.default_rng(0)
        .random([dim.dim_value or 2 for dim in value.type.tensor_type.shape.dim])
        .astype(np.float32)
        for value in raw.graph.input
        if value.name not in {tensor.name for tensor in raw.graph.initializer}
    }
    got = module(*map(torch.from_numpy, feeds.values()))
    (want,) = run_onnxruntime(raw, feeds)
    # Relative to outputs of up to 100: float32 sums of some thousand terms.
    np.testing.assert_allclose(got.detach().numpy(), want, rtol=1e-5, atol=1e-5)
