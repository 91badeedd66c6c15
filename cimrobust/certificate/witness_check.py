"""What somebody runs to check a witness without this package."""

from cimrobust.mapping.pattern_file import is_whole

_READ = """\
import numpy as np, onnx, onnxruntime as ort
from onnx import numpy_helper
from safetensors.numpy import load_file

w = load_file("witness/deviations.safetensors")
model = onnx.load("witness/worst_case.onnx")
stored = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
for name in {key.rsplit(".", 1)[0] for key in w}:
"""
_CHECK_WHOLE = """\
    lo, hi, d = w[name + ".lo"], w[name + ".hi"], w[name + ".deviation"]
    assert ((lo <= d) & (d <= hi)).all() and (stored[name] == w[name + ".nominal"] + d).all()
"""
_CHECK_PACKED = """\
    if name + ".code" in w:
        code = w[name + ".code"]
        high, place = (
            (w[name + part][:, None] >> np.arange(0, 8, 2) & 3).ravel()[: code.size]
            for part in (".high", ".place")
        )
        high, place = high.reshape(code.shape) if high.size else 0, place.reshape(code.shape)
        row = w[name + ".start"] + code + 256 * high
        nominal, lo, hi = (column[row] for column in w[name + ".table"].T)
        d = np.where(place == 1, lo, np.where(place == 2, hi, np.float32(0)))
        d[place == 3] = w[name + ".other"]
    else:
        nominal, lo, hi, d = (w[f"{name}.{part}"] for part in ("nominal", "lo", "hi", "deviation"))
    assert ((lo <= d) & (d <= hi)).all() and (stored[name] == nominal + d).all()
"""
_RUN = """\
options = ort.SessionOptions()
# Integer products exact on every processor.
options.add_session_config_entry("session.x64quantprecision", "1")
# Feed it the evaluation samples and count.
session = ort.InferenceSession("witness/worst_case.onnx", options)"""


def witness_check(num_weights: int) -> str:
    """Return Python that checks a witness with numpy and onnxruntime alone.

    Args:
        num_weights: Stored weights of the network; those of large ones are packed.
    """
    return _READ + (_CHECK_WHOLE if is_whole(num_weights) else _CHECK_PACKED) + _RUN
