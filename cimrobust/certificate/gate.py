"""A certificate at the gate before deployment: exit code, and JUnit XML for pipelines."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from junitparser import Error, Failure, JUnitXml, TestCase, TestSuite

from cimrobust.certificate.files import atomic_text
from cimrobust.certificate.models import RequirementResult, Verdict

EXIT_CODES = {"PASS_CERTIFIED": 0, "PASS_STATISTICAL": 0, "FAIL": 1, "INCONCLUSIVE": 3}


@dataclass(frozen=True)
class GateResult:
    """What a gate decided.

    Attributes:
        verdict: Word, sentence and requirements.
        witness: File of the worst chip found.
    """

    verdict: Verdict
    witness: str

    @property
    def exit_code(self) -> int:
        """0 passed, 1 failed, 3 inconclusive."""
        return EXIT_CODES[self.verdict.word]

    @property
    def word(self) -> str:
        """The verdict word."""
        return self.verdict.word

    @property
    def requirements(self) -> list[RequirementResult]:
        """Requirements in the order of the policy."""
        return self.verdict.requirements

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {"exit_code": self.exit_code, "witness": self.witness, **self.verdict.model_dump()}


def write_junit(result: GateResult, path: Path, *, model: str) -> None:
    """Write one test case a requirement, and one for the verdict; open requirements are errors, because pipelines take skipped ones for passed."""
    suite = TestSuite(f"cimrobust gate: {model}")
    for requirement in result.requirements:
        case = TestCase(requirement.id, classname="cimrobust.gate")
        text = f"{requirement.text}: {requirement.sentence}"
        if requirement.status == "refuted":
            case.result = [Failure(f"{text} Witness: {result.witness}", "refuted")]
        elif requirement.status == "open":
            case.result = [Error(text, "inconclusive")]
        suite.add_testcase(case)
    verdict = TestCase("verdict", classname="cimrobust.gate")
    if result.exit_code == 1:
        verdict.result = [Failure(result.verdict.sentence, result.word)]
    elif result.exit_code != 0:
        verdict.result = [Error(result.verdict.sentence, result.word)]
    suite.add_testcase(verdict)
    document = JUnitXml()
    document.add_testsuite(suite)
    document.update_statistics()  # type: ignore[no-untyped-call]
    text = document.tostring()  # type: ignore[no-untyped-call]
    atomic_text(path, text.decode("utf-8"))
