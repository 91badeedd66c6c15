"""The result of a gate as JUnit XML.

One test case a requirement, with its evidence whether it is met or not. Times are those of the run
that made the evidence, which the certificate states: judging it takes next to none.

Elements and attributes are those that Jenkins accepts (jenkinsci/xunit-plugin, junit-10.xsd), which
knows no skipped cases of a whole file, and no properties of a case: they stand with the suite.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from junitparser import Error, Failure, JUnitXml, TestCase, TestSuite

from cimrobust.certificate.certificate_files import atomic_text
from cimrobust.certificate.gate_evidence import EVIDENCE_REFUTED, EvidenceProblem, GateResult
from cimrobust.certificate.policy_tables import CONDITION
from cimrobust.printable_text import printable, printable_lines

if TYPE_CHECKING:
    from cimrobust.certificate.models import CertificateModel, RequirementResult

_CLASS = "cimrobust.gate"
# Stage of the run that made each strength of evidence.
_STAGES = {
    "proved": "certify",
    "statistical": "monte_carlo",
    "searched": "search",
    "measured": "load",
}
_STATED = ("threshold", "found", "margin", "evidence", "samples")


def write_junit(result: GateResult, path: Path, *, certificate: CertificateModel) -> None:
    """Write one test case a requirement, and one for the verdict.

    Open requirements are errors, because pipelines take skipped ones for passed.

    Args:
        result: What the gate decided.
        path: File to write.
        certificate: What it decided on.
    """
    stages = certificate.timings.stages
    cases = []
    for requirement in result.requirements:
        case = _requirement_case(requirement, result.witness)
        case.time = _seconds(stages.get(_STAGES.get(requirement.evidence or "", ""), 0.0))
        cases.append(case)
    verdict = TestCase("verdict", classname=_CLASS, time=0.0)
    verdict.system_out = f"{result.verdict.sentence}\nWorst chip found: {result.witness}"
    if result.exit_code == 1:
        verdict.result = [Failure(result.verdict.sentence, result.word)]
    elif result.exit_code != 0:
        verdict.result = [Error(result.verdict.sentence, result.word)]
    properties = {
        "verdict": result.word,
        "policy.file": result.policy.name,
        "policy.sha256": result.policy.sha256,
        "certificate.sha256": result.certificate_sha256 or "",
        "manifest.sha256": result.manifest_sha256 or "",
        "not_checked": ", ".join(claim.id for claim in result.not_checked),
    }
    for requirement in result.requirements:
        properties |= _requirement_properties(requirement)
    _write([*cases, verdict], path, certificate, properties)


def write_evidence_junit(
    problems: Sequence[EvidenceProblem], path: Path, *, certificate: CertificateModel
) -> None:
    """Write one error a claim that does not hold, and one for the verdict that there is none of.

    Args:
        problems: Claims that do not hold.
        path: File to write.
        certificate: Whose claims they are.
    """
    cases = []
    for problem in problems:
        case = TestCase(f"evidence: {problem.id}", classname=_CLASS, time=0.0)
        case.result = [Error(problem.detail, "evidence")]
        cases.append(case)
    verdict = TestCase("verdict", classname=_CLASS, time=0.0)
    verdict.result = [
        Error("Evidence is missing or refuted, so nothing was judged.", EVIDENCE_REFUTED)
    ]
    _write([*cases, verdict], path, certificate, {"verdict": EVIDENCE_REFUTED})


def _requirement_case(requirement: RequirementResult, witness: str) -> TestCase:
    case = TestCase(requirement.id, classname=_CLASS)
    text = f"{requirement.text}: {requirement.sentence}"
    numbers = [
        f"{name}: {value}" for name in _STATED if (value := getattr(requirement, name)) is not None
    ]
    case.system_out = "\n".join([text, f"status: {requirement.status}", *numbers])
    if requirement.id.startswith(CONDITION) and requirement.status != "met":
        case.result = [
            Error(text, "condition")
        ]  # no chip refutes a condition, so there is no failure and no witness
    elif requirement.status == "refuted":
        case.result = [Failure(f"{text} Witness: {witness}", "refuted")]
    elif requirement.status == "open":
        case.result = [Error(text, "inconclusive")]
    return case


def _requirement_properties(requirement: RequirementResult) -> dict[str, str]:
    stated = requirement.model_dump(include={"status", *_STATED})
    name = f"requirement.{requirement.id}"
    return {f"{name}.{key}": "" if value is None else str(value) for key, value in stated.items()}


def _seconds(seconds: float) -> float:
    """Return seconds without an exponent, which Jenkins refuses."""
    return round(seconds, 3)


def _properties(certificate: CertificateModel) -> dict[str, str]:
    """Return what identifies the evidence.

    A file of a network that consists of several has one digest each.
    """
    stated = {
        "tool": f"{certificate.tool.name} {certificate.tool.version}",
        "issued": certificate.issued or "",
        "device": str(certificate.device.profile.get("name", "")),
        "tolerance_fraction": repr(certificate.device.tolerance_fraction),
        "samples": str(certificate.data.used),
        "trials": str(certificate.monte_carlo.trials),
        "score.clean": _text(certificate.clean.quantised_score),
        "score.mean": _text(certificate.monte_carlo.mean),
        "score.worst_found": _text(certificate.worst_found.score),
        "score.certified": _text(certificate.certified.score),
        "effort": certificate.worst_found.effort,
        **{f"model.{file.name}.sha256": file.sha256 for file in certificate.model.files},
        **{f"data.{name}.sha256": digest for name, digest in certificate.data.files.items()},
    }
    return {name: value for name, value in stated.items() if value}


def _text(score: float | None) -> str:
    return "" if score is None else repr(score)


def _write(
    cases: Iterable[TestCase], path: Path, certificate: CertificateModel, properties: dict[str, str]
) -> None:
    suite = TestSuite(f"cimrobust gate: {certificate.model.name}")
    for name, value in {**_properties(certificate), **properties}.items():
        if value:
            suite.add_property(name, value)
    for case in cases:
        suite.add_testcase(case)
    document = JUnitXml()
    document.add_testsuite(suite)
    document.update_statistics()  # type: ignore[no-untyped-call]
    document._elem.attrib.pop("skipped", None)
    for element in document._elem.iter():
        # Names are somebody else's, and XML has no form of some characters.
        for name, value in element.attrib.items():
            element.set(name, printable(value))
        element.text = None if element.text is None else printable_lines(element.text)
    # Not the sum over the cases: several requirements can rest on one stage of the run.
    suite.time = document.time = _seconds(certificate.timings.total_seconds)
    text = document.tostring()  # type: ignore[no-untyped-call]
    atomic_text(path, text.decode("utf-8"))
