"""A certificate's numbers against a policy.

Three statuses a requirement can have: *met*, *refuted* (by an attack, by the statistics or by a
measurement), and *open*. A search proves nothing about chips it did not try, so a worst-found
requirement that holds is met as written but can pass no network: a pass is certified, or
statistical if the policy asked for it.

Conditions say when evidence counts at all. One that does not hold keeps every certificate from
passing, since the evidence was made for something else. A refuted requirement fails all the same:
the chip that refutes it exists, whatever else was asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from cimrobust.certificate.baseline_required import judge_baseline
from cimrobust.certificate.conditions import judge_conditions
from cimrobust.certificate.cost_required import judge_cost
from cimrobust.certificate.judging import NO_NUMBERS, Case, Judged, Occasion, capital
from cimrobust.certificate.models import CertificateModel, RequirementResult, Verdict, Word
from cimrobust.certificate.percentile_required import judge_percentile
from cimrobust.certificate.policy_tables import CONDITION, RequireRow
from cimrobust.certificate.safety_requirement import judge_safety_class
from cimrobust.certificate.scores_required import (
    interval,
    judge_certified,
    judge_clean,
    judge_worst_found,
)
from cimrobust.certificate.search_depth import effort_in_words, reaches
from cimrobust.certificate.vacuous import asks_nothing_here
from cimrobust.certificate.wording import counted, on_samples, score_name, shown, worst_chip

if TYPE_CHECKING:
    from cimrobust.certificate.policy import Policy
    from cimrobust.montecarlo.trial_table import TrialTable

NO_POLICY = (
    "No requirement was given, so nothing is passed or failed; name a policy to get a verdict."
)
NOTHING_UNTRIED = (
    "Nothing refutes the policy, but nothing in it is about chips that were not tried; require a"
    " kpp or a certified accuracy to pass."
)
_BASELINE = "no_worse_than_baseline"
_JUDGES: Mapping[str, Callable[[Case, RequireRow], Judged]] = {
    "clean_accuracy": judge_clean,
    "worst_found_accuracy": judge_worst_found,
    "certified_accuracy": judge_certified,
    "kpp": judge_percentile,
    "safety_class": judge_safety_class,
    "cost": judge_cost,
    _BASELINE: judge_baseline,
}
# Requirements that the worst chip found can refute.
_ABOUT_WORST = {"worst_found_accuracy", "certified_accuracy", "cost", _BASELINE}
# Requirements that less is better for, whatever the metric.
_LOWER_IS_BETTER = {"cost", _BASELINE}
_ALONE = Occasion()


def judge(
    certificate: CertificateModel,
    policy: Policy | None,
    trials: TrialTable,
    occasion: Occasion = _ALONE,
) -> Verdict:
    """Judge a certificate.

    Args:
        certificate: Its `verdict` and `policy` are not looked at.
        policy: What is required; None: nothing.
        trials: The drawn chips.
        occasion: What it is judged beside: day, baseline.

    Returns:
        ``FAIL`` if a requirement is refuted; ``INCONCLUSIVE`` if a condition does not hold, a
        requirement is open, or none of them says anything about chips
        that were not tried; else ``PASS_CERTIFIED`` if a certified requirement is met,
        ``PASS_STATISTICAL`` if a percentile requirement is.
    """
    if policy is None:
        return Verdict(word="INCONCLUSIVE", sentence=NO_POLICY, requirements=[])
    rows = _asked(policy, occasion)
    case = Case(certificate, trials, policy.cost, occasion)
    results = [_judged(case, row) for row in rows]
    if policy.effort is not None:
        results.append(_effort(certificate, policy.effort))
    conditions = judge_conditions(certificate, policy.conditions, occasion)
    word, sentence = _word(certificate, rows, results, conditions)
    return Verdict(word=word, sentence=sentence, requirements=[*results, *conditions])


def _asked(policy: Policy, occasion: Occasion) -> list[RequireRow]:
    """Return the requirements of the policy and the one that the occasion adds."""
    rows = list(policy.rows)
    if occasion.no_worse_than is not None:
        taken = {row.id for row in rows}
        name = next(
            name
            for name in (
                _BASELINE,
                *(f"{_BASELINE}#{number}" for number in range(2, len(rows) + 3)),
            )
            if name not in taken
        )
        rows.append(RequireRow(id=name, no_worse_than_baseline=occasion.no_worse_than))
    return rows


def _judged(case: Case, row: RequireRow) -> RequirementResult:
    judged = _JUDGES[row.kind](case, row)
    text = capital(judged.asked) if row.text is None else f"{row.text} ({judged.asked})"
    nothing = asks_nothing_here(row, case.cost, case.certificate, case.occasion.baseline)
    if nothing:
        judged = replace(
            judged,
            status="open",
            sentence=f"This asks for nothing: {nothing}. What holds anyway passes nothing.",
        )
    return RequirementResult(
        id=row.id,
        text=text,
        status=judged.status,
        sentence=judged.sentence,
        threshold=row.threshold,
        found=judged.found,
        margin=None if judged.found is None else _margin(case, row, judged.found),
        evidence=judged.evidence,
        samples=row.samples,
    )


def _margin(case: Case, row: RequireRow, found: float) -> float:
    """Return by how much a requirement is kept, negative where it is missed."""
    lower = row.kind in _LOWER_IS_BETTER or (
        row.kind != "safety_class" and not case.certificate.metric.higher_is_better
    )
    return row.threshold - found if lower else found - row.threshold


def _word(
    certificate: CertificateModel,
    rows: list[RequireRow],
    results: list[RequirementResult],
    conditions: list[RequirementResult],
) -> tuple[Word, str]:
    refuted = [result for result in results if result.status == "refuted"]
    undecided = [result.id for result in results if result.status == "open"]
    elsewhere = [result for result in conditions if result.status != "met"]
    if refuted:
        besides = f" Besides, {_elsewhere(elsewhere)}" if elsewhere else ""
        return (
            "FAIL",
            (
                f"Refuted: {', '.join(result.id for result in refuted)}."
                f" {refuted[0].sentence}{besides}"
            ),
        )
    if elsewhere:
        return "INCONCLUSIVE", f"It passes nothing, since {_elsewhere(elsewhere)}"
    if undecided:
        return "INCONCLUSIVE", f"Neither confirmed nor refuted: {', '.join(undecided)}."
    kinds = {row.kind for row in rows}
    if "certified_accuracy" in kinds:
        return (
            "PASS_CERTIFIED",
            f"Every requirement is met. {_certified(certificate)} {_worst(certificate, kinds)}",
        )
    if "kpp" in kinds:
        where = (
            on_samples(certificate)
            if any(row.kind == "kpp" and row.samples == "these" for row in rows)
            else "on these samples and beyond them"
        )
        return (
            "PASS_STATISTICAL",
            (
                "Every requirement is met, the percentile with the stated confidence for chips"
                f" drawn as stated, {where}. {_worst(certificate, kinds)}"
            ),
        )
    return "INCONCLUSIVE", NOTHING_UNTRIED


def _elsewhere(conditions: list[RequirementResult]) -> str:
    """Say which conditions do not hold, as the end of a sentence."""
    named = ", ".join(result.id.removeprefix(CONDITION) for result in conditions)
    return (
        f"the evidence was made for something else than the policy's conditions: {named}."
        f" {conditions[0].sentence}"
    )


def _certified(made: CertificateModel) -> str:
    """Say what is proven, on these samples and beyond them."""
    proven, beyond = made.certified, interval(made, "certified")
    assert proven.score is not None, "a requirement on it is met"
    side = "at least" if made.metric.higher_is_better else "at most"
    score = counted(made, proven.score, proven.correct, proven.samples)
    said = (
        f"Proven: every chip within the tolerance has {score_name(made)} {side} {score}"
        f" {on_samples(made)}"
    )
    if beyond is None:
        return f"{said}; beyond them nothing is stated."
    return (
        f"{said}; beyond them at least {shown(made, beyond.low)} with"
        f" {100 * made.evaluation_set.confidence:g} % confidence."
    )


def _worst(made: CertificateModel, kinds: set[str]) -> str:
    """Name the worst chip found: a pass must not hide it."""
    return f"{worst_chip(made)}{'' if kinds & _ABOUT_WORST else '; no requirement asks about it'}."


def _effort(certificate: CertificateModel, least: str) -> RequirementResult:
    """Judge the effort that the older form of a policy requires.

    With too little of it a certificate fails.
    """
    return RequirementResult(
        id="effort",
        text=f"Search effort at least {least}",
        status="met" if reaches(certificate, least) else "refuted",
        sentence=f"The certificate was made with effort {effort_in_words(certificate)}.",
        **NO_NUMBERS,
    )
