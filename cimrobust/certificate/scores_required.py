"""Requirements on one score: without deviation, of the worst chip found, certified."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from cimrobust.certificate.judging import Case, Judged, capital
from cimrobust.certificate.programmed import (
    programmed_correct,
    programmed_interval,
    programmed_score,
)
from cimrobust.certificate.wording import (
    counted,
    is_reached,
    on_samples,
    rule,
    score_name,
    shown,
    worst_chip,
)

if TYPE_CHECKING:
    from cimrobust.certificate.models import CertificateModel, SampleInterval, Status, Strength
    from cimrobust.certificate.policy_tables import RequireRow

BEYOND = "and beyond these samples"


def judge_clean(case: Case, row: RequireRow) -> Judged:
    """Judge the score without deviation, of the network that is programmed."""
    made = case.certificate
    score, file = programmed_score(made), made.clean.score
    through = (
        "quantised weights" if made.converters is None else "quantised weights, through converters"
    )
    found = counted(made, score, programmed_correct(made), made.clean.samples)
    whose = (
        f"{capital(score_name(made))}, without deviation, of the network that is programmed"
        f" ({through})"
    )
    sentence = (
        f"{whose} is {found} {on_samples(made)}; that of the model file is {shown(made, file)}."
    )
    status: Status = "met" if is_reached(made, score, row.threshold) else "refuted"
    asked = f"{score_name(made)}, without deviation, {rule(made, row.threshold)}"
    return _beyond(
        case, row, Judged(asked, status, sentence, score, "measured"), programmed_interval(made)
    )


def judge_worst_found(case: Case, row: RequireRow) -> Judged:
    """Judge the worst of all chips that were tried, searched for or drawn."""
    made, drawn = case.certificate, case.certificate.monte_carlo
    found, better = made.worst_found.score, made.metric.higher_is_better
    worst_drawn = drawn.min if better else drawn.max
    sentence = f"{worst_chip(made)}, replayed from its file."
    if not is_reached(made, worst_drawn, found):
        sentence += f" A drawn chip has {shown(made, worst_drawn)}."
    worst = min(found, worst_drawn) if better else max(found, worst_drawn)
    met = is_reached(made, worst, row.threshold)
    if met:
        sentence += " That refutes nothing, and proves nothing about chips that were not tried."
    asked = f"worst {score_name(made)} found {rule(made, row.threshold)}"
    return _beyond(
        case,
        row,
        Judged(asked, "met" if met else "refuted", sentence, worst, "searched"),
        "worst_found",
    )


def judge_certified(case: Case, row: RequireRow) -> Judged:
    """Judge what is proven of every chip within the tolerance."""
    made, proven = case.certificate, case.certificate.certified
    status: Status = "open"
    if proven.score is not None and is_reached(made, proven.score, row.threshold):
        status = "met"
    elif not is_reached(made, made.worst_found.score, row.threshold):
        status = "refuted"
    sentence = f"{_proven(made)} The worst chip found has {shown(made, made.worst_found.score)}."
    asked = f"certified {score_name(made)} {rule(made, row.threshold)}"
    # A chip that breaks the requirement decides, where there is one; else the proof, as far as it
    # goes.
    found = made.worst_found.score if status == "refuted" else proven.score
    evidence: Strength | None = (
        None if found is None else "searched" if status == "refuted" else "proved"
    )
    return _beyond(case, row, Judged(asked, status, sentence, found, evidence), "certified")


def _proven(made: CertificateModel) -> str:
    proven = made.certified
    if proven.score is None:
        return f"Nothing is proven ({proven.reason})."
    if made.metric.higher_is_better and proven.score == 0:
        return (
            "Proven of every chip within the tolerance: nothing; no decision is certified"
            f" {on_samples(made)}."
        )
    side = "at least" if made.metric.higher_is_better else "at most"
    score = counted(made, proven.score, proven.correct, proven.samples)
    return (
        f"Proven: every chip within the tolerance has {score_name(made)} {side} {score}"
        f" {on_samples(made)}."
    )


def _beyond(case: Case, row: RequireRow, these: Judged, name: str) -> Judged:
    """Return a judgement as asked.

    On these samples, or on the distribution that they were drawn from too.
    """
    if row.samples == "these":
        return replace(these, asked=f"{these.asked} {on_samples(case.certificate)}")
    asked = f"{these.asked} {on_samples(case.certificate)} {BEYOND}"
    stated = interval(case.certificate, name)
    if stated is None:
        reason = _not_stated(case.certificate, name)
        refuted = these.status == "refuted"
        sentence = f"{these.sentence} Beyond these samples nothing is stated: {reason}."
        return Judged(
            asked,
            these.status if refuted else "open",
            sentence,
            these.found if refuted else None,
            these.evidence if refuted else None,
        )
    # A sample interval is two-sided or, for a proof, one-sided; its lower end holds at least with
    # the stated confidence.
    held = is_reached(case.certificate, stated.low, row.threshold)
    status: Status = these.status if these.status != "met" or held else "open"
    confidence = 100 * case.certificate.evaluation_set.confidence
    bound = (
        f"Beyond these samples it is at least {shown(case.certificate, stated.low)} with"
        f" {confidence:g} % confidence"
    )
    sentence = f"{these.sentence} {bound}, if they were drawn independently."
    if these.status == "refuted":
        return Judged(asked, status, sentence, these.found, these.evidence)
    return Judged(asked, status, sentence, stated.low, "statistical")


def interval(made: CertificateModel, name: str) -> SampleInterval | None:
    """Return what the samples say of a score on the distribution they were drawn from.

    None: nothing.
    """
    return next((row for row in made.evaluation_set.intervals if row.name == name), None)


def _not_stated(made: CertificateModel, name: str) -> str:
    return next(
        (row.reason for row in made.evaluation_set.not_stated if row.name in (name, "all")),
        "the certificate has no interval of it",
    )
