"""What is said about a certificate in a signed statement.

Our own predicate, and the public one for test results.

Both are functions of the certificate and a policy, so that whoever has the folder can derive them
again.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cimrobust.certificate.models.attested import (
    Attestation,
    AttestedDevice,
    AttestedPolicy,
    AttestedRequirement,
    AttestedScores,
    AttestedTool,
)
from cimrobust.certificate.policy import Policy
from cimrobust.certificate.result_names import TRIALS
from cimrobust.certificate.verdict import judge
from cimrobust.montecarlo.trial_table import from_parquet

if TYPE_CHECKING:
    from cimrobust.certificate.models import CertificateModel, Verdict

#: https://github.com/in-toto/attestation/blob/main/spec/predicates/test-result.md
TEST_RESULT_TYPE = "https://in-toto.io/attestation/test-result/v0.1"

# An inconclusive verdict is no pass: policy engines let PASSED through, and nothing else.
_RESULTS = {
    "PASS_CERTIFIED": "PASSED",
    "PASS_STATISTICAL": "PASSED",
    "FAIL": "FAILED",
    "INCONCLUSIVE": "WARNED",
}
_LISTS = {"refuted": "failedTests", "open": "warnedTests", "met": "passedTests"}


def canonical_digest(plain: Any) -> str:
    """Return the SHA-256 of a value as canonical JSON: keys sorted, no blanks, UTF-8."""
    text = json.dumps(
        plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return hashlib.sha256(text.encode()).hexdigest()


def attestation_of(
    directory: Path, certificate: CertificateModel, policy: dict[str, Any] | None
) -> Attestation:
    """Return what is signed about a certificate.

    Args:
        directory: Its folder.
        certificate: The certificate.
        policy: What the verdict is given against; where it is the certificate's own, the verdict is
            as stated there.

    Raises:
        CimrobustError: The certificate cannot be judged.
    """
    verdict = _verdict(directory, certificate, policy)
    device, drawn, found = certificate.device, certificate.monte_carlo, certificate.worst_found
    return Attestation(
        schema_version="1.0",
        tool=AttestedTool(name=certificate.tool.name, version=certificate.tool.version),
        word=verdict.word,
        sentence=verdict.sentence,
        requirements=[
            AttestedRequirement(id=asked.id, text=asked.text, status=asked.status)
            for asked in verdict.requirements
        ],
        policy=(
            None
            if policy is None
            else AttestedPolicy(sha256=canonical_digest(policy), content=policy)
        ),
        device=AttestedDevice(
            name=str(device.profile.get("name", "")),
            sha256=canonical_digest(device.profile),
            tolerance_fraction=device.largest_tolerance_fraction,
        ),
        data=certificate.data.files,
        samples=certificate.data.used,
        trials=drawn.trials,
        effort=found.effort,
        scores=AttestedScores(
            metric=certificate.metric.name,
            higher_is_better=certificate.metric.higher_is_better,
            clean=certificate.clean.quantised_score,
            worst_found=found.score,
            certified=certificate.certified.score,
        ),
    )


def as_test_result(attestation: Attestation) -> dict[str, Any]:
    """Return the same as the public predicate for test results, which policy engines know.

    Policy, profile and data are its configuration. A name that several requirements share stands in
    the worst list that one of them belongs to.
    """
    by_id: dict[str, str] = {}
    for status in _LISTS:
        for asked in attestation.requirements:
            if asked.status == status:
                by_id.setdefault(asked.id, status)
    tests = {
        name: [asked for asked, found in by_id.items() if found == status]
        for status, name in _LISTS.items()
    }
    configuration = {"profile": attestation.device.sha256} | {
        f"data/{name}": digest for name, digest in attestation.data.items()
    }
    if attestation.policy is not None:
        configuration = {"policy": attestation.policy.sha256} | configuration
    return {
        "result": _RESULTS[attestation.word],
        "configuration": [
            {"name": name, "digest": {"sha256": digest}} for name, digest in configuration.items()
        ],
        **tests,
    }


def _verdict(
    directory: Path, certificate: CertificateModel, policy: dict[str, Any] | None
) -> Verdict:
    if policy == certificate.policy:
        return certificate.verdict
    required = None if policy is None else Policy.model_validate(policy)
    return judge(certificate, required, from_parquet(directory / TRIALS))
