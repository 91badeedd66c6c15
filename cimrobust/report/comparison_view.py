"""What changed against an earlier certificate.

What is the same, numbers side by side, and which requirement changed its state.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cimrobust.certificate.baseline_required import data_digests
from cimrobust.certificate.programmed import programmed_score
from cimrobust.certificate.wording import shown
from cimrobust.device.digest import digest_of_tables
from cimrobust.report.page_identity import Identity, of_certificate

if TYPE_CHECKING:
    from cimrobust.certificate.models import CertificateModel


@dataclass(frozen=True)
class ChangedNumber:
    """One number, then and now.

    Attributes:
        name: What it is of.
        before: As it was.
        now: As it is.
        change: The difference; empty: one of them is missing.
    """

    name: str
    before: str
    now: str
    change: str


@dataclass(frozen=True)
class Change:
    """What changed.

    Attributes:
        previous: The earlier document.
        word: Its verdict.
        same: What is the same.
        other: What is not.
        numbers: Scores side by side.
        requirements: Id, state then and state now of every requirement, where one of them has it.
    """

    previous: Identity
    word: str
    same: tuple[str, ...]
    other: tuple[str, ...]
    numbers: tuple[ChangedNumber, ...]
    requirements: tuple[tuple[str, str, str], ...]


def change(now: CertificateModel, before: CertificateModel) -> Change:
    """Return what changed from an earlier certificate to this one."""
    equal = {name: ours == theirs for name, ours, theirs in _grounds(now, before)}
    numbers = tuple(_numbers(now, before)) if now.metric.name == before.metric.name else ()
    states = [{row.id: row.status for row in made.verdict.requirements} for made in (before, now)]
    ids = dict.fromkeys([*states[1], *states[0]])
    return Change(
        previous=of_certificate(before),
        word=before.verdict.word.replace("_", " "),
        same=tuple(name for name, held in equal.items() if held),
        other=tuple(name for name, held in equal.items() if not held),
        numbers=numbers,
        requirements=tuple(
            (name, states[0].get(name, "not asked"), states[1].get(name, "not asked"))
            for name in ids
        ),
    )


def _grounds(
    now: CertificateModel, before: CertificateModel
) -> Iterator[tuple[str, object, object]]:
    yield (
        "network",
        [file.sha256 for file in now.model.files],
        [file.sha256 for file in before.model.files],
    )
    yield (
        "evaluation data",
        (data_digests(now), now.data.used),
        (data_digests(before), before.data.used),
    )
    yield "devices", digest_of_tables(now.device.profile), digest_of_tables(before.device.profile)
    yield "policy", now.policy, before.policy
    yield "metric", now.metric.name, before.metric.name
    yield "search effort", now.worst_found.effort, before.worst_found.effort
    yield "number of drawn chips", now.monte_carlo.trials, before.monte_carlo.trials
    yield "version of cimrobust", now.tool.version, before.tool.version


def _numbers(now: CertificateModel, before: CertificateModel) -> Iterator[ChangedNumber]:
    for name, ours, theirs in (
        ("Without deviation", programmed_score(now), programmed_score(before)),
        ("Average chip", now.monte_carlo.mean, before.monte_carlo.mean),
        ("Worst chip found", now.worst_found.score, before.worst_found.score),
        ("Certified bound", now.certified.score, before.certified.score),
    ):
        old, new = (("none" if value is None else shown(now, value)) for value in (theirs, ours))
        yield ChangedNumber(
            name,
            old,
            new,
            "" if ours is None or theirs is None else _difference(now, ours - theirs),
        )


def _difference(now: CertificateModel, value: float) -> str:
    return (
        f"{100 * value:+.2f} percentage points"
        if now.metric.name == "accuracy"
        else f"{value:+.4g}"
    )
