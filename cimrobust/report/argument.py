"""The argument from a requirement to its evidence.

Claim, strategy, evidence, assumptions, and what could defeat it.
"""

from __future__ import annotations

from dataclasses import dataclass

from cimrobust.certificate.models import CertificateModel, RequirementResult
from cimrobust.certificate.policy import Policy
from cimrobust.certificate.policy_tables import CONDITION


@dataclass(frozen=True)
class Step:
    """How a requirement is argued.

    Attributes:
        row: The requirement.
        path: Where it stands in the JSON.
        strategy: How it is decided.
        block: Block of the JSON that holds the evidence, and the section of the page that shows it.
        section: Anchor of that section.
        defeater: What would make the argument fail although the numbers are right.
    """

    row: RequirementResult
    path: str
    strategy: str
    block: str
    section: str
    defeater: str


_INPUTS = "inputs in use that are unlike the samples"
_STRATEGIES = {
    "measured": (
        "Run the programmed network on the samples, without deviation.",
        "clean",
        "sure",
        _INPUTS,
    ),
    "searched": (
        (
            "Search for the worst chip inside the tolerance, and run what was found again from its"
            " file."
        ),
        "worst_found",
        "attack",
        "a worse chip that no search found; it can only lower the score",
    ),
    "statistical": (
        "Draw chips from the device profile, and bound the percentile by order statistics.",
        "monte_carlo",
        "statistics",
        f"devices that are not as the profile draws them; {_INPUTS}",
    ),
    "proved": (
        "Bound the network for all chips of the tolerance box at once.",
        "certified",
        "certified",
        "a device outside of its tolerance",
    ),
}
_OPEN = (
    "No evidence decides it.",
    "verdict",
    "remedies",
    "it is open: see what would change the verdict",
)


def steps(certificate: CertificateModel) -> list[Step]:
    """Return the argument of every requirement that is no condition."""
    return [
        Step(
            row,
            f"verdict.requirements.{index}",
            *_OPEN if row.evidence is None else _STRATEGIES[row.evidence],
        )
        for index, row in enumerate(certificate.verdict.requirements)
        if not row.id.startswith(CONDITION)
    ]


def kinds(certificate: CertificateModel) -> dict[str, str]:
    """Return how the numbers of requirements are shown that are no scores, by id.

    Costs as they are, recalls in percent.
    """
    if certificate.policy is None:
        return {}
    shown = {"cost": "plain", "safety_class": "percent"}
    return {
        row.id: shown[row.kind]
        for row in Policy.model_validate(certificate.policy).rows
        if row.kind in shown
    }


def conditions(certificate: CertificateModel) -> list[RequirementResult]:
    """Return the conditions under which the evidence counts."""
    return [row for row in certificate.verdict.requirements if row.id.startswith(CONDITION)]
