"""Bills of materials: valid by the schema of CycloneDX, the same for the same certificate, and
honest about the worst chip.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

import cimrobust
from cimrobust.certificate.bom.bill import EvidenceFile, bill_of_materials
from cimrobust.certificate.certificate_files import read_certificate
from cimrobust.cli.main import run


@pytest.fixture(scope="module")
def judged(samples: Path, tmp_path_factory) -> Path:
    """Folder of a certificate that fails its policy."""
    out = tmp_path_factory.mktemp("judged") / "out"
    arguments = [
        "analyze",
        str(samples / "digits_cnn.onnx"),
        "--data",
        str(samples / "digits_cnn.toml"),
        "--effort",
        "quick",
    ]
    assert (
        run([*arguments, "--policy", str(samples / "policies" / "strict.toml"), "--out", str(out)])
        == 0
    )
    return out


@pytest.fixture(scope="module")
def bill(judged: Path, tmp_path_factory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("bill") / "model.cdx.json"
    assert cimrobust.bom(judged, out=path) == path
    return json.loads(path.read_text())


def check(text: str) -> None:
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None


def test_it_follows_the_schema_of_cyclonedx(bill):
    check(json.dumps(bill))


def test_it_is_about_the_network(bill, samples):
    model = bill["metadata"]["component"]
    digest = hashlib.sha256((samples / "digits_cnn.onnx").read_bytes()).hexdigest()
    assert model["type"] == "machine-learning-model"
    assert model["hashes"] == [{"alg": "SHA-256", "content": digest}]
    assert [entry["ref"] for entry in model["modelCard"]["modelParameters"]["datasets"]] == [
        "data/digits_cnn.toml",
        "data/digits_test.npz",
    ]


def test_references_have_the_digests_of_the_files(bill, judged):
    references = {
        entry["url"]: entry["hashes"][0]["content"]
        for entry in bill["metadata"]["component"]["externalReferences"]
    }
    assert set(references) == {"certificate.json", "witness/worst_case.onnx"}
    for url, digest in references.items():
        assert hashlib.sha256((judged / url).read_bytes()).hexdigest() == digest


def test_scores_have_the_intervals_of_the_certificate(bill, judged):
    certificate = read_certificate(judged)
    metrics = {
        entry["slice"].split(",")[0]: entry
        for entry in bill["metadata"]["component"]["modelCard"]["quantitativeAnalysis"][
            "performanceMetrics"
        ]
    }
    interval = next(
        row for row in certificate.evaluation_set.intervals if row.name == "worst_found"
    )
    assert float(metrics["worst chip found"]["value"]) == certificate.worst_found.score
    assert metrics["worst chip found"]["confidenceInterval"] == {
        "lowerBound": repr(interval.low),
        "upperBound": repr(interval.high),
    }


def test_limits_are_limitations(bill, judged):
    stated = bill["metadata"]["component"]["modelCard"]["considerations"]["technicalLimitations"]
    assert {f"Not covered: {text}" for text in read_certificate(judged).not_covered} <= set(stated)


def test_the_worst_chip_is_counter_evidence(bill):
    claims = {
        entry["predicate"].split(" at ")[0]: entry for entry in bill["declarations"]["claims"]
    }
    evidence = {entry["bom-ref"] for entry in bill["declarations"]["evidence"]}
    assert evidence == {"certificate", "witness"}
    assert claims["Worst accuracy found"]["counterEvidence"] == ["witness"]
    assert claims["Search effort"]["counterEvidence"] == ["certificate"]
    undisturbed = next(
        claim
        for predicate, claim in claims.items()
        if "without deviation" in predicate and claim.get("evidence")
    )
    assert undisturbed["evidence"] == ["certificate"]
    assert "evidence" not in claims["Worst accuracy found"]


def test_nothing_proven_is_no_claim(judged, bill):
    assert read_certificate(judged).certified.score == 0
    assert not any(
        entry["bom-ref"] == "claim-certified" for entry in bill["declarations"]["claims"]
    )


def test_the_same_certificate_gives_the_same_bytes(judged, tmp_path):
    for name in ("one.json", "two.json"):
        assert run(["bom", str(judged), "--out", str(tmp_path / name)]) == 0
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()
    assert "timestamp" not in json.loads((tmp_path / "one.json").read_text())["metadata"]


def test_a_time_is_stated_where_it_is_given(judged, tmp_path):
    path = tmp_path / "bill.json"
    assert (
        run(["bom", str(judged), "--out", str(path), "--timestamp", "2026-11-29T12:00:00+01:00"])
        == 0
    )
    assert json.loads(path.read_text())["metadata"]["timestamp"] == "2026-11-29T12:00:00+01:00"
    check(path.read_text())


@pytest.mark.parametrize("text", ["yesterday", "2026-11-29", "2026-11-29T12:00:00"])
def test_times_without_a_zone_are_refused(text, judged, tmp_path, capsys):
    assert run(["bom", str(judged), "--out", str(tmp_path / "bill.json"), "--timestamp", text]) == 2
    assert "timestamp must be like" in capsys.readouterr().err


def test_it_stands_outside_of_the_folder(judged, capsys):
    assert run(["bom", str(judged), "--out", str(judged / "bill.json")]) == 2
    assert "outside of the certificate's folder" in capsys.readouterr().err


@pytest.mark.parametrize("keeps_manifest", [True, False])
def test_another_witness_is_refuted(keeps_manifest, judged, samples, tmp_path, capsys):
    folder = Path(shutil.copytree(judged, tmp_path / "out"))
    shutil.copy(samples / "digits_cnn.onnx", folder / "witness" / "worst_case.onnx")
    if not keeps_manifest:
        (folder / "manifest.json").unlink()
    assert run(["bom", str(folder), "--out", str(tmp_path / "bill.json")]) == 6
    assert "do not trust it" in capsys.readouterr().err
    assert not (tmp_path / "bill.json").exists()


def test_certificates_of_other_kinds_are_valid_too(judged):
    """Regression, external data, a proof, an attestation: what the digits have not."""
    certificate = read_certificate(judged)
    file = certificate.model.files[0]
    certificate.model.files.append(file.model_copy(update={"name": "weights.bin"}))
    metric = certificate.metric.model_copy(update={"name": "rmse", "higher_is_better": False})
    certificate = certificate.model_copy(update={"metric": metric})
    inputs = certificate.model.inputs
    inputs[0] = inputs[0].model_copy(update={"shape": None})
    some = EvidenceFile("x.json", "0" * 64)
    text = bill_of_materials(
        certificate, stated=some, witness=some, attestation=some, timestamp=None
    )
    check(text)
    plain = json.loads(text)
    assert {"ref": "model", "dependsOn": ["part/weights.bin"]} in plain["dependencies"]
    assert any(entry["bom-ref"] == "claim-certified" for entry in plain["declarations"]["claims"])
