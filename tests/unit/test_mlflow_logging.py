"""Certificates in MLflow, against a tracking store of SQLite in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import cimrobust
from cimrobust.errors import UsageError
from cimrobust.mlflow_logging import log_certificate

SCRIPT = """
import json, sys
import mlflow, cimrobust
from cimrobust.mlflow_logging import log_certificate

out, policy = sys.argv[1:]
mlflow.set_tracking_uri("sqlite:///tracking.db")
gate = cimrobust.gate(out, policy=policy)
with mlflow.start_run() as active:
    first = log_certificate(out, gate=gate)
    assert first == active.info.run_id
second = log_certificate(cimrobust.Certificate.read(out), artifacts=False)
assert mlflow.active_run() is None
client = mlflow.MlflowClient()
told = {}
for name, run_id in (("first", first), ("second", second)):
    run = client.get_run(run_id)
    told[name] = {
        "metrics": run.data.metrics,
        "tags": run.data.tags,
        "status": run.info.status,
        "files": [file.path for file in client.list_artifacts(run_id, "cimrobust")],
    }
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def certificate(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("mlflow") / "out"
    name = samples / "breast_cancer_mlp"
    cimrobust.analyze(
        name.with_suffix(".onnx"),
        data=name.with_suffix(".toml"),
        out=out,
        effort="quick",
        trials=20,
        limit=20,
        workers=1,
    )
    return out


def test_metrics_tags_and_files_are_in_the_store(certificate: Path, tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text(
        '[[require]]\nid = "R-1: worst, of all"\nworst_found_accuracy = 1.5\n'
        '[[require]]\nid = "spread"\nkpp = { k = 20, accuracy = 0.5 }\n'
    )
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(certificate), str(policy)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    record = cimrobust.Certificate.read(certificate)
    gate = cimrobust.gate(certificate, policy=policy)
    first, second = told["first"], told["second"]
    assert first["metrics"]["cimrobust.worst_found"] == record.worst_found.score
    assert first["metrics"]["cimrobust.margin.R-1_ worst_ of all"] == gate.requirements[0].margin
    assert first["tags"]["cimrobust.verdict"] == "FAIL"
    assert first["tags"]["cimrobust.requirement.R-1_ worst_ of all"] == "refuted"
    assert first["tags"]["cimrobust.requirement.spread"] == "met"
    assert first["tags"]["cimrobust.certificate_sha256"] == gate.certificate_sha256
    assert first["tags"]["cimrobust.manifest_sha256"] == gate.manifest_sha256
    assert first["tags"]["cimrobust.policy_sha256"] == gate.policy.sha256
    assert "cimrobust/certificate.json" in first["files"]
    assert second["tags"]["cimrobust.verdict"] == "INCONCLUSIVE"
    assert second["files"] == []
    assert second["status"] == first["status"] == "FINISHED"


def test_a_missing_library_is_named(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(UsageError, match=r"pip install 'cimrobust\[mlflow\]'"):
        log_certificate(certificate)
