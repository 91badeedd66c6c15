"""A network and samples in memory, and a quick run of them, for tests of Python inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import parser

# Two classes, read off the sign of the first of two features.
MODEL = parser.parse_model("""
<ir_version: 8, opset_import: ["" : 17]>
g (float[n, 2] x) => (float[n, 2] y) <float[2, 2] w = {1, -1, 0.5, -0.5}> { y = MatMul(x, w) }
""")
X = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)
Y = (X @ np.array([1.0, 0.5]) < 0).astype(np.int64)
DEVICE = "rram-write-verify-3pct"
QUICK: dict[str, Any] = {"effort": "quick", "trials": 5, "workers": 1}
