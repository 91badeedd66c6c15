"""Certificates in MLflow: scores as metrics, verdict and digests as tags, the folder as artifacts.

MLflow is an extra: ``pip install 'cimrobust[mlflow]'``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from cimrobust.certificate.extras import needing
from cimrobust.certificate.manifest import MANIFEST
from cimrobust.certificate.result import Certificate
from cimrobust.files import sha256_of

if TYPE_CHECKING:
    from cimrobust.certificate.gate_evidence import GateResult
    from cimrobust.certificate.models import Verdict

_PREFIX = "cimrobust"
# MLflow takes a tag of at most 5,000 characters, and these in names.
_MOST = 5000
_UNNAMED = re.compile(r"[^\w\-. /]", re.ASCII)


def log_certificate(
    certificate: Certificate | str | Path,
    *,
    gate: GateResult | None = None,
    artifacts: bool = True,
) -> str:
    """Log a certificate to the active run of MLflow, or to a new one.

    Metrics are the scores, and the margin of every requirement. Tags are the verdict, the status of
    every requirement, and the digests of certificate, manifest and network, which bind the run to
    the evidence.

    Args:
        certificate: The certificate, or its folder.
        gate: What a gate decided on it; None: the certificate's own verdict is logged.
        artifacts: Log every file of the folder, below ``cimrobust/``.

    Returns:
        Id of the run.

    Raises:
        UsageError: MLflow is not installed.
        InputRefusedError: There is no certificate, or it does not follow its schema.
    """
    with needing("mlflow", "logging to MLflow"):
        import mlflow  # noqa: PLC0415
    if not isinstance(certificate, Certificate):
        certificate = Certificate.read(certificate)
    verdict = certificate.verdict if gate is None else gate.verdict
    active = mlflow.active_run()
    run = active or mlflow.start_run()
    try:
        mlflow.log_metrics(dict(_metrics(certificate, verdict)))
        mlflow.set_tags(dict(_tags(certificate, verdict)))
        if gate is not None:
            mlflow.set_tag(f"{_PREFIX}.policy_sha256", gate.policy.sha256)
        if artifacts:
            mlflow.log_artifacts(str(certificate.directory), artifact_path=_PREFIX)
    finally:
        if active is None:
            mlflow.end_run()
    return str(run.info.run_id)


def _metrics(certificate: Certificate, verdict: Verdict) -> Iterator[tuple[str, float]]:
    scores = {
        "clean": certificate.clean.score,
        "quantised": certificate.clean.quantised_score,
        "mean": certificate.monte_carlo.mean,
        "worst_found": certificate.worst_found.score,
        "certified": certificate.certified.score,
    }
    for entry in certificate.monte_carlo.kpp:
        scores[f"kpp_{entry.k:g}"] = entry.score
        scores[f"kpp_{entry.k:g}_bound"] = entry.lower_bound
    for row in verdict.requirements:
        scores[f"margin.{_name(row.id)}"] = row.margin
    for name, score in scores.items():
        if score is not None:
            yield f"{_PREFIX}.{name}", score


def _tags(certificate: Certificate, verdict: Verdict) -> Iterator[tuple[str, str]]:
    manifest = certificate.directory / MANIFEST
    stated = {
        "verdict": verdict.word,
        "sentence": verdict.sentence,
        "metric": certificate.metric.name,
        "device": str(certificate.device.profile.get("name", "")),
        "version": certificate.record.tool.version,
        "certificate_sha256": certificate.record.file_sha256
        or sha256_of(certificate.directory / "certificate.json"),
        "manifest_sha256": sha256_of(manifest) if manifest.exists() else "",
        **{f"model_sha256.{_name(file.name)}": file.sha256 for file in certificate.model.files},
        **{f"requirement.{_name(row.id)}": row.status for row in verdict.requirements},
    }
    for name, text in stated.items():
        if text:
            yield f"{_PREFIX}.{name}", text[:_MOST]


def _name(text: str) -> str:
    return _UNNAMED.sub("_", text)
