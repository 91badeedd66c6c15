"""What is done with finished certificates: gate, replay, report."""

from __future__ import annotations

from pathlib import Path

from cimrobust.certificate.files import REPORT, TRIALS, WITNESS, atomic_text, read_certificate
from cimrobust.certificate.gate import GateResult, write_junit
from cimrobust.certificate.manifest import update_manifests
from cimrobust.certificate.policy import read_policy
from cimrobust.certificate.replay import replay_certificate
from cimrobust.certificate.replay_check import ReplayCheck
from cimrobust.certificate.verdict import judge
from cimrobust.input_file import refusing_what_fails
from cimrobust.montecarlo.table import from_parquet
from cimrobust.pipeline import signing
from cimrobust.report.render import render

_OURS = "certificate must be one that `cimrobust analyze` wrote"
_HINT = "it follows the schema but contradicts itself; make it again"


def gate(
    directory: str | Path, *, policy: str | Path, junit: str | Path | None = None, require_signature: str | Path | None = None
) -> GateResult:
    """Judge a certificate against a policy.

    Args:
        directory: Folder of the certificate.
        policy: Policy file.
        junit: Write the result as JUnit XML there too.
        require_signature: Who must have signed the certificate, see `cimrobust.verify_signature`; None: nobody.

    Raises:
        EvidenceRefutedError: It is not signed by whom it must be.
        UsageError: The policy is wrong.
        InputRefusedError: The certificate or its trials are missing or corrupt.
    """
    required = read_policy(Path(policy))
    if require_signature is not None:
        signing.require_signature(directory, require_signature)
    certificate = read_certificate(Path(directory))
    trials = from_parquet(Path(directory) / TRIALS)
    with refusing_what_fails(_OURS, directory, hint=_HINT):
        verdict = judge(certificate, required, trials)
    result = GateResult(verdict, witness=f"{directory}/{WITNESS}/worst_case.onnx")
    if junit is not None:
        write_junit(result, Path(junit), model=certificate.model.name)
    return result


def replay(
    directory: str | Path, *, model: str | Path | None = None, data: str | Path | None = None, labels_of: str | Path | None = None
) -> list[ReplayCheck]:
    """Derive the claims of a certificate again from its files.

    Args:
        directory: Folder of the certificate.
        model: The certified network; None: claims about it are not checked.
        data: The evaluation data; None: scores are not checked.
        labels_of: The network whose decisions are the labels, where the certificate names one; None: scores by them are not checked.
    """
    return replay_certificate(
        Path(directory),
        model=None if model is None else Path(model),
        data=None if data is None else str(data),
        labels_of=None if labels_of is None else Path(labels_of),
        render=render,
        html=REPORT,
    )


def rewrite_report(directory: str | Path) -> Path:
    """Write the HTML of a certificate again from its JSON; returns its path."""
    path = Path(directory) / REPORT
    certificate = read_certificate(Path(directory))
    with refusing_what_fails(_OURS, directory, hint=_HINT):
        html = render(certificate)
    atomic_text(path, html)
    update_manifests(Path(directory), REPORT)
    return path
