"""One transformer in many spellings: the same devices, the same clean score, the same worst chip."""  # noqa: E501

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

import cimrobust
from cimrobust.cli.main import run
from cimrobust.onnx_io.deploy import deploy
from cimrobust.onnx_io.load_network import load_network
from cimrobust.onnx_io.scan import scan_layers
from cimrobust.onnx_io.trainable import digital_parameters
from cimrobust.onnx_io.walk import op_name
from cimrobust.onnx_io.write_back import write_back

SAMPLES = 16

SPELLINGS = [
    (0, False, False),
    (1, False, False),
    (2, False, False),
    (2, True, False),
    (0, False, True),
]


def spelled(family: Any, spelling: tuple[int, bool, bool]) -> Path:
    level, only, half = spelling
    path: Path = family.optimised(level, only_onnxruntime=only, half=half)
    return path


def operators(path: Path) -> Counter[str]:
    return Counter(op_name(node) for node in onnx.load(path).graph.node)


def analyzed(family: Any, model: Path, out: Path) -> dict[str, Any]:
    made = cimrobust.analyze(
        model,
        data=family.data,
        device=str(family.device),
        out=out,
        effort="quick",
        trials=2,
        workers=1,
        skip=("certify", "effects"),
    )
    return dict(made.data)


def outputs(model: bytes, family: Any) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    arrays = np.load(family.folder / "data.npz")
    return np.asarray(
        session.run(None, {value.name: arrays[value.name] for value in session.get_inputs()})[0]
    )


@pytest.mark.parametrize(
    "spelling", SPELLINGS, ids=["0", "1", "2", "2 of onnxruntime alone", "16 bits"]
)
def test_a_file_of_the_optimiser_is_read_as_standard_operators(
    family: Any, spelling: tuple[int, bool, bool]
) -> None:
    path = spelled(family, spelling)
    assert any(name.startswith("com.microsoft::") for name in operators(path))
    network, plain = load_network(path), load_network(family.plain)
    assert all(node.domain == "" for node in network.model.graph.node)
    expected, got = (
        outputs(path.read_bytes(), family),
        outputs(network.model.SerializeToString(), family),
    )
    tolerance = (
        2.0**-8 if spelling[2] else 1e-5
    )  # of 16 bits a few roundings; of float32 sums of tens of terms in another order
    np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance * np.abs(expected).max())
    np.testing.assert_allclose(
        got,
        outputs(plain.model.SerializeToString(), family),
        rtol=0,
        atol=tolerance * np.abs(expected).max(),
    )


@pytest.mark.parametrize("level", ["BASIC", "EXTENDED", "ALL"])
def test_a_file_that_a_session_saves_is_read_as_standard_operators(family: Any, level: str) -> None:
    path = family.saved_by_onnxruntime(level)
    network = load_network(path)
    assert all(node.domain == "" for node in network.model.graph.node)
    expected, got = (
        outputs(path.read_bytes(), family),
        outputs(network.model.SerializeToString(), family),
    )
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def inspected(family: Any, model: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert run(["inspect", str(model), "--device", str(family.device), "--json"]) == 0
    return dict(json.loads(capsys.readouterr().out))


@pytest.mark.parametrize(
    "spelling", SPELLINGS[:1] + SPELLINGS[2:], ids=["0", "2", "2 of onnxruntime alone", "16 bits"]
)
def test_devices_are_the_same(
    family: Any, spelling: tuple[int, bool, bool], capsys: pytest.CaptureFixture[str]
) -> None:
    path = spelled(family, spelling)
    capsys.readouterr()
    plain, made = (inspected(family, model, capsys) for model in (family.plain, path))
    for key in ("total_devices", "mapped_weights"):
        assert made[key] == plain[key]


@pytest.fixture(scope="session")
def plain_certificates() -> dict[str, dict[str, Any]]:
    """Certificates of plain exports by family."""
    return {}


def test_the_plain_export_has_a_worst_chip(
    family: Any, tmp_path: Path, plain_certificates: dict[str, dict[str, Any]]
) -> None:
    made = analyzed(family, family.plain, tmp_path / "plain")
    plain_certificates[family.kind] = made
    assert 0 < made["worst_found"]["score"] < made["clean"]["quantised_score"]


def test_the_worst_chip_is_the_same(
    family: Any, tmp_path: Path, plain_certificates: dict[str, dict[str, Any]]
) -> None:
    plain = plain_certificates.get(family.kind) or analyzed(
        family, family.plain, tmp_path / "plain"
    )
    made = analyzed(family, family.optimised(0), tmp_path / "optimised")
    assert "NO_TWIN" not in str(made["warnings"])
    assert made["clean"]["score"] == plain["clean"]["score"] == 1.0
    assert made["clean"]["quantised_score"] == plain["clean"]["quantised_score"]
    assert abs(made["worst_found"]["score"] - plain["worst_found"]["score"]) <= 2 / SAMPLES
    assert run(["replay", str(tmp_path / "optimised")]) == 0


def test_a_rewritten_file_has_the_same_devices(
    family: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, target = family.optimised(0), tmp_path / "crossbars.onnx"
    assert run(["rewrite", str(model), "--device", str(family.device), "-o", str(target)]) == 0
    capsys.readouterr()
    made, again = (inspected(family, path, capsys) for path in (model, target))
    assert made["total_devices"] == again["total_devices"]
    expected, got = outputs(model.read_bytes(), family), outputs(target.read_bytes(), family)
    assert np.abs(expected - got).max() < 0.1 * np.abs(expected).max()  # weights of eight bits


def test_training_writes_into_the_operators_of_the_file(family: Any, tmp_path: Path) -> None:
    model, out = family.optimised(0), tmp_path / "model.onnx"
    network = load_network(model)
    scan = scan_layers(network)
    deployed = deploy(network, scan, widen=False, has_batch=True)
    biases = digital_parameters(deployed, "logits").biases
    assert biases
    moved = {layer.initializer: layer.values * np.float32(0.5) for layer in scan.layers}
    moved |= {name: network.initializers[name] + np.float32(0.1) for name in biases}
    write_back(model, out, moved)
    assert operators(out) == operators(model)
    again = load_network(out).initializers
    assert all(np.array_equal(again[name], value) for name, value in moved.items())
