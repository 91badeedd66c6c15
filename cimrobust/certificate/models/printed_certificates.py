"""What `analyze`, `demo`, `gate`, `replay`, `rare`, `sweep` and `retrain` print with `--json`."""

from __future__ import annotations

from typing import Literal

from cimrobust.certificate.models.chips import RareEvent
from cimrobust.certificate.models.judged import RequirementResult
from cimrobust.certificate.models.listed import Sha256
from cimrobust.certificate.models.printed_base import Printed, PrintedList
from cimrobust.certificate.models.result_file import Word
from cimrobust.records import Count, Fraction, Record


class SummaryKpp(Record):
    """One percentile of drawn chips."""

    k: float
    """Percent of chips that may be worse."""
    score: float
    """Score that the others reach."""
    lower_bound: float | None
    """Bound of it; null: too few chips were drawn."""
    confidence: Fraction
    """Confidence of the bound."""


class SummaryClass(Record):
    """Recall of the safety class on the worst chip found for it."""

    label: int
    """Class."""
    recall: float
    """Share of its samples that this chip finds."""
    correct: Count
    """Their number."""
    samples: Count
    """Samples of the class."""


class AnalyzeOutput(Printed):
    """What `analyze` and `demo` print with `--json`: the numbers of a certificate."""

    NAME = "analyze-output"

    verdict: Word
    """The verdict in one word."""
    metric: str
    """What scores are."""
    clean: float
    """Score of the model file."""
    quantised: float | None
    """Score of the programmed network without deviation."""
    mean: float
    """Average over drawn chips."""
    kpp: list[SummaryKpp]
    """Percentiles of drawn chips."""
    worst_found: float
    """Score of the worst chip found."""
    certified: float | None
    """Score that is proven for every chip; null: no bound."""
    safety_class: SummaryClass | None
    """The safety class; null: none was named."""
    certificate: str
    """File of the certificate."""
    html: str
    """File of the report."""
    witness: str
    """File of the worst chip found."""
    warnings: list[str]
    """What a reader has to know."""


class ClaimUnchecked(Record):
    """One claim that a gate did not check."""

    id: str
    """Name of the claim."""
    detail: str
    """What is missing to check it."""


class GateOutput(Printed):
    """What `gate` prints with `--json` where it judges."""

    NAME = "gate-output"
    VERSION = "1.1"

    exit_code: Literal[0, 1, 3]
    """0 passed, 1 failed, 3 inconclusive."""
    witness: str
    """File of the worst chip found, in the folder of the certificate."""
    policy_file: str
    """Name of the policy file."""
    policy_sha256: Sha256
    """SHA-256 of the policy file."""
    certificate_sha256: Sha256
    """SHA-256 of certificate.json."""
    manifest_sha256: Sha256 | None
    """SHA-256 of manifest.json, which lists every file; null: the folder has none."""
    not_checked: list[ClaimUnchecked]
    """Claims that the verdict believes, as nothing was there to check them by."""
    word: Word
    """The verdict in one word."""
    sentence: str
    """The verdict as a sentence."""
    requirements: list[RequirementResult]
    """Every requirement in the policy's order, then conditions."""


class ClaimProblem(Record):
    """One claim that does not hold, or a file that is missing."""

    id: str
    """Name of the claim."""
    detail: str
    """What was found."""


class GateRefusedOutput(Printed):
    """What `gate` prints with `--json` where evidence is missing or refuted (exit code 6)."""

    NAME = "gate-refused-output"

    exit_code: Literal[6]
    """Always 6."""
    word: Literal["EVIDENCE_REFUTED"]
    """Always EVIDENCE_REFUTED: nothing was judged."""
    problems: list[ClaimProblem]
    """Every claim that does not hold."""


class ReplayedClaim(Record):
    """One claim, derived again."""

    id: str
    """Name of the claim."""
    held: bool | None
    """Whether it holds; null: not checked."""
    detail: str
    """What was compared, or what is missing."""


class ReplayOutput(PrintedList):
    """What `replay` prints with `--json`: every claim, derived again."""

    NAME = "replay-output"
    ITEM = ReplayedClaim


class RareOutput(RareEvent, Printed):
    """What `rare` prints with `--json`: how likely a chip is that misses a score."""

    NAME = "rare-output"


class SweepSummaryPoint(Record):
    """One tolerance."""

    tolerance: float
    """Write-verify tolerance, fraction of the conductance range."""
    worst_found: float
    """Score of the worst chip found."""
    mean: float
    """Average over drawn chips."""
    kpp_bound: float | None
    """Bound of the first percentile; null: too few chips were drawn."""
    certified: float | None
    """Score that is proven for every chip; null: no bound."""


class SweepOutput(Printed):
    """What `sweep` prints with `--json`: the numbers of a sweep."""

    NAME = "sweep-output"

    metric: str
    """What scores are."""
    clean: float
    """Score of the model file."""
    points: list[SweepSummaryPoint]
    """Every tolerance, ascending."""
    required: float | None
    """Score that was asked for; null: none."""
    largest_safe_tolerance: dict[str, float | None] | None
    """Largest tolerance that meets it by kind of claim (null: none does); null: not asked."""
    sweep: str
    """File of the sweep."""
    html: str
    """File of the report."""
    warnings: list[str]
    """What a reader has to know."""


class RetrainSummaryPart(Record):
    """Scores of one network; null: its certificate states none."""

    clean: float | None
    """Score of the file."""
    quantised: float | None
    """Score of the programmed network without deviation."""
    mean: float | None
    """Average over drawn chips."""
    worst_found: float | None
    """Score of the worst chip found."""
    certified: float | None
    """Score that is proven for every chip."""


class RetrainOutput(Printed):
    """What `retrain` prints with `--json`: scores before and after."""

    NAME = "retrain-output"

    method: str
    """Method of training."""
    before: RetrainSummaryPart | None
    """The network that was given."""
    control: RetrainSummaryPart | None
    """The control that was trained as long without deviations; null: none."""
    after: RetrainSummaryPart | None
    """The new network."""
    model: str
    """File of the new network."""
    html: str
    """File of the report."""
