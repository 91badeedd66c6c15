"""Parameters of a network with weights in Constant nodes: as the tool of the certificate counts."""

from __future__ import annotations

import hashlib
from pathlib import Path

import onnx
import pytest
from onnx import parser

from cimrobust.certificate.models import CertificateModel
from cimrobust.review.evidence_problems import examine
from tests.unit.review.test_consistency import plain

# Four weights in a Constant node, two in an initializer.
MODEL = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[n, 2] x) => (float[n, 2] y) <float[2] b = {1, 2}> {
  w = Constant <value = float[2, 2] {1, -1, 0.5, -0.5}> () h = MatMul(x, w) y = Add(h, b)
}
"""


@pytest.mark.parametrize(
    ("tool", "parameters", "fits"),
    [
        ("0.9.0", 6, True),
        ("0.9.0", 2, False),
        ("0.8.0", 2, True),
        ("0.8.0", 6, False),
        ("0.8.0", 3, False),
    ],
)
def test_a_certificate_states_what_its_tool_counts(
    tmp_path: Path, tool: str, parameters: int, *, fits: bool
) -> None:
    model = tmp_path / "model.onnx"
    onnx.save(parser.parse_model(MODEL), model)
    values = plain()
    values["tool"]["version"] = tool
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    values["model"]["files"] = [
        {"name": model.name, "sha256": digest, "bytes": model.stat().st_size}
    ]
    values["model"].update(
        parameters=parameters, operators={"Add": 1, "Constant": 1, "MatMul": 1}, ir_version=8
    )
    found = examine(tmp_path, CertificateModel.model_validate(values), model, None).problems
    wrong = [problem.detail for problem in found if problem.id == "model_numbers"]
    assert ["model.parameters" in text for text in wrong] == ([] if fits else [True])
