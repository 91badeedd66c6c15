"""`cimrobust rewrite`: the file, the summary, and what is refused before anything is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import cimrobust
from cimrobust.cli.main import run


def test_a_rewritten_sample_can_be_inspected(
    samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "crossbars.onnx"
    assert run(["rewrite", str(samples / "digits_cnn.onnx"), "-o", str(target), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["file"] == str(target)
    assert sum(summary["crossbar_nodes"].values()) == len(summary["layers"])
    assert run(["inspect", str(target), "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    for key in ("total_devices", "total_tiles", "mapped_weights"):
        assert again[key] == summary[key]
    assert [layer["box_radius"] for layer in again["layers"]] == pytest.approx(
        [layer["box_radius"] for layer in summary["layers"]], rel=1e-6
    )


def test_a_rewritten_sample_can_be_analyzed(samples: Path, tmp_path: Path) -> None:
    rewritten = cimrobust.rewrite(
        samples / "digits_cnn.onnx",
        device="rram-write-verify-3pct",
        out=tmp_path / "crossbars.onnx",
    )
    certificate = cimrobust.analyze(
        rewritten.path,
        data=samples / "digits_cnn.toml",
        device="rram-write-verify-3pct",
        out=tmp_path / "out",
        effort="quick",
        trials=50,
        limit=20,
    )
    assert certificate.data["worst_found"]["score"] <= certificate.data["monte_carlo"]["mean"]


def test_the_summary_is_one_line(
    samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        run(
            [
                "rewrite",
                str(samples / "digits_cnn.onnx"),
                "-o",
                str(tmp_path / "c.onnx"),
                "--tolerance",
                "0.01",
            ]
        )
        == 0
    )
    assert "rram-write-verify-3pct@1pct" in capsys.readouterr().out.splitlines()[0]


@pytest.mark.parametrize(
    ("out", "text"),
    [
        ("", "got a folder"),
        ("no/such/folder.onnx", "folder of the output file must exist"),
        ("model.onnx", "got the model itself"),
    ],
)
def test_places_that_cannot_be_written_are_refused(
    samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], out: str, text: str
) -> None:
    model = tmp_path / "model.onnx"
    content = (samples / "digits_cnn.onnx").read_bytes()
    model.write_bytes(content)
    assert run(["rewrite", str(model), "-o", str(tmp_path / out)]) == 2
    assert text in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    assert model.read_bytes() == content


def test_a_disk_that_is_full_is_told(
    samples: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cimrobust.pipeline.rewriting.save_model", full)
    model = samples / "breast_cancer_mlp.onnx"
    assert run(["rewrite", str(model), "-o", str(tmp_path / "out.onnx")]) == 2
    assert "output file must be writable, got No space left" in capsys.readouterr().err


def test_a_refused_model_leaves_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no model")
    assert run(["rewrite", str(tmp_path / "model.onnx"), "-o", str(tmp_path / "c.onnx")]) == 5
    assert "model.onnx" in capsys.readouterr().err
    assert not (tmp_path / "c.onnx").exists()


def test_the_same_model_gives_the_same_bytes(samples: Path, tmp_path: Path) -> None:
    digests = {
        cimrobust.rewrite(
            samples / "digits_cnn.onnx", device="rram-write-verify-3pct", out=tmp_path / name
        ).sha256
        for name in ("a.onnx", "b.onnx")
    }
    assert len(digests) == 1
