"""`cimrobust analyze` on quantised networks: the score is that of exact integers, whatever the
processor.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from cimrobust.cli.main import run
from tests.exact_integers import evaluate, quantised, samples

DYNAMIC = """<ir_version: 8, opset_import: ["" : 13]> net (float[n, 6] x) => (float[n, 3] y) {
    q, s, z = DynamicQuantizeLinear (x)
    p = MatMulInteger (q, w, z)
    f = Cast <to = 1> (p)
    t = Mul (s, r)
    y = Mul (f, t)
}"""


def analyse(folder: Path, model: Path, x: np.ndarray, labels: np.ndarray) -> dict:
    np.savez(folder / "data.npz", x=x, y=labels)
    arguments = [
        "analyze",
        str(model),
        "--data",
        str(folder / "data.npz"),
        "--effort",
        "quick",
        "--trials",
        "4",
        "--workers",
        "1",
    ]
    assert run([*arguments, "--tolerance", "0.002", "--out", str(folder / "out")]) == 0
    return json.loads((folder / "out" / "certificate.json").read_text())


def dynamic_network(folder: Path) -> tuple[Path, np.ndarray]:
    """A product quantised at run time, with weights at the ends of their range: pairs of products
    leave 16 bits.
    """
    rng, model = np.random.default_rng(0), onnx.parser.parse_model(DYNAMIC)
    weights = np.where(rng.random((6, 3)) < 0.6, 127, -127).astype(np.int8)
    model.graph.initializer.extend(
        [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(np.float32(0.01), "r")]
    )
    onnx.save(model, folder / "net.onnx")
    return folder / "net.onnx", rng.random((32, 6), np.float32)


def test_a_network_quantised_at_run_time_scores_as_exact_integers(tmp_path: Path) -> None:
    path, x = dynamic_network(tmp_path)
    exact = np.concatenate(
        [evaluate(onnx.load(path), {"x": x[at : at + 1]})[0] for at in range(len(x))]
    )
    certificate = analyse(tmp_path, path, x, exact.argmax(1))
    assert (certificate["clean"]["score"], certificate["clean"]["quantised_score"]) == (1.0, 1.0)
    check = next(check for check in certificate["checks"] if check["id"] == "exact_arithmetic")
    assert check["held"] is True
    assert certificate["machine"]["onnxruntime"] == onnxruntime.__version__


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_signed_network_scores_as_exact_integers_and_its_witness_runs_with_no_option(
    tmp_path: Path,
) -> None:
    path, x = quantised("QDQ s8 s8", tmp_path), samples(32)
    labels = evaluate(onnx.load(path), {"x": x})[0].argmax(1)
    certificate = analyse(tmp_path, path, x, labels)
    assert certificate["clean"]["score"] == 1.0
    session = onnxruntime.InferenceSession(
        str(tmp_path / "out" / "witness" / "worst_case.onnx"), providers=["CPUExecutionProvider"]
    )
    assert (session.run(None, {"x": x})[0].argmax(1) == labels).mean() == certificate[
        "worst_found"
    ]["score"]
