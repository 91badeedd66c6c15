"""Damaged model files never raise anything but this package's own errors."""

from __future__ import annotations

import contextlib
import functools
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
from hypothesis import given, settings
from hypothesis import strategies as st

from cimrobust.errors import CimrobustError
from cimrobust.onnx_io.deploy import deploy
from cimrobust.onnx_io.load_network import load_network
from cimrobust.onnx_io.scan import scan_layers
from cimrobust.onnx_io.session_template import template_bytes

TEXT = """<ir_version: 8, opset_import: ["": 17, "com.microsoft": 1]>
g (float[1, 1, 6, 6] x) => (float[1, 3] y)
<int8[2, 1, 3, 3] W, float[2] s = {0.5, 0.25}, int8[2] z = {0, 0}, int64[2] shape = {1, 32}, float[3, 32] F, bool yes = {1}>
{
  w = DequantizeLinear <axis = 0> (W, s, z)
  c = Conv <kernel_shape = [3, 3]> (x, w)
  r = com.microsoft.Gelu(c)
  f = Reshape(r, shape)
  m = If (yes) <then_branch = then_graph () => (float[1, 3] t) { t = Gemm <transB = 1> (f, F) },
                else_branch = else_graph () => (float[1, 3] e) { e = Gemm <transB = 1> (f, F) }>
  y = Softmax(m)
}"""  # noqa: E501


@functools.cache
def content() -> bytes:
    model = onnx.parser.parse_model(TEXT)
    values = {
        "W": np.arange(18, dtype=np.int8).reshape(2, 1, 3, 3),
        "F": np.ones((3, 32), np.float32),
    }
    for tensor in model.graph.initializer:
        if tensor.name in values:
            tensor.CopyFrom(onnx.numpy_helper.from_array(values[tensor.name], tensor.name))
    for name in sorted(set(values) - {tensor.name for tensor in model.graph.initializer}):
        model.graph.initializer.append(onnx.numpy_helper.from_array(values[name], name))
    return bytes(model.SerializeToString())


def use(data: bytes) -> int:
    """Load, scan and deploy; return the number of layers."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(data)
        network = load_network(path)
        scan = scan_layers(network)
        template_bytes(deploy(network, scan))
        return len(scan.layers)


def test_the_undamaged_file_is_good() -> None:
    assert use(content()) == 2


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10_000))
def test_truncated_files_raise_own_errors_only(length: int) -> None:
    with contextlib.suppress(CimrobustError):
        use(content()[: length % len(content())])


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=6))
def test_flipped_bytes_raise_own_errors_only(flips: list[tuple[int, int]]) -> None:
    data = bytearray(content())
    for position, value in flips:
        data[position % len(data)] = value
    with contextlib.suppress(CimrobustError):
        use(bytes(data))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_random_bytes_raise_own_errors_only(data: bytes) -> None:
    with contextlib.suppress(CimrobustError):
        use(data)
