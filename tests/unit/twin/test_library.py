"""onnx2torch's own converters in the twin, whatever the state of torchvision."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
import torch
from onnx import defs

from cimrobust.onnx_io.normalise import normalised
from cimrobust.twin.ops import library
from cimrobust.twin.ops.converter_registry import CannotConvertError, Node, Settings, find
from cimrobust.twin.ops.onnx2torch_ops import TAKEN
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
import onnx2torch
count = len(library.registry()._CONVERTER_REGISTRY)
print(count > 500, "torchvision" in sys.modules, library.has_torchvision())
"""
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
_lib.define("roi_align(Tensor x) -> Tensor")
_lib.impl("roi_align", lambda x: x, "CPU")
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
        (None, "True False False"),
        (BROKEN, "True False False"),
        ("raise ImportError('broken')", "True False False"),
        (FINE, "True False True"),
    ],
)
def test_onnx2torch_imports_whatever_torchvision_is_like(tmp_path, code, expected):
    assert run(tmp_path, code) == expected


def test_what_onnx2torch_needs_of_torchvision_is_loaded_when_called(monkeypatch):
    fake = type(sys)("torchvision.ops")
    fake.nms = lambda boxes, scores: ("called", boxes, scores)
    monkeypatch.setitem(sys.modules, "torchvision", type(sys)("torchvision"))
    monkeypatch.setitem(sys.modules, "torchvision.ops", fake)
    assert library._loaded_later("nms")(1, 2) == ("called", 1, 2)


def node(op: str, version: int, **attributes: object) -> Node:
    return Node(op, op, "", version, attributes, ("x",), ("y",), (1,), (), Settings())


@pytest.mark.parametrize("op", sorted(TAKEN))
def test_operators_taken_come_from_onnx2torch_in_every_operator_set(op):
    needed = {"Einsum": {"equation": "ij->ji"}, "Concat": {"axis": 0}}.get(op, {})
    for version in range(7, defs.onnx_opset_version() + 1):
        try:
            defs.get_schema(op, version)
        except defs.SchemaError:
            continue
        kernel = find("", op, version)(node(op, version, **needed))
        inner = kernel
        while not hasattr(inner, "__self__"):  # through what brings operands together
            inner = next(cell.cell_contents for cell in inner.__closure__)
        module = type(inner.__self__)
        assert module.__module__.startswith(("onnx2torch.", "torch.nn.modules.")), version


def test_attributes_that_onnx2torch_does_not_know_are_refused():
    with pytest.raises(CannotConvertError, match="knows it up to opset 13, without overflow"):
        library.kernel_of(node("Softmax", 13, overflow=1))
    with pytest.raises(CannotConvertError, match="onnx2torch has no Relu for opset 5"):
        library.kernel_of(node("Relu", 5))
    with pytest.raises(CannotConvertError, match="onnx2torch: ValueError: alpha parameter"):
        library.kernel_of(node("Selu", 6, alpha=2.0))


ROI_ALIGN = """<ir_version: 8, opset_import: ["": 16]>
g (float[1, 1, 4, 4] x) => (float[1, 1, 1, 1] y) <float[1, 4] r = {0, 0, 2, 2}, int64[1] b = {0}> {
  y = RoiAlign(x, r, b) }"""


@pytest.mark.parametrize("fits", [True, False])
def test_roi_align_needs_a_torchvision_that_fits(monkeypatch, fits):
    monkeypatch.setattr("cimrobust.twin.ops.onnx2torch_ops.has_torchvision", lambda: fits)
    model = normalised(onnx.parser.parse_model(ROI_ALIGN))
    if fits:
        assert to_torch(model).outputs == ("y",)
    else:
        with pytest.raises(TwinUnavailableError, match="needs a torchvision that fits"):
            to_torch(model)


def test_operands_on_two_devices_are_brought_together():
    kernel = find("", "Add", 13)(node("Add", 13))
    made = kernel(torch.ones(3), torch.ones(3, device="meta"))
    assert made.device.type == "meta"
