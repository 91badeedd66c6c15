"""Every network of the zoo through the whole job on a few samples; the witness is judged with numpy
and onnxruntime alone.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from safetensors.numpy import load_file

from cimrobust.pipeline.analysis import analyze
from tests.exact_runs import exact_options
from tests.zoo_networks import ZOO_NETWORKS, zoo_entries

LIMIT = 16


def fed(entry: dict, x: np.ndarray) -> np.ndarray:
    """The manifest's preprocessing, written out once more."""
    for step in entry["feed"][0]["steps"]:
        if step["op"] == "float32":
            x = x.astype(np.float32)
        elif step["op"] in ("subtract", "multiply", "divide"):
            value = np.asarray(step["value"], dtype=np.float32)
            x = {"subtract": np.subtract, "multiply": np.multiply, "divide": np.divide}[step["op"]](
                x, value
            )
        else:
            x = (
                x.transpose(step["perm"])
                if step["op"] == "transpose"
                else x.reshape(x.shape[0], *step["shape"])
            )
    return np.ascontiguousarray(x, dtype=np.float32)


def outputs(path: str, entry: dict, x: np.ndarray) -> np.ndarray:
    """Run a model file as its batch axis demands."""
    options = exact_options()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    size = entry["batch"] if isinstance(entry["batch"], int) else 1
    name = entry["feed"][0]["input"]
    return np.concatenate(
        [
            session.run([entry["output"]], {name: x[start : start + size]})[0]
            for start in range(0, len(x), size)
        ]
    )


def score(entry: dict, output: np.ndarray, y: np.ndarray) -> float:
    if entry["decision"] == "value":
        return float(np.sqrt(np.mean((output.reshape(-1).astype(np.float64) - y) ** 2)))
    choose = np.argmin if entry["decision"] == "argmin" else np.argmax
    return float((choose(output, axis=1) == y).mean())


@pytest.mark.parametrize("name", ZOO_NETWORKS)
def test_witness_gives_the_reported_score(name, zoo, tmp_path):
    entry = zoo_entries(zoo)[name]
    made = analyze(
        zoo / entry["file"],
        data=zoo / f"{name}.toml",
        out=tmp_path,
        effort="quick",
        trials=2,
        limit=LIMIT,
        workers=2,
    )
    data = np.load(zoo / "data" / f"{entry['data']}.npz")
    x = fed(entry, data["x"][:LIMIT])
    clean = outputs(str(zoo / entry["file"]), entry, x)
    y = clean.argmin(axis=1) if entry["labels"] == "self" else data["y"][:LIMIT]
    assert made.data["clean"]["score"] == pytest.approx(score(entry, clean, y), rel=1e-6)
    worst = score(entry, outputs(str(tmp_path / "witness" / "worst_case.onnx"), entry, x), y)
    assert made.data["worst_found"]["score"] == pytest.approx(worst, rel=1e-6)
    assert made.data["worst_found"]["has_twin"]
    stored = {
        t.name: onnx.numpy_helper.to_array(t)
        for t in onnx.load(tmp_path / "witness" / "worst_case.onnx").graph.initializer
    }
    tensors = load_file(tmp_path / "witness" / "deviations.safetensors")
    for initializer in {key.rsplit(".", 1)[0] for key in tensors}:
        nominal, lo, hi, deviation = (
            tensors[f"{initializer}.{part}"] for part in ("nominal", "lo", "hi", "deviation")
        )
        assert ((lo <= deviation) & (deviation <= hi)).all()
        assert np.array_equal(stored[initializer], nominal + deviation)
