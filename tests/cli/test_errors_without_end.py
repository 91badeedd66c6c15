"""Chips that overflow: an error without end is the largest number, in every command."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

import cimrobust
from cimrobust.cli.main import run

NETWORK = """<ir_version: 8, opset_import: ["" : 17]>
g (float[N, 2] x) => (float[N, 1] y) { z = MatMul(x, w) y = Exp(z) }"""
DATA = """schema = 1
file = "data.npz"
[[input]]
array = "x"
[label]
array = "y"
[decision]
read = "value"
metric = "rmse"
"""
POLICY = """[require]
worst_found_accuracy = 2e37
kpp = { k = 10, confidence = 0.5, accuracy = 2e37 }
[conditions]
metric = "rmse"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificate of a network whose largest output is near the end of float32."""
    top = tmp_path_factory.mktemp("endless")
    weights = np.array([[1.0], [0.5]], np.float32)
    model = parser.parse_model(NETWORK)
    model.graph.initializer.append(numpy_helper.from_array(weights, "w"))
    onnx.save(model, top / "model.onnx")
    x = np.repeat(np.float32([[1.0, 1.0], [58.5, 58.5]]), 10, axis=0)
    np.savez(top / "data.npz", x=x, y=np.exp(x @ weights))
    (top / "data.toml").write_text(DATA)
    (top / "policy.toml").write_text(POLICY)
    options = ["--trials", "20", "--effort", "quick", "--tolerance", "0.05", "--workers", "1"]
    options += ["--diagnostics", "write_verify", "--out", str(top / "out")]
    files = [str(top / "model.onnx"), "--data", str(top / "data.toml")]
    assert run(["analyze", *files, *options]) == 0
    return top


def test_the_certificate_and_its_page_say_so(folder: Path) -> None:
    made = cimrobust.Certificate.read(folder / "out")
    assert made.worst_found.score == made.monte_carlo.max == sys.float_info.max
    assert (made.monte_carlo.mean, made.monte_carlo.std) == (sys.float_info.max,) * 2
    assert "1.798e+308" in made.html.read_text()
    assert "<svg" in made._repr_html_()
    before = made.html.read_bytes()
    assert run(["report", str(folder / "out")]) == 0
    assert made.html.read_bytes() == before


def test_a_gate_refutes_and_a_replay_holds(folder: Path, capsys) -> None:
    found = cimrobust.gate(folder / "out", policy=folder / "policy.toml")
    assert {row.id: row.status for row in found.requirements} == {
        "worst_found_accuracy": "refuted",
        "kpp_10": "refuted",
        "condition: metric": "met",
    }
    files = ["--model", str(folder / "model.onnx"), "--data", str(folder / "data.toml")]
    capsys.readouterr()
    assert run(["replay", str(folder / "out"), *files, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row for row in rows if row["held"] is False] == []


def test_a_comparison_with_itself_differs_nowhere(folder: Path) -> None:
    found = cimrobust.compare(folder / "out", folder / "out")
    assert {row.difference for row in found.scores} <= {0.0, None}


def test_a_sweep_prints_short_numbers(folder: Path, capsys) -> None:
    files = [str(folder / "model.onnx"), "--data", str(folder / "data.toml")]
    options = ["--tolerances", "0.05", "--trials", "3", "--effort", "quick", "--workers", "1"]
    capsys.readouterr()
    assert run(["sweep", *files, *options, "--out", str(folder / "sweep")]) == 0
    line = next(row for row in capsys.readouterr().out.splitlines() if row.startswith("5 %"))
    assert [line.split()[index] for index in (2, 4)] == ["1.798e+308", "none"]
    assert "<svg" in (folder / "sweep" / "sweep.html").read_text()


@pytest.mark.parametrize("command", ["gate", "analyze", "suggest"])
def test_an_accuracy_is_not_read_as_an_error_unless_the_policy_says_so(
    folder: Path, tmp_path: Path, capsys, command: str
) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text("[require]\nworst_found_accuracy = 0.95\n")
    files = [str(folder / "model.onnx"), "--data", str(folder / "data.toml")]
    what = [str(folder / "out")] if command == "gate" else files
    out = ["--out", str(tmp_path / "out.toml")] if command != "gate" else []
    assert run([command, *what, "--policy", str(policy), *out]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert (
        "policy must name the metric that its thresholds are of, got worst_found_accuracy" in said
    )
    assert 'state conditions.metric = "rmse"' in said


def test_thresholds_of_another_metric_pass_nothing(folder: Path, tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text(POLICY.replace('"rmse"', '"mae"').replace("2e37", "1e300"))
    found = cimrobust.gate(folder / "out", policy=policy)
    assert {row.id: row.status for row in found.requirements}["condition: metric"] == "refuted"
