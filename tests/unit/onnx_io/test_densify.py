"""Grouped convolutions made dense: the same outputs, other devices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from cimrobust.errors import ModelNotCoveredError
from cimrobust.onnx_io.densify import dense_weight, with_dense_groups
from cimrobust.onnx_io.load_network import load_network
from cimrobust.onnx_io.scan import scan_layers

_RNG = np.random.default_rng(5)


def _save(path: Path, nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray]) -> Path:
    graph = helper.make_graph(
        nodes,
        "grouped",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 6, 7, 7])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path
    )
    return path


def _outputs(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(
        None, {"x": x}
    )[0]


def _weight(*shape: int) -> np.ndarray:
    return _RNG.normal(size=shape).astype(np.float32)


def _conv(path: Path, groups: int, op: str = "Conv") -> Path:
    shape = (6, 2, 3, 3) if op == "ConvTranspose" else (12, 6 // groups, 3, 3)
    node = helper.make_node(op, ["x", "w"], ["y"], name="grouped", group=groups)
    return _save(path, [node], {"w": _weight(*shape)})


@pytest.mark.parametrize(("op", "groups"), [("Conv", 2), ("Conv", 6), ("ConvTranspose", 3)])
def test_outputs_stay_and_devices_multiply(tmp_path: Path, op: str, groups: int) -> None:
    network = load_network(_conv(tmp_path / "m.onnx", groups, op))
    dense = with_dense_groups(network)
    x = _weight(3, 6, 7, 7)
    np.testing.assert_allclose(
        _outputs(dense.model, x), _outputs(network.model, x), rtol=1e-5, atol=1e-5
    )
    before, after = scan_layers(network).layers[0], scan_layers(dense).layers[0]
    assert (before.num_groups, after.num_groups) == (groups, 1)
    assert after.values.size == groups * before.values.size
    assert dense.num_parameters - network.num_parameters == after.values.size - before.values.size
    assert "deviate too" in dense.notes[-1]


def test_levels_off_the_blocks_stand_for_zero(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["wf"], name="dq", axis=0),
        helper.make_node("Conv", ["x", "wf"], ["y"], name="grouped", group=3),
    ]
    constants = {
        "w": _RNG.integers(0, 256, (6, 2, 3, 3), dtype=np.uint8),
        "s": np.linspace(0.01, 0.06, 6, dtype=np.float32),
        "z": np.array([128, 3, 7, 128, 250, 0], np.uint8),
    }
    network = load_network(_save(tmp_path / "m.onnx", nodes, constants))
    dense = with_dense_groups(network)
    x = _weight(2, 6, 7, 7)
    np.testing.assert_allclose(
        _outputs(dense.model, x), _outputs(network.model, x), rtol=1e-4, atol=1e-4
    )
    layer = scan_layers(dense).layers[0]
    assert layer.values.shape == (6, 6, 3, 3)
    assert not layer.values[0, 2:].any()


def test_networks_without_groups_are_left_alone(tmp_path: Path) -> None:
    network = load_network(_conv(tmp_path / "m.onnx", 1))
    assert with_dense_groups(network) is network


def test_a_shared_weight_is_refused(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], name="first", group=2),
        helper.make_node("Conv", ["x", "w"], ["b"], name="second", group=2),
        helper.make_node("Add", ["a", "b"], ["y"]),
    ]
    network = load_network(_save(tmp_path / "m.onnx", nodes, {"w": _weight(6, 3, 3, 3)}))
    with pytest.raises(ModelNotCoveredError, match=r"first.*read by other nodes too.*tile.grouped"):
        with_dense_groups(network)


def test_blocks_lie_on_the_diagonal() -> None:
    weight = np.arange(8, dtype=np.float32).reshape(4, 2, 1)
    dense = dense_weight(weight, 2, transposed=False, zero=np.zeros(()))
    assert dense[..., 0].tolist() == [[0, 1, 0, 0], [2, 3, 0, 0], [0, 0, 4, 5], [0, 0, 6, 7]]
