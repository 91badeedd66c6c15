"""The outcome of a gate as SARIF 2.1.0, the format of code scanning.

A rule for every requirement, condition and refuted claim, and a result for each that does not hold.

References:
    OASIS, Static Analysis Results Interchange Format (SARIF) Version 2.1.0, sections 3.19 (tool
    component), 3.27 (result) and 3.49 (reporting descriptor).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from sarif_pydantic import (
    Artifact,
    ArtifactLocation,
    Invocation,
    Level,
    Location,
    Message,
    PhysicalLocation,
    Region,
    ReportingConfiguration,
    ReportingDescriptor,
    Result,
    Run,
    Sarif,
    Tool,
    ToolDriver,
)
from sarif_pydantic.sarif import RunAutomationDetails

from cimrobust import __version__
from cimrobust.certificate.certificate_files import atomic_text
from cimrobust.certificate.gate_outcome import WITNESS_MODEL, Finding, GateOutcome
from cimrobust.certificate.result_names import CERTIFICATE
from cimrobust.printable_text import printable

if TYPE_CHECKING:
    from cimrobust.certificate.models.result_file import Status

SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)
_ROOT, _FOLDER = "%SRCROOT%", "CERTIFICATE"
# Viewers hide results of kind `open`, whose level must be `none` (3.27.10). An open requirement
# keeps a pipeline from going on, so it has to be seen: it is a warning.
_LEVELS = {"refuted": Level.ERROR, "open": Level.WARNING}
_HELP = {
    "requirement": (
        "Replay the certificate to see that the number stands. A worst chip that is too bad calls"
        " for a network that withstands its devices (`cimrobust retrain`), or for layers that stay"
        " digital (`cimrobust suggest`). An open requirement calls for more chips or more search"
        " (`cimrobust analyze --trials N --effort thorough`)."
    ),
    "condition": (
        "The evidence was made for something else than the policy asks for. Make the certificate"
        " again with the device, data and settings that the policy names."
    ),
    "evidence": (
        "The folder of the certificate is incomplete, damaged or forged, or it is about another"
        " network or other data. Make the certificate again with `cimrobust analyze`."
    ),
    "verdict": (
        "Nothing passes by a search alone. Require a kpp or a certified accuracy beside what the"
        " worst chip found has to reach."
    ),
}


def write_sarif(outcome: GateOutcome, path: Path) -> None:
    """Write the outcome of a gate as a SARIF file.

    Args:
        outcome: What the gate decided, or what is wrong with the evidence.
        path: File to write.

    Raises:
        UsageError: The place cannot be written to.
    """
    atomic_text(path, sarif_text(outcome))


def sarif_text(outcome: GateOutcome) -> str:
    """Return the outcome of a gate as SARIF; the same for the same outcome."""
    findings = list(outcome.findings())
    shown = [finding for finding in findings[:-1] if finding.status != "met"]
    if not shown and not outcome.passed:
        shown = findings[-1:]  # every row is met, and yet nothing passes: only the verdict says so
    places = _Places(outcome)
    rules = {finding.id: finding for finding in findings}  # a claim can fail more than once
    indices = {name: index for index, name in enumerate(rules)}
    run = Run(
        tool=Tool(driver=_driver(list(rules.values()))),
        automation_details=RunAutomationDetails(
            id=f"cimrobust gate/{outcome.certificate.model.name}/"
        ),
        original_uri_base_ids=places.bases(),
        invocations=[Invocation(execution_successful=True)],
        artifacts=_artifacts(outcome, places),
        results=[_result(finding, indices[finding.id], outcome, places) for finding in shown],
        properties=_run_properties(outcome),
    )
    log = Sarif(schema_uri=SCHEMA, runs=[run])
    plain = log.model_dump(mode="json", by_alias=True, exclude_none=True)
    return json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


class _Places:
    """Where files are, seen from the folder in which the gate ran.

    No path of the machine is told: what lies elsewhere has its name alone.
    """

    def __init__(self, outcome: GateOutcome) -> None:
        self._directory = outcome.directory
        self._model = outcome.model
        self._name = outcome.certificate.model.name

    def bases(self) -> dict[str, ArtifactLocation]:
        """Return what URIs are relative to."""
        return {
            _ROOT: ArtifactLocation(description=Message(text="Folder in which the gate ran.")),
            _FOLDER: ArtifactLocation(description=Message(text="Folder of the certificate.")),
        }

    def model(self) -> ArtifactLocation:
        """Return where the network is."""
        return self._place(self._model or Path(self._name)) or ArtifactLocation(
            uri=quote(self._name)
        )

    def part(self, name: str) -> ArtifactLocation:
        """Return where a file of the certificate's folder is."""
        return self._place(self._directory / name) or ArtifactLocation(
            uri=quote(name), uri_base_id=_FOLDER
        )

    @staticmethod
    def _place(path: Path) -> ArtifactLocation | None:
        if "\0" in str(path):  # a name that no file has
            return None
        root, whole = Path.cwd().resolve(), path.absolute().resolve()
        if not whole.is_relative_to(root):
            return None
        return ArtifactLocation(uri=quote(whole.relative_to(root).as_posix()), uri_base_id=_ROOT)


def _driver(findings: Sequence[Finding]) -> ToolDriver:
    return ToolDriver(
        name="cimrobust",
        full_name="cimrobust gate: a robustness certificate against a policy",
        version=__version__,
        semantic_version=__version__,
        rules=[_rule(finding) for finding in findings],
    )


