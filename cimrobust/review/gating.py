"""A certificate against a policy, after all was checked that its files tell about it.

Runs no network and no search, so it imports nothing that does (tests/cli/test_imports.py).
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from datetime import UTC, date, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cimrobust.certificate.certificate_files import read_certificate
from cimrobust.certificate.gate_evidence import EvidenceProblem, EvidenceProblemsError, GateResult
from cimrobust.certificate.gate_outcome import WITNESS_MODEL, GateOutcome
from cimrobust.certificate.gate_reports import GateReports
from cimrobust.certificate.judging import Occasion
from cimrobust.certificate.manifest import MANIFEST
from cimrobust.certificate.named_digest import NamedDigest
from cimrobust.certificate.named_metric import require_named_metric
from cimrobust.certificate.policy import Policy, read_policy
from cimrobust.certificate.result_names import TRIALS
from cimrobust.certificate.verdict import judge
from cimrobust.counts import check_number
from cimrobust.errors import EvidenceRefutedError, InputRefusedError, UsageError
from cimrobust.files import sha256_of
from cimrobust.input_file import refusing_what_fails
from cimrobust.montecarlo.trial_table import from_parquet
from cimrobust.pipeline.arguments import check_day
from cimrobust.pipeline.in_memory import given_folder, given_path, takes_objects
from cimrobust.review.believed import MAKER
from cimrobust.review.evidence_problems import Examined, examine
from cimrobust.review.result_files import require_certificate

if TYPE_CHECKING:
    from cimrobust.certificate.models import CertificateModel
    from cimrobust.review.signing import SignedFolder
    from cimrobust.settings.python_inputs import DataLike, FolderLike, ModelLike, PolicyLike

_OURS = "certificate must be one that `cimrobust analyze` wrote"
_HINT = "it follows the schema but contradicts itself; make it again"


@takes_objects
def gate(
    directory: FolderLike,
    *,
    policy: PolicyLike,
    model: ModelLike | None = None,
    data: DataLike | None = None,
    baseline: FolderLike | None = None,
    no_worse_than: float | None = None,
    today: str | None = None,
    issued_after: str | None = None,
    junit: str | Path | None = None,
    sarif: str | Path | None = None,
    summary: str | Path | None = None,
    step_summary: str | Path | None = None,
    require_signature: str | Path | None = None,
    example_input: Any = None,
) -> GateResult:
    """Judge a certificate against a policy, after all that its files tell about it was checked.

    Args:
        directory: Folder of the certificate, or a `Certificate`.
        policy: Policy file, or its tables.
        model: The network that is to be deployed; a certificate of another one is refused. None: it
            is not compared.
        data: The evaluation data, in any form that `analyze` takes; a certificate of others is
            refused. None: they are not compared.
        baseline: Folder of the certificate of the network in use, for requirements that ask
            no_worse_than_baseline.
        no_worse_than: Require besides that scores without deviation and of the worst chip found are
            at most this much worse than the baseline's.
        today: Day, YYYY-MM-DD, that the age of the certificate is counted to; None: today, by the
            clock (UTC), where the policy asks for an age.
        issued_after: Require besides that the certificate states a day of issue after this one,
            YYYY-MM-DD.
        junit: Write the result as JUnit XML there too.
        sarif: Write the result as SARIF 2.1.0 there too.
        summary: Write the result as Markdown there too.
        step_summary: Append the same Markdown to this file, to which other steps of a pipeline
            write as well.
        require_signature: Who must have signed the certificate, see `cimrobust.verify_signature`;
            None: nobody.
        example_input: What a `torch.nn.Module` is exported with: a tensor or an array of samples,
            or a tuple of them.

    Returns:
        The verdict and its exit code.

    Raises:
        UsageError: The policy or an argument is wrong.
        InputRefusedError: certificate.json is missing or corrupt.
        EvidenceRefutedError: Evidence is missing, forged, damaged, or of another network or other
            data; its `problems` say what.
    """
    folder, policy_file = given_folder(directory), given_path(policy)
    before = None if baseline is None else given_folder(baseline)
    required = read_policy(policy_file)
    occasion = _occasion(
        required,
        baseline=before,
        no_worse_than=no_worse_than,
        today=today,
        issued_after=issued_after,
    )
    reports = GateReports(junit, sarif, summary, step_summary)
    signed: SignedFolder | None = None
    if require_signature is not None:
        # Most gates ask for no signature, and its libraries are an extra.
        from cimrobust.review import signing  # noqa: PLC0415

        try:
            signed = signing.require_signature(folder, require_signature)
        except EvidenceRefutedError as error:
            _report_unsigned(folder, error, reports)
            raise
    require_certificate(folder)
    certificate = read_certificate(folder) if signed is None else signed.certificate
    outcome = GateOutcome(
        certificate,
        folder,
        result=None,
        model=None if model is None else given_path(model),
        data=None if data is None else str(data),
    )
    # What is judged is what was checked, whatever takes the names of the files meanwhile.
    read_trials = cache(lambda: from_parquet(folder / TRIALS))
    examined = examine(folder, certificate, outcome.model, outcome.data, read_trials=read_trials)
    listed = _manifest_digest(folder)
    compared = _baseline_examined(before, occasion.baseline)
    problems = [*examined.problems, *compared.problems]
    if signed is not None and listed != signed.manifest_sha256:
        problems.append(EvidenceProblem("manifest", f"{MANIFEST} is no longer what was signed"))
    if problems:
        reports.write(replace(outcome, problems=tuple(problems)))
        raise EvidenceProblemsError(problems, folder)
    metric = certificate.metric
    require_named_metric(required, metric.name, higher_is_better=metric.higher_is_better)
    with refusing_what_fails(_OURS, folder, hint=_HINT):
        verdict = judge(certificate, required, read_trials(), occasion)
    digest = NamedDigest(policy_file.name, sha256_of(policy_file))
    result = GateResult(
        verdict,
        witness=WITNESS_MODEL,
        policy=digest,
        certificate_sha256=certificate.file_sha256,
        manifest_sha256=listed,
        not_checked=_unchecked(examined, compared, is_signed=signed is not None),
    )
    reports.write(replace(outcome, result=result))
    return result


def _report_unsigned(directory: Path, error: EvidenceRefutedError, reports: GateReports) -> None:
    """Write the reports of a gate that refuses the signature, where there is a certificate."""
    with contextlib.suppress(InputRefusedError):
        certificate = read_certificate(directory)
        problem = EvidenceProblem("signature", str(error))
        reports.write(GateOutcome(certificate, directory, result=None, problems=(problem,)))


def _unchecked(
    examined: Examined, compared: Examined, *, is_signed: bool
) -> tuple[EvidenceProblem, ...]:
    """Return what the verdict believes: who made the evidence, unless a signature says it."""
    claims = [claim for claim in examined.unchecked if not (is_signed and claim.id == MAKER)]
    return (*claims, *compared.unchecked)


def _manifest_digest(directory: Path) -> str | None:
    """Return the digest of the list of all files; None: folders of older versions have none."""
    path = directory / MANIFEST
    return sha256_of(path) if path.exists() else None


def _occasion(
    policy: Policy,
    *,
    baseline: str | Path | None,
    no_worse_than: float | None,
    today: str | None,
    issued_after: str | None,
) -> Occasion:
    """Return what the certificate is judged beside.

    Raises UsageError for arguments that do not go together.
    """
    check_number("no-worse-than", no_worse_than)
    if no_worse_than is not None and no_worse_than < 0:
        raise UsageError(
            f"score that may be lost must be at least 0, got {no_worse_than} (--no-worse-than);"
            " give 0 or more"
        )
    if no_worse_than is not None and baseline is None:
        raise UsageError(
            "comparison needs a certificate to compare with, got none (--no-worse-than); give"
            " --baseline too"
        )
    if (
        baseline is not None
        and no_worse_than is None
        and not list(policy.thresholds("no_worse_than_baseline"))
    ):
        raise UsageError(
            "baseline must be asked about, got a policy without no_worse_than_baseline"
            " (--baseline); say by --no-worse-than what may be lost"
        )
    return Occasion(
        today=_day_of_gate(policy, today),
        issued_after=check_day("--issued-after", issued_after),
        baseline=None if baseline is None else read_certificate(Path(baseline)),
        no_worse_than=no_worse_than,
    )


def _day_of_gate(policy: Policy, today: str | None) -> date | None:
    """Return the day that ages are counted to.

    The clock is read only where the policy asks for an age and nobody says which day it is.
    """
    given = check_day("--today", today)
    asked = policy.conditions is not None and policy.conditions.newest_days is not None
    return datetime.now(UTC).date() if given is None and asked else given


def _baseline_examined(
    directory: str | Path | None, certificate: CertificateModel | None
) -> Examined:
    """Check the evidence of the baseline too: a forged one would make any network look better."""
    if directory is None or certificate is None:
        return Examined([], [])
    found = examine(Path(directory), certificate, None, None)
    ids = ", ".join(claim.id for claim in found.unchecked)
    return Examined(
        [EvidenceProblem(f"baseline: {one.id}", one.detail) for one in found.problems],
        [EvidenceProblem("baseline", f"of the baseline are not checked: {ids}")],
    )
