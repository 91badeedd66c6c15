"""onnx2torch as the last source of converters, whatever the state of torchvision."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from cimrobust.twin.ops import converter_registry as registry
from cimrobust.twin.ops import library
from cimrobust.twin.to_torch import TwinUnavailableError, to_torch

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = """
import sys
if {blocked}:
    class Blocked:
        def find_spec(self, name, path=None, target=None):
            if name.split(".")[0] == "torchvision":
                raise ModuleNotFoundError(name)
    sys.meta_path.insert(0, Blocked())
from cimrobust.twin.ops import library
registry = library.load_onnx2torch()
print(registry is not None and len(registry._CONVERTER_REGISTRY) > 200, library.has_torchvision_kernels())
"""  # noqa: E501
# What torchvision 0.28 does at import, without its binary (torchvision/_meta_registrations.py).
BROKEN = """
import torch
@torch.library.register_fake("torchvision::nms")
def nms(dets, scores, iou_threshold):
    return dets
"""
FINE = """
import torch
_lib = torch.library.Library("torchvision", "DEF")
_lib.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
_lib.impl("nms", lambda dets, scores, iou_threshold: scores, "CPU")
"""


def run(folder: Path, code: str | None) -> str:
    if code is not None:
        (folder / "torchvision").mkdir()
        (folder / "torchvision" / "__init__.py").write_text(code)
        (folder / "torchvision" / "ops.py").write_text(
            "def roi_align(*_): ...\ndef nms(*_): ...\ndef box_convert(*_): ...\n"
        )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}
    script = SCRIPT.format(blocked=code is None)
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (None, "True False"),
        (BROKEN, "True False"),
        ("raise ImportError('broken')", "True False"),
        (FINE, "True True"),
    ],
)
def test_onnx2torch_imports_whatever_torchvision_is_like(tmp_path, code, expected):
    assert run(tmp_path, code) == expected


@pytest.mark.parametrize(
    ("op", "opset", "attributes"),
    [
        ("Softsign", 13, {}),
        ("LRN", 13, {"size": 3}),
        ("DepthToSpace", 13, {"blocksize": 2, "mode": "CRD"}),
        ("Neg", 21, {}),
    ],
)
def test_an_operator_without_a_converter_of_ours_comes_from_onnx2torch(
    check, rng, monkeypatch, op, opset, attributes
):
    monkeypatch.delitem(registry._TABLE, ("", op))
    monkeypatch.setattr("cimrobust.twin.ops.program.SOURCES", [library.library_kernel])
    check(op, {"x": rng.normal(size=(1, 4, 3, 3)).astype(np.float32)}, opset=opset, **attributes)


def test_a_weight_that_onnx2torch_would_hold_is_refused(monkeypatch):
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 13]> g (float[1, 2] x) => (float[1, 3] y) <float[2, 3]'
        " w = {1, 2, 3, 4, 5, 6}> { y = Gemm(x, w) }"
    )
    monkeypatch.setattr("cimrobust.twin.ops.program.SOURCES", [library.library_kernel])
    with pytest.raises(TwinUnavailableError, match="holds the weight w"):
        to_torch(model, weight_names=["w"])
