"""The trap of integer models: onnxruntime turns a float layer between quantisers back into an
integer one, and rounds deviated weights.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

from cimrobust.onnx_io.deploy import deploy
from cimrobust.onnx_io.load_network import load_network
from cimrobust.onnx_io.save import with_weights
from cimrobust.onnx_io.scan import scan_layers
from tests.exact_runs import exact_model, exact_options

MODEL = """
<ir_version: 8, opset_import: ["" : 17]>
agraph (float[1, 2, 32, 32] x) => (float[1, 3, 30, 30] y)
<float s = {0.05}, int8 z = {0}, float t = {0.02}, int8[3, 2, 3, 3] w>
{
    q = QuantizeLinear (x, s, z)
    r = QLinearConv (q, s, z, w, t, z, s, z)
    y = DequantizeLinear (r, s, z)
}
"""


def model(tmp_path):
    made = onnx.parser.parse_model(MODEL)
    weights = np.random.default_rng(0).integers(-100, 100, (3, 2, 3, 3)).astype(np.int8)
    kept = [tensor for tensor in made.graph.initializer if tensor.name != "w"]
    del made.graph.initializer[:]
    made.graph.initializer.extend([*kept, numpy_helper.from_array(weights, "w")])
    path = tmp_path / "q.onnx"
    path.write_bytes(made.SerializeToString())
    return load_network(path)


def outputs(content: bytes, x: np.ndarray, level) -> np.ndarray:
    options = exact_options()
    options.graph_optimization_level = level
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        exact_model(content), options, providers=["CPUExecutionProvider"]
    ).run(None, {"x": x})[0]


def test_deviated_weights_survive_optimisation(tmp_path):
    network = model(tmp_path)
    scan = scan_layers(network)
    deployed = deploy(network, scan, widen=False)
    generator = np.random.default_rng(1)
    deviated = {
        "w": (
            scan.layers[0].values
            + generator.uniform(-0.06, 0.06, scan.layers[0].shape).astype(np.float32)
        )
    }
    x = generator.standard_normal((1, 2, 32, 32)).astype(np.float32)
    levels = onnxruntime.GraphOptimizationLevel
    guarded = with_weights(deployed, deviated)
    plain = outputs(guarded.SerializeToString(), x, levels.ORT_DISABLE_ALL)
    same = outputs(guarded.SerializeToString(), x, levels.ORT_ENABLE_ALL)
    assert (
        np.abs(same - plain) > 0.04
    ).mean() < 0.005  # a sum on the edge between two levels may be rounded in another order

    unguarded = onnx.ModelProto()
    unguarded.CopyFrom(guarded)
    [guard] = [node for node in unguarded.graph.node if node.op_type == "Max"]
    [layer] = [node for node in unguarded.graph.node if node.op_type == "Conv"]
    layer.output[0] = guard.output[0]
    unguarded.graph.node.remove(guard)
    broken = outputs(unguarded.SerializeToString(), x, levels.ORT_ENABLE_ALL)
    assert (np.abs(broken - plain) > 0.04).mean() > 0.02, (
        "onnxruntime no longer requantises: the guard may go"
    )
