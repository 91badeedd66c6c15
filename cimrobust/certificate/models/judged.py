"""Self-checks, assumptions, verdict, and how to make it all again."""

from __future__ import annotations

from cimrobust.certificate.models.base import Block, Count, Status, Word


class Check(Block):
    """One self-check of the run; `held` is null where it could not be made, and `detail` says why."""

    id: str
    text: str
    held: bool | None
    detail: str


class Assumption(Block):
    """One assumption that the claims rest on."""

    id: str
    text: str
    how_checked: str
    effect_if_false: str


class RequirementResult(Block):
    """One requirement of the policy."""

    id: str
    text: str
    status: Status
    sentence: str


class Verdict(Block):
    """What the certificate says against the policy."""

    word: Word
    sentence: str
    requirements: list[RequirementResult]


class Reproduce(Block):
    """How to make the certificate again, and how to check its witness without this tool."""

    command: str
    python: str
    witness_check: str


class Timings(Block):
    """Seconds by stage; differs from run to run, like `seconds` of the search members."""

    workers: Count
    total_seconds: float
    stages: dict[str, float]
