"""A network that one protobuf message does not hold, with a message that holds less."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from cimrobust.cli.main import run
from cimrobust.onnx_io import large_models

#: What two runs of one command may differ in, and what the names of files of the witness do.
OWN = {"timings", "witness", "seconds", "checks"}


def analyzed(folder: Path, out: Path) -> dict[str, Any]:
    arguments = ["analyze", str(folder / "m.onnx"), "--data", str(folder / "d.npz"), "--trials"]
    arguments += ["5", "--effort", "quick", "--diagnostics", "none", "--workers", "1"]
    assert run([*arguments, "--out", str(out)]) == 0
    found: dict[str, Any] = json.loads((out / "certificate.json").read_text(encoding="utf-8"))
    return found


def write_network(folder: Path) -> None:
    """Write a network of two layers, and samples."""
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 17]> g (float[N, 4] x) => (float[N, 3] y) {'
        " h = MatMul(x, w) a = Relu(h) y = Gemm(a, v, b) }"
    )
    rng = np.random.default_rng(0)
    for name, shape in (("w", (4, 6)), ("v", (6, 3)), ("b", (3,))):
        values = rng.standard_normal(shape).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    onnx.save(model, folder / "m.onnx")
    x = rng.standard_normal((6, 4)).astype(np.float32)
    np.savez(folder / "d.npz", x=x, y=np.array([0, 1, 2, 0, 1, 2]))


def without(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without(part) for key, part in value.items() if key not in OWN}
    return [without(part) for part in value] if isinstance(value, list) else value


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path, Any]:
    folder = tmp_path_factory.mktemp("large")
    write_network(folder)
    usual = analyzed(folder, folder / "usual")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(large_models, "MAX_TENSOR_BYTES", 100)
        patch.setattr(large_models, "_LEAST", 30)
        large = analyzed(folder, folder / "large")
    return usual, folder / "large", large


def test_it_is_certified_as_any_other_is(certificates):
    usual, out, large = certificates
    checks = [{check["id"]: check for check in found["checks"]} for found in (usual, large)]
    differing = {name for name in checks[0] if checks[0][name] != checks[1][name]}
    assert differing == {"exact_arithmetic"}
    assert checks[1]["exact_arithmetic"]["held"] is None
    assert without(large) == without(usual)
    witness = large["worst_found"]["witness"]
    assert set(witness) - set(usual["worst_found"]["witness"]) == {"witness/worst_case.onnx.data"}
    assert (out / "witness" / "worst_case.onnx.data").is_file()


def test_its_certificate_is_replayed(certificates, capsys):
    assert run(["replay", str(certificates[1])]) == 0
    assert "worst_case.onnx.data" in capsys.readouterr().out


def test_data_of_a_witness_that_nobody_lists_are_refused(certificates, tmp_path, capsys):
    out = shutil.copytree(certificates[1], tmp_path / "out")
    file = out / "certificate.json"
    certificate = json.loads(file.read_text(encoding="utf-8"))
    del certificate["worst_found"]["witness"]["witness/worst_case.onnx.data"]
    file.write_text(json.dumps(certificate), encoding="utf-8")
    assert run(["replay", str(out)]) != 0
    said = capsys.readouterr()
    assert "witness files must all be listed" in said.out + said.err
