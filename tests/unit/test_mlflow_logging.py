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


def test_metrics_tags_and_files_are_in_the_store(small_certificate: Path, tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text(
        '[[require]]\nid = "R-1: worst, of all"\nworst_found_accuracy = 1.5\n'
        '[[require]]\nid = "spread"\nkpp = { k = 20, accuracy = 0.5 }\n'
    )
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(small_certificate), str(policy)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    record = cimrobust.Certificate.read(small_certificate)
    gate = cimrobust.gate(small_certificate, policy=policy)
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


def test_a_missing_library_is_named(
    small_certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(UsageError, match=r"pip install 'cimrobust\[mlflow\]'"):
        log_certificate(small_certificate)
