"""Results as consoles and notebooks show them: short, and text of files makes no markup."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import cimrobust
from cimrobust.certificate.notebook_view import notebook_view
from cimrobust.pipeline.retraining import Retrained
from cimrobust.pipeline.suggestion import Suggestion
from cimrobust.pipeline.sweep import Sweep
from cimrobust.review.other_results import read_retraining, read_sweep

RESULTS = Path(__file__).parents[2] / "golden" / "results"
SAMPLES = Path(__file__).parents[3] / "samples"
HOSTILE = "<script>alert('x')</script>\n.onnx"


def folder_of(tmp_path: Path, source: str, name: str) -> Path:
    shutil.copy(RESULTS / source, tmp_path / name)
    return tmp_path


def test_certificate_in_one_line(tmp_path: Path) -> None:
    certificate = cimrobust.Certificate.read(
        folder_of(tmp_path, "certificate-1.5.json", "certificate.json")
    )
    text = repr(certificate)
    assert len(text.splitlines()) == 1
    for part in (
        certificate.verdict.word,
        f"worst found {certificate.worst_found.score:.4g}",
        f"clean {certificate.clean.score:.4g}",
        str(tmp_path),
    ):
        assert part in text
    assert len(repr(certificate.record)) < 100


def test_certificate_in_a_notebook(tmp_path: Path) -> None:
    certificate = cimrobust.Certificate.read(
        folder_of(tmp_path, "certificate-1.5.json", "certificate.json")
    )
    html = certificate._repr_html_()
    assert certificate.verdict.word in html
    assert f"<td>worst chip found</td><td>{certificate.worst_found.score:.4g}</td>" in html


def test_names_make_no_markup(tmp_path: Path) -> None:
    read = cimrobust.Certificate.read(
        folder_of(tmp_path, "certificate-1.5.json", "certificate.json")
    )
    model = read.record.model.model_copy(update={"name": HOSTILE})
    hostile = replace(read, record=read.record.model_copy(update={"model": model}))
    assert len(repr(hostile).splitlines()) == 1
    assert "<script" not in hostile._repr_html_()
    assert "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt; .onnx" in hostile._repr_html_()


def test_sweep_and_retraining(tmp_path: Path) -> None:
    swept = Sweep(read_sweep(folder_of(tmp_path, "sweep-1.2.json", "sweep.json")), tmp_path)
    trained = Retrained(
        read_retraining(folder_of(tmp_path, "retrain-1.4.json", "retrain.json")), tmp_path
    )
    assert repr(swept).startswith("<Sweep of ")
    assert swept._repr_html_().count("<tr>") == 1 + len(swept.record.points)
    assert f"{trained.record.after.worst_found:.4g} after" in repr(trained)
    assert "<td>worst chip found</td>" in trained._repr_html_()


def test_inspection_shows_its_layers() -> None:
    inspection = cimrobust.inspect_model(
        SAMPLES / "breast_cancer_mlp.onnx", device="rram-write-verify-3pct"
    )
    assert repr(inspection).startswith("<Inspection of breast_cancer_mlp.onnx: ")
    html = inspection._repr_html_()
    assert all(f"<td>{layer.initializer}</td>" in html for layer in inspection.scan.layers)


def test_comparison_and_gate(failing: Path, tmp_path: Path) -> None:
    compared = cimrobust.compare(failing, failing)
    assert repr(compared).count("breast_cancer_mlp.onnx") == 2
    assert all(f"<td>{row.title}</td>" in compared._repr_html_() for row in compared.scores)
    policy = tmp_path / "policy.toml"
    policy.write_text("[require]\nworst_found_accuracy = 0.9\n", encoding="utf-8")
    judged = cimrobust.gate(failing, policy=policy)
    assert repr(judged) == "<GateResult: FAIL, exit code 1, by policy.toml>"
    assert "<td>worst_found_accuracy</td>" in judged._repr_html_()


def test_suggestion() -> None:
    data = {
        "model": {"name": "m.onnx"},
        "best": "digital",
        "digital": {"layers": ["w<1>"], "score": 0.91},
        "tighter": None,
        "tighter_reason": "not asked for (--protect)",
    }
    suggestion = Suggestion(data, found=True)
    assert repr(suggestion) == (
        "<Suggestion for m.onnx: digital protection of w<1> meets the policy>"
    )
    assert "<td>digital</td><td>w&lt;1&gt;</td><td>0.91</td>" in suggestion._repr_html_()


def test_long_text_is_cut() -> None:
    assert len(notebook_view("x" * 10_000, [])) < 500
