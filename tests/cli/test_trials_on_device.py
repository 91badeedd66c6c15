"""Chips scored on a device, through the command line: the certificate says so."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from cimrobust.cli.main import run

DENSE = """
<ir_version: 8, opset_import: ["" : 13]>
agraph (float[N, 6] x) => (float[N, 3] y) <float[6, 3] w> { y = MatMul(x, w) }
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The smallest network and its samples, as arguments."""
    folder = tmp_path_factory.mktemp("tiny")
    generator = np.random.default_rng(0)
    model = parser.parse_model(DENSE)
    del model.graph.initializer[:]
    weights = generator.normal(size=(6, 3)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(weights, "w"))
    onnx.save(model, folder / "tiny.onnx")
    x = generator.normal(size=(200, 6)).astype(np.float32)
    y = np.where(np.arange(200) % 9 == 0, 0, (x @ weights).argmax(axis=1))
    np.savez(folder / "tiny.npz", x=x, y=y)
    return [str(folder / "tiny.onnx"), "--data", str(folder / "tiny.npz")]


def arguments(files: list[str], out: Path, *more: str) -> list[str]:
    """Return the arguments of a quick analysis."""
    quick = ["--effort", "quick", "--passes", "10", "--trials", "60", "--limit", "60"]
    skipped = ["--tolerance", "0.1", "--workers", "1", "--skip", "certify", "--skip", "effects"]
    return ["analyze", *files, *quick, *skipped, "--out", str(out), *more]


def test_the_certificate_is_that_of_the_processor_and_says_what_was_confirmed(
    files: list[str], tmp_path: Path
) -> None:
    assert run(arguments(files, tmp_path / "usual")) in (0, 1)
    assert run(arguments(files, tmp_path / "device", "--trials-on", "device")) in (0, 1)
    usual, device = (
        json.loads((tmp_path / name / "certificate.json").read_text())
        for name in ("usual", "device")
    )
    for name in ("monte_carlo", "worst_found", "certified"):
        for block in (usual[name], device[name]):
            block.pop("members", None)  # their seconds
            block.pop("effort_curve", None)
        assert usual[name] == device[name]
    same = "trials.parquet"
    assert (tmp_path / "usual" / same).read_bytes() == (tmp_path / "device" / same).read_bytes()
    assert [row for row in device["settings"] if row not in usual["settings"]] == [
        {"key": "trials-on", "value": "device", "is_default": False}
    ]
    (stated,) = [text for text in device["warnings"] if text not in usual["warnings"]]
    assert stated.startswith("TRIALS_ON_DEVICE: Drawn chips were scored by the torch twin on cpu.")
    assert not (tmp_path / "device" / ".resume").exists()
    of = ["--model", files[0], "--data", files[2], "--workers", "1", "--reviewer-seed", "1"]
    assert run(["replay", str(tmp_path / "device"), *of]) == 0


def test_shards_are_scored_on_the_processor(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ("--trials-on", "device", "--shard", "1/2")
    assert run(arguments(files, tmp_path / "out", *more)) == 2
    assert "a shard scores its chips on the processor" in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("**/trials"))
