"""What a requirement is judged by, and what comes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from cimrobust.certificate.models import CertificateModel, Status, Strength
from cimrobust.certificate.policy_tables import CostTable
from cimrobust.montecarlo.trial_table import TrialTable

#: Fields of a row of a verdict that asks for no score.
NO_NUMBERS: Mapping[str, Any] = {
    "threshold": None,
    "found": None,
    "margin": None,
    "evidence": None,
    "samples": None,
}


@dataclass(frozen=True)
class Occasion:
    """What a certificate is judged beside.

    Attributes:
        today: Day that its age is counted to; None: the day on which it was issued.
        issued_after: Day after which it must have been issued; None: any.
        baseline: Certificate of the network in use, to compare with; None: none.
        no_worse_than: Score that may be lost against the baseline, beside what the policy says;
            None: nothing is added.
    """

    today: date | None = None
    issued_after: date | None = None
    baseline: CertificateModel | None = None
    no_worse_than: float | None = None


@dataclass(frozen=True)
class Case:
    """One certificate before the judge.

    Attributes:
        certificate: The certificate.
        trials: The drawn chips.
        cost: Costs of wrong decisions; None: 1 each.
        occasion: What it is judged beside.
    """

    certificate: CertificateModel
    trials: TrialTable
    cost: CostTable | None
    occasion: Occasion


@dataclass(frozen=True)
class Judged:
    """What comes of one requirement.

    Attributes:
        asked: What is required, in words.
        status: met, refuted or open.
        sentence: The evidence.
        found: Number that decides, in the unit of what is asked; None: there is none.
        evidence: How strong it is; None: there is none.
    """

    asked: str
    status: Status
    sentence: str
    found: float | None = None
    evidence: Strength | None = None


def capital(text: str) -> str:
    """Return a sentence with a capital letter in front."""
    return text[:1].upper() + text[1:]
