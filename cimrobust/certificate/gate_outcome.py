"""What a gate looked at and what came of it: all that its reports are made from."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from cimrobust.certificate.gate_evidence import EVIDENCE_REFUTED, EvidenceProblem, GateResult
from cimrobust.certificate.models import CertificateModel, RequirementResult
from cimrobust.certificate.named_digest import NamedDigest
from cimrobust.certificate.policy_tables import CONDITION
from cimrobust.certificate.result_names import WITNESS
from cimrobust.files import stated_place

#: File of the worst chip found, in the folder of a certificate.
WITNESS_MODEL = f"{WITNESS}/worst_case.onnx"

Kind = Literal["requirement", "condition", "evidence", "verdict"]


@dataclass(frozen=True)
class Finding:
    """One thing that a gate looked at.

    Attributes:
        id: Name of the requirement, of the condition or of the claim.
        kind: requirement, condition, evidence (a claim that does not hold), or verdict.
        asked: What is asked.
        status: met, refuted or open; of evidence always refuted.
        sentence: What was found.
        row: The row of the verdict; None: a claim, or the verdict itself.
    """

    id: str
    kind: Kind
    asked: str
    status: Literal["met", "refuted", "open"]
    sentence: str
    row: RequirementResult | None = None

    @property
    def has_witness(self) -> bool:
        """Whether it is refuted and a chip can do that: not a condition, a claim or an effort."""
        return self.status == "refuted" and self.row is not None and self.row.evidence is not None


@dataclass(frozen=True)
class GateOutcome:
    """What a gate looked at and what came of it.

    Attributes:
        certificate: What was judged.
        directory: Its folder.
        result: The verdict; None: the evidence does not hold, so that nothing was judged.
        problems: Claims that do not hold; empty where there is a verdict.
        model: File of the network that is to be deployed; None: it was not given.
        data: Its evaluation data; None: they were not given.
        command: What asked for the reports.
    """

    certificate: CertificateModel
    directory: Path
    result: GateResult | None
    problems: tuple[EvidenceProblem, ...] = ()
    model: Path | None = None
    data: str | None = None
    command: Literal["gate", "analyze"] = "gate"

    @classmethod
    def of_analysis(
        cls, certificate: CertificateModel, directory: Path, *, model: Path, data: str
    ) -> Self:
        """Return what an analysis itself decided, by its own policy if it had one.

        Args:
            certificate: As it was read from its folder.
            directory: The folder.
            model: The network that was analysed.
            data: Its evaluation data.
        """
        policy = NamedDigest(certificate.policy_file or "", certificate.policy_sha256 or "")
        result = GateResult(
            certificate.verdict,
            witness=WITNESS_MODEL,
            policy=policy,
            certificate_sha256=certificate.file_sha256,
        )
        return cls(certificate, directory, result, model=model, data=data, command="analyze")

    @property
    def word(self) -> str:
        """The verdict in one word."""
        return EVIDENCE_REFUTED if self.result is None else self.result.word

    @property
    def passed(self) -> bool:
        """Whether a pipeline may go on."""
        return self.result is not None and self.result.exit_code == 0

    @property
    def sentence(self) -> str:
        """The verdict as a sentence."""
        if self.result is None:
            return "Evidence is missing or refuted, so nothing was judged."
        return self.result.verdict.sentence

    @property
    def witness(self) -> Path:
        """File of the worst chip found."""
        return self.directory / WITNESS_MODEL

    @property
    def witness_sha256(self) -> str | None:
        """Digest of that file, as the certificate states it; None: it does not."""
        return self.certificate.worst_found.witness.get(WITNESS_MODEL)

    def findings(self) -> Iterator[Finding]:
        """Yield all that was looked at, in the order of the policy; the verdict is the last."""
        for problem in self.problems:
            yield Finding(
                problem.id,
                "evidence",
                f"The certificate's files must bear out the claim '{problem.id}'",
                "refuted",
                problem.detail,
            )
        for row in [] if self.result is None else self.result.requirements:
            kind: Kind = "condition" if row.id.startswith(CONDITION) else "requirement"
            yield Finding(row.id, kind, row.text, row.status, row.sentence, row)
        yield Finding(
            "verdict",
            "verdict",
            "The certificate must pass the policy",
            "met" if self.passed else "refuted" if self.word == "FAIL" else "open",
            self.sentence,
        )

    def replay_command(self) -> str:
        """Return the command that derives the certificate's claims again."""
        words = ["cimrobust", "replay", str(self.directory)]
        model = self.certificate.model.name if self.model is None else stated_place(self.model)
        data = self.certificate.data.description if self.data is None else stated_place(self.data)
        words += ["--model", model, "--data", data]
        return shlex.join(words)