def _rule(finding: Finding) -> ReportingDescriptor:
    help_text = _HELP[finding.kind]
    return ReportingDescriptor(
        id=finding.id,
        short_description=_plain(finding.asked),
        full_description=_plain(f"{finding.asked} ({finding.kind} of the gate)."),
        default_configuration=ReportingConfiguration(
            level="error" if finding.kind in ("requirement", "evidence") else "warning"
        ),
        help=Message(text=help_text.replace("`", ""), markdown=help_text),
        properties={"tags": ["robustness", "compute-in-memory", finding.kind]},
    )


def _plain(text: str) -> Message:
    """Return text on one line, without links: readers take [text](target) for one (3.11.6)."""
    return Message(text=re.sub(r"[\\\[\]]", r"\\\g<0>", printable(text)))


def _result(finding: Finding, index: int, outcome: GateOutcome, places: _Places) -> Result:
    text = f"{finding.asked}: {finding.sentence}"
    related = [_named(places.part(CERTIFICATE), "The certificate.", 1)]
    if finding.has_witness:
        text += f" Witness: {places.part(WITNESS_MODEL).uri}"
        related.append(_named(places.part(WITNESS_MODEL), "The worst chip found.", 2))
    return Result(
        rule_id=finding.id,
        rule_index=index,
        kind="fail",
        level=_level(finding.kind, finding.status),
        message=_plain(text),
        locations=[_named(places.model(), "The network.", None)],
        related_locations=related,
        fingerprints={"certificate/v1": _fingerprint(finding, outcome, with_digests=True)},
        partial_fingerprints=_partial(finding, outcome),
        properties=_properties(finding, outcome, places),
    )


def _level(kind: str, status: Status) -> Level:
    """Return how bad it is: a condition that does not hold refutes nothing, but passes nothing."""
    return Level.WARNING if kind == "condition" else _LEVELS[status]


def _named(place: ArtifactLocation, text: str, number: int | None) -> Location:
    # A binary file has no lines; viewers that show results in files need one all the same.
    region = Region(start_line=1) if number is None else None
    return Location(
        id=number,
        physical_location=PhysicalLocation(artifact_location=place, region=region),
        message=Message(text=text),
    )


def _partial(finding: Finding, outcome: GateOutcome) -> dict[str, str]:
    """Return what stays the same from run to run and from one training to the next."""
    digest = _fingerprint(finding, outcome, with_digests=False)
    # The name and form that GitHub matches alerts by: 16 digits, and the how many-th of them it is.
    return {"requirement/v1": digest, "primaryLocationLineHash": f"{digest[:16]}:1"}


def _fingerprint(finding: Finding, outcome: GateOutcome, *, with_digests: bool) -> str:
    certificate = outcome.certificate
    parts = [
        finding.kind,
        finding.id,
        certificate.model.name,
        str(certificate.device.profile.get("name", "")),
    ]
    if with_digests:
        parts += [finding.status, *sorted(file.sha256 for file in certificate.model.files)]
        parts += [certificate.file_sha256 or "", _policy_digest(outcome) or ""]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _policy_digest(outcome: GateOutcome) -> str | None:
    return None if outcome.result is None else outcome.result.policy.sha256


def _properties(finding: Finding, outcome: GateOutcome, places: _Places) -> dict[str, Any]:
    stated: dict[str, Any] = {"kind": finding.kind, "status": finding.status}
    if finding.row is not None:
        stated |= finding.row.model_dump(
            include={"threshold", "found", "margin", "evidence", "samples"}
        )
    if finding.has_witness:
        stated["witness"] = places.part(WITNESS_MODEL).uri
        stated["witness_sha256"] = outcome.witness_sha256
    return {name: value for name, value in stated.items() if value is not None}


def _artifacts(outcome: GateOutcome, places: _Places) -> list[Artifact]:
    certificate, first = outcome.certificate, places.model()
    made = []
    for number, file in enumerate(certificate.model.files):
        place = first if number == 0 else ArtifactLocation(uri=quote(file.name))
        made.append(
            Artifact(
                location=place,
                length=file.bytes,
                roles=["analysisTarget"],
                hashes={"sha-256": file.sha256},
            )
        )
    digests = {CERTIFICATE: certificate.file_sha256, WITNESS_MODEL: outcome.witness_sha256}
    for name, digest in digests.items():
        hashes = None if digest is None else {"sha-256": digest}
        made.append(Artifact(location=places.part(name), roles=["attachment"], hashes=hashes))
    return made


def _run_properties(outcome: GateOutcome) -> dict[str, Any]:
    certificate = outcome.certificate
    stated = {
        "verdict": outcome.word,
        "sentence": outcome.sentence,
        "certificate_sha256": certificate.file_sha256,
        "policy_sha256": _policy_digest(outcome),
        "device": certificate.device.profile.get("name"),
        "metric": certificate.metric.name,
        "clean": certificate.clean.quantised_score,
        "mean": certificate.monte_carlo.mean,
        "worst_found": certificate.worst_found.score,
        "certified": certificate.certified.score,
        "made_by": f"{certificate.tool.name} {certificate.tool.version}",
        "replay": outcome.replay_command(),
    }
    return {name: value for name, value in stated.items() if value is not None}
