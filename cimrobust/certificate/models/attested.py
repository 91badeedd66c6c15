"""What is signed about a certificate: the predicate of the in-toto statement.

All of it follows from the certificate and, where the signer asked for another one, the policy. A
reader of the statement so needs no parser of certificates, and whoever has the folder can derive
the statement again.
"""

from __future__ import annotations

from typing import Any, Literal

from cimrobust.certificate.models.listed import Sha256
from cimrobust.certificate.models.result_file import ResultFile, Status, Word
from cimrobust.records import Count, Record

#: Type of the predicate; changes with the major version of its schema alone.
PREDICATE_TYPE = "https://cimrobust.org/attestation/robustness/v1"


class AttestedTool(Record):
    """What made the certificate."""

    name: str
    """Name of the tool."""
    version: str
    """Its version."""


class AttestedRequirement(Record):
    """One requirement of the policy."""

    id: str
    """Name of the requirement."""
    text: str
    """What is required."""
    status: Status
    """met, refuted or open."""


class AttestedPolicy(Record):
    """What the verdict was given against."""

    sha256: Sha256
    """SHA-256 of `content` as canonical JSON: keys sorted, no blanks, UTF-8."""
    content: dict[str, Any]
    """The policy, as the certificate states it."""


class AttestedDevice(Record):
    """The devices that the claims are about."""

    name: str
    """Name of the profile."""
    sha256: Sha256
    """SHA-256 of the profile in full, `device.profile` of the certificate, as canonical JSON."""
    tolerance_fraction: float
    """Largest half width of a device's interval, fraction of the full conductance range."""


class AttestedScores(Record):
    """The scores that bracket the worst case. None: there is no bound."""

    metric: str
    """accuracy, rmse, mae, mse or max_error."""
    higher_is_better: bool
    """Direction."""
    clean: float
    """Score with quantised weights, without deviation."""
    worst_found: float
    """Score of the worst chip found; a fact about one chip, not the true worst case."""
    certified: float | None
    """No chip within the tolerance scores worse on these samples; null: no bound."""


class Attestation(ResultFile):
    """What a signature on a certificate vouches for."""

    NAME = "attestation"
    VERSION = "1.0"

    schema_version: Literal["1.0"]
    """Version of this format, MAJOR.MINOR."""
    tool: AttestedTool
    """What made the certificate."""
    word: Word
    """The verdict: PASS_CERTIFIED, PASS_STATISTICAL, FAIL or INCONCLUSIVE."""
    sentence: str
    """The verdict as a sentence."""
    requirements: list[AttestedRequirement]
    """Every requirement, in the order of the policy."""
    policy: AttestedPolicy | None
    """The policy; null: the verdict was given against none."""
    device: AttestedDevice
    """The devices."""
    data: dict[str, str]
    """SHA-256 of the files of the evaluation data by name."""
    samples: Count
    """Samples that scores are of."""
    trials: Count
    """Chips drawn."""
    effort: Literal["quick", "standard", "thorough"]
    """Effort of the search."""
    scores: AttestedScores
    """What was found and proven."""
