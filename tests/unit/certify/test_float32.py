"""onnxruntime's float32 activation functions stay within the rounding radius that is charged for
them.
"""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

from cimrobust.certify.rules.smooth import SHAPES
from cimrobust.twin.ops.converter_registry import find
from tests.unit.certify.test_rules import node_of


@pytest.mark.parametrize("op", sorted(set(SHAPES) - {"Swish"}))
def test_activation_functions_are_within_their_error(op: str) -> None:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None]) for name in "xy"]
    graph = helper.make_graph([helper.make_node(op, ["x"], ["y"])], "g", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    x = np.concatenate([np.linspace(-30, 30, 200_001), np.linspace(-1, 1, 100_001)]).astype(
        np.float32
    )
    converter = find("", op, 22)
    assert converter is not None
    exact = converter(node_of(op, {}))(torch.from_numpy(x).double()).numpy()
    error = np.abs(session.run(None, {"x": x})[0] - exact) / np.maximum(np.abs(x), 1.0)
    assert error.max() < 0.5 * SHAPES[op].error, (
        f"{error.max() / SHAPES[op].error:.3g} of the radius"
    )
