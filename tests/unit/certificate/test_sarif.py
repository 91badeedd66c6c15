"""SARIF of the gate, against the schema of the standard.

sarif-2.1.0-rtm.5.json beside this file is the schema of OASIS as the npm package
@microsoft/jest-sarif 1.0.0-beta.0 holds it.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jsonschema import Draft4Validator, FormatChecker

import cimrobust
from cimrobust.certificate.certificate_files import read_certificate
from cimrobust.certificate.gate_evidence import EvidenceProblem
from cimrobust.certificate.gate_outcome import GateOutcome
from cimrobust.certificate.sarif import sarif_text
from cimrobust.errors import EvidenceRefutedError
from tests.unit.certificate.conftest import MODEL

SCHEMA = json.loads(Path(__file__).with_name("sarif-2.1.0-rtm.5.json").read_text())
STRICT = (
    "[require]\nclean_accuracy = 0.5\nworst_found_accuracy = 0.99\n"
    "kpp = { k = 0.1, accuracy = 0.9 }\n[conditions]\ndevice = 'other'\n"
)


def gated(certified: Path, folder: Path, policy: str, **more: Any) -> dict[str, Any]:
    """Return the run that the gate writes, once it follows the schema."""
    (folder / "p.toml").write_text(policy)
    out = folder / "g.sarif"
    try:
        cimrobust.gate(certified, policy=folder / "p.toml", sarif=out, **more)
    except EvidenceRefutedError:
        assert out.exists()
    log = json.loads(out.read_text())
    Draft4Validator(SCHEMA, format_checker=FormatChecker()).validate(log)
    return log["runs"][0]


def by_rule(run: dict[str, Any]) -> dict[str, Any]:
    rules = run["tool"]["driver"]["rules"]
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
    return {result["ruleId"]: result for result in run["results"]}


def test_the_schema_refuses_what_is_wrong() -> None:
    with pytest.raises(Exception, match="runs"):
        Draft4Validator(SCHEMA).validate({"version": "2.1.0"})


def test_every_row_is_a_rule_and_what_does_not_hold_a_result(failing: Path, tmp_path: Path) -> None:
    run = gated(failing, tmp_path, STRICT)
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert rules == [
        "clean_accuracy",
        "worst_found_accuracy",
        "kpp_0.1",
        "condition: device",
        "verdict",
    ]
    assert all(rule["help"]["markdown"] for rule in run["tool"]["driver"]["rules"])
    assert run["tool"]["driver"]["version"] == cimrobust.__version__
    results = by_rule(run)
    assert {name: result["level"] for name, result in results.items()} == {
        "worst_found_accuracy": "error",
        "kpp_0.1": "warning",
        "condition: device": "warning",
    }
    assert results["kpp_0.1"]["properties"]["status"] == "open"
    assert run["properties"]["verdict"] == "FAIL"


def test_a_refuted_requirement_leads_to_network_and_witness(failing: Path, tmp_path: Path) -> None:
    run = gated(failing, tmp_path, STRICT, model=MODEL)
    results = by_rule(run)
    worst = results["worst_found_accuracy"]
    assert "Witness: witness/worst_case.onnx" in worst["message"]["text"]
    (place,) = worst["locations"]
    assert place["physicalLocation"]["artifactLocation"]["uri"].endswith("breast_cancer_mlp.onnx")
    places = [
        related["physicalLocation"]["artifactLocation"]["uri"]
        for related in worst["relatedLocations"]
    ]
    assert places == ["certificate.json", "witness/worst_case.onnx"]
    stated = json.loads((failing / "certificate.json").read_text())
    digest = stated["worst_found"]["witness"]["witness/worst_case.onnx"]
    assert worst["properties"]["witness_sha256"] == digest
    assert worst["properties"]["threshold"] == 0.99
    assert worst["properties"]["found"] == stated["worst_found"]["score"]
    assert "witness" not in results["kpp_0.1"]["properties"]


def test_places_are_relative_to_the_folder_of_the_gate(
    failing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(failing, tmp_path / "an out")
    (tmp_path / "nets").mkdir()
    shutil.copy(MODEL, tmp_path / "nets")
    monkeypatch.chdir(tmp_path)
    run = gated(Path("an out"), tmp_path, STRICT, model=Path("nets") / MODEL.name)
    worst = by_rule(run)["worst_found_accuracy"]
    place = worst["locations"][0]["physicalLocation"]["artifactLocation"]
    assert place == {"uri": f"nets/{MODEL.name}", "uriBaseId": "%SRCROOT%"}
    assert worst["properties"]["witness"] == "an%20out/witness/worst_case.onnx"


def test_no_path_of_the_machine_is_told(failing: Path, tmp_path: Path) -> None:
    text = json.dumps(gated(failing, tmp_path, STRICT)["results"])
    assert str(tmp_path) not in text
    assert str(failing.parent) not in text


def test_a_pass_has_rules_and_no_result(failing: Path, tmp_path: Path) -> None:
    run = gated(failing, tmp_path, "[require]\nkpp = { k = 30, accuracy = 0.1 }\n")
    assert run["properties"]["verdict"] == "PASS_STATISTICAL"
    assert run["results"] == []
    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == ["kpp_30", "verdict"]


def test_what_passes_nothing_has_a_result_though_every_row_is_met(
    failing: Path, tmp_path: Path
) -> None:
    run = gated(failing, tmp_path, "[require]\nclean_accuracy = 0.5\n")
    assert run["properties"]["verdict"] == "INCONCLUSIVE"
    assert by_rule(run)["verdict"]["level"] == "warning"


def test_refuted_evidence_is_an_error(failing: Path, tmp_path: Path) -> None:
    forged = tmp_path / "forged"
    shutil.copytree(failing, forged)
    (forged / "witness" / "worst_case.onnx").unlink()
    run = gated(forged, tmp_path, STRICT)
    assert run["properties"]["verdict"] == "EVIDENCE_REFUTED"
    assert {result["level"] for result in run["results"]} == {"error"}
    assert any("worst_case.onnx" in result["message"]["text"] for result in run["results"])
    names = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert len(set(names)) == len(names)


def test_fingerprints_last_over_runs_and_partial_ones_over_trainings(failing: Path) -> None:
    record = read_certificate(failing)
    files = [file.model_copy(update={"sha256": "0" * 64}) for file in record.model.files]
    retrained = record.model_copy(
        update={"model": record.model.model_copy(update={"files": files})}
    )
    problems = (EvidenceProblem("files", "changed"),)
    first, again, other = (
        by_rule(json.loads(sarif_text(GateOutcome(made, failing, None, problems)))["runs"][0])
        for made in (record, record, retrained)
    )
    assert first == again
    assert first["files"]["partialFingerprints"] == other["files"]["partialFingerprints"]
    assert first["files"]["fingerprints"] != other["files"]["fingerprints"]


def test_names_that_no_uri_may_hold_are_quoted(
    failing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = tmp_path / "a b#?%ä.onnx"
    shutil.copy(MODEL, odd)
    monkeypatch.chdir(tmp_path)
    run = gated(failing, tmp_path, STRICT, model=odd)
    place = by_rule(run)["kpp_0.1"]["locations"][0]["physicalLocation"]["artifactLocation"]
    assert place["uri"] == "a%20b%23%3F%25%C3%A4.onnx"


def test_text_of_a_policy_makes_no_link(failing: Path, tmp_path: Path) -> None:
    policy = "[[require]]\nid = 'a'\ntext = '[x](http://e.vil)'\nworst_found_accuracy = 0.99\n"
    run = gated(failing, tmp_path, policy)
    (result,) = run["results"]
    for text in (
        result["message"]["text"],
        run["tool"]["driver"]["rules"][0]["shortDescription"]["text"],
    ):
        assert "\\[x\\](http://e.vil)" in text


def test_a_refused_signature_is_reported(failing: Path, tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    key.write_bytes(
        Ed25519PrivateKey.generate()
        .public_key()
        .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    run = gated(failing, tmp_path, STRICT, require_signature=str(key))
    assert run["properties"]["verdict"] == "EVIDENCE_REFUTED"
    assert [result["ruleId"] for result in run["results"]] == ["signature"]
