"""Self-checks, assumptions, verdict, and how to make it all again."""

from __future__ import annotations

from collections.abc import Mapping

from cimrobust.certificate.models.result_file import Reach, Status, Strength, Word
from cimrobust.records import Count, Record, Score, Seconds


class Check(Record):
    """One self-check of the run.

    `held` is null where it could not be made, and `detail` says why.
    """

    id: str
    """Stable name of the check."""
    text: str
    """What was checked."""
    held: bool | None
    """Whether it held; null: it could not be checked."""
    detail: str
    """What was compared."""


class Assumption(Record):
    """One assumption that the claims rest on."""

    id: str
    """Stable name of the assumption."""
    text: str
    """The assumption."""
    how_checked: str
    """How it was checked, if it was."""
    effect_if_false: str
    """What follows if it is wrong."""


class RequirementResult(Record):
    """One requirement of the policy."""

    id: str
    """Name of the requirement."""
    text: str
    """What is required."""
    status: Status
    """met, refuted or open."""
    sentence: str
    """The evidence, as a sentence with its numbers."""
    threshold: float | None
    """Number asked for, in the unit of what is judged; null: a condition, or before 1.6."""
    found: Score | None
    """Number that decides: a score, or the bound that is asked for; null: there is none."""
    margin: Score | None
    """Found minus asked, sign turned where lower is better; null: one of them is missing."""
    evidence: Strength | None
    """How strong `found` is: proved, statistical, searched (one chip) or measured; null: none."""
    samples: Reach | None
    """Whether it is asked on these samples, or beyond them too; null: not of samples."""


class Verdict(Record):
    """What the certificate says against the policy."""

    word: Word
    """PASS_CERTIFIED, PASS_STATISTICAL, FAIL or INCONCLUSIVE."""
    sentence: str
    """The verdict as a sentence."""
    requirements: list[RequirementResult]
    """Every requirement in the policy's order, then conditions (ids begin with `condition:`)."""


class Reproduce(Record):
    """How to make the certificate again, and how to check its witness without this tool."""

    command: str
    """Command that makes the certificate again."""
    python: str
    """The same in Python."""
    witness_check: str
    """Python that checks the witness without this tool."""


class Timings(Record):
    """Seconds by stage; differs from run to run, like `seconds` of the search members."""

    workers: Count
    """Threads."""
    total_seconds: Seconds
    """Sum over the stages, wall-clock seconds."""
    stages: dict[str, Seconds]
    """Wall-clock seconds by stage."""

    @classmethod
    def of(cls, workers: int, stages: Mapping[str, float]) -> Timings:
        """Return the timings of stages.

        Args:
            workers: Threads there were.
            stages: Wall-clock seconds by stage.
        """
        return cls(workers=workers, total_seconds=sum(stages.values()), stages=dict(stages))
