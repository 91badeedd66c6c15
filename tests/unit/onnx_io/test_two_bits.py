"""Integers of 2 bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from cimrobust.device.load_profile import load_profile
from cimrobust.engine.original_file import run_original
from cimrobust.mapping.place import place
from cimrobust.onnx_io.load_network import load_network
from cimrobust.onnx_io.scan import scan_layers
from cimrobust.onnx_io.tensors import TWO_BIT_TYPES

RNG = np.random.default_rng(0)


@pytest.mark.skipif(
    not hasattr(TensorProto, "INT2"), reason="this onnx package has no integers of 2 bits"
)
@pytest.mark.parametrize("zero", [None, 1])
@pytest.mark.parametrize("kind", TWO_BIT_TYPES)
def test_weights_of_2_bits_take_one_device_of_2_bits(
    tmp_path: Path, kind: int, zero: int | None
) -> None:
    low = 0 if kind == TWO_BIT_TYPES[0] else -2
    levels = RNG.integers(low, low + 4, (5, 3))
    tensors = [
        helper.make_tensor("w", kind, (5, 3), levels.reshape(-1)),
        helper.make_tensor("s", TensorProto.FLOAT, [], [0.5]),
    ]
    tensors += [] if zero is None else [helper.make_tensor("z", kind, [], [zero])]
    graph = helper.make_graph(
        [
            helper.make_node(
                "DequantizeLinear", ["w", "s", *([] if zero is None else ["z"])], ["v"], name="d"
            ),
            helper.make_node("MatMul", ["x", "v"], ["y"], name="m"),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
        tensors,
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 25)], ir_version=13),
        tmp_path / "m.onnx",
    )
    network = load_network(tmp_path / "m.onnx")
    (layer,) = scan_layers(network).layers
    assert (layer.initializer, layer.bits) == ("w", 2)
    np.testing.assert_array_equal(layer.values, (levels - (zero or 0)) * np.float32(0.5))
    assert (
        place(scan_layers(network), load_profile("rram-write-verify-3pct")).tensors["w"].num_devices
        == 15
    )
    x = RNG.normal(size=(7, 5)).astype(np.float32)
    np.testing.assert_allclose(run_original(network, {"x": x}), x @ layer.values, atol=1e-5)
