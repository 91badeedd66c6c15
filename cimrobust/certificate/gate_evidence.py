"""A certificate at the gate before deployment: its verdict, or what is wrong with its evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cimrobust.certificate.models import RequirementResult, Verdict
from cimrobust.certificate.named_digest import NamedDigest
from cimrobust.certificate.notebook_view import notebook_view, score_text
from cimrobust.errors import EvidenceRefutedError
from cimrobust.input_file import printable

EXIT_CODES = {"PASS_CERTIFIED": 0, "PASS_STATISTICAL": 0, "FAIL": 1, "INCONCLUSIVE": 3}
#: Word of a gate that refuses to judge, since the evidence does not hold.
EVIDENCE_REFUTED = "EVIDENCE_REFUTED"
_NAMED = 3


@dataclass(frozen=True)
class EvidenceProblem:
    """One claim that does not hold or was not checked, or a file that is missing.

    Attributes:
        id: Name of the claim.
        detail: What was found, or what is missing.
    """

    id: str
    detail: str

    def to_dict(self) -> dict[str, str]:
        """Return plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True, repr=False)
class GateResult:
    """What a gate decided.

    Attributes:
        verdict: Word, sentence and requirements.
        witness: File of the worst chip found.
        policy: File name and digest of the policy.
        certificate_sha256: Digest of certificate.json.
        manifest_sha256: Digest of manifest.json, which lists the digest of every file of the
            folder; None: there is none.
        not_checked: Claims that nothing was found against since nothing looked: what the verdict
            believes.
    """

    verdict: Verdict
    witness: str
    policy: NamedDigest
    certificate_sha256: str | None = None
    manifest_sha256: str | None = None
    not_checked: tuple[EvidenceProblem, ...] = ()

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
        """Requirements in the order of the policy, then its conditions."""
        return self.verdict.requirements

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "exit_code": self.exit_code,
            "witness": self.witness,
            "policy_file": self.policy.name,
            "policy_sha256": self.policy.sha256,
            "certificate_sha256": self.certificate_sha256,
            "manifest_sha256": self.manifest_sha256,
            "not_checked": [claim.to_dict() for claim in self.not_checked],
            **self.verdict.model_dump(),
        }

    def __repr__(self) -> str:
        """Say how the gate decided, in one line."""
        policy = printable(self.policy.name)
        return f"<GateResult: {self.word}, exit code {self.exit_code}, by {policy}>"

    def _repr_html_(self) -> str:
        """Show the verdict and every requirement in a notebook."""
        return notebook_view(
            f"{self.word}, exit code {self.exit_code}",
            [
                (row.id, row.status, score_text(row.threshold), score_text(row.found))
                for row in self.requirements
            ],
            columns=("requirement", "status", "asked", "found"),
            sentence=self.verdict.sentence,
        )


class EvidenceProblemsError(EvidenceRefutedError):
    """Evidence is missing or refuted; nothing was judged.

    Attributes:
        problems: What does not hold.
    """

    def __init__(self, problems: Sequence[EvidenceProblem], directory: str | Path) -> None:
        self.problems = tuple(problems)
        named = "; ".join(f"{problem.id}: {problem.detail}" for problem in self.problems[:_NAMED])
        more = f"; and {len(self.problems) - _NAMED} more" if len(self.problems) > _NAMED else ""
        super().__init__(
            f"evidence must be complete and hold before it is judged, got {named}{more}"
            f" ({directory}); make the certificate again"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "exit_code": self.exit_code,
            "word": EVIDENCE_REFUTED,
            "problems": [problem.to_dict() for problem in self.problems],
        }
