"""Sparse tensors of a file are read, and written, with their zeros."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from cimrobust.onnx_io.load_network import load_network
from cimrobust.onnx_io.scan import scan_layers
from cimrobust.onnx_io.write_back import require_stored, write_back

RNG = np.random.default_rng(5)
W = (RNG.normal(size=(6, 4)) * (RNG.random((6, 4)) > 0.6)).astype(np.float32)
X = RNG.normal(size=(3, 6)).astype(np.float32)


def sparse(values: np.ndarray, name: str, *, flat: bool) -> onnx.SparseTensorProto:
    places = np.flatnonzero(values) if flat else np.argwhere(values)
    return helper.make_sparse_tensor(
        numpy_helper.from_array(values[values != 0], name),
        numpy_helper.from_array(places.astype(np.int64), f"{name}.places"),
        list(values.shape),
    )


def saved(path: Path, *, flat: bool, as_node: bool, dtype: type = np.float32) -> Path:
    weight = sparse(W.astype(dtype), "W", flat=flat)
    constant = [helper.make_node("Constant", [], ["W"], sparse_value=weight)] if as_node else []
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    graph = helper.make_graph(
        [*constant, helper.make_node("MatMul", ["x", "W"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", kind, ["N", 6])],
        [helper.make_tensor_value_info("y", kind, ["N", 4])],
        sparse_initializer=[] if as_node else [weight],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize("as_node", [True, False])
def test_a_sparse_weight_is_stored_with_its_zeros(
    tmp_path: Path, flat: bool, as_node: bool
) -> None:
    network = load_network(saved(tmp_path / "m.onnx", flat=flat, as_node=as_node))
    np.testing.assert_array_equal(network.initializers["W"], W)
    assert [layer.initializer for layer in scan_layers(network).layers] == ["W"]
    assert network.num_parameters == 24


@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize("as_node", [True, False])
def test_other_values_are_written_in_full(tmp_path: Path, flat: bool, as_node: bool) -> None:
    path, out = saved(tmp_path / "m.onnx", flat=flat, as_node=as_node), tmp_path / "out.onnx"
    require_stored(path, {"W": (6, 4)})
    trained = (W + 0.25).astype(np.float32)
    write_back(path, out, {"W": trained})
    session = ort.InferenceSession(out)
    np.testing.assert_allclose(session.run(None, {"x": X})[0], X @ trained, rtol=1e-5)
    write_back(path, out, {})
    assert out.read_bytes() == onnx.load(path).SerializeToString(deterministic=True)


def test_halves_keep_their_type(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.onnx", flat=True, as_node=False, dtype=np.float16)
    (stored,) = load_network(path).model.graph.initializer
    assert stored.data_type == TensorProto.FLOAT16
