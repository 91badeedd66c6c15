"""A requirement on a percentile of the drawn chips, on these samples or beyond them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cimrobust.certificate.judging import Case, Judged
from cimrobust.certificate.scores_required import BEYOND
from cimrobust.certificate.wording import is_reached, on_samples, rule, score_name, shown
from cimrobust.montecarlo.trial_table import TrialTable, failure_rate
from cimrobust.montecarlo.trial_table import kpp as percentile
from cimrobust.montecarlo.two_source import two_source_bound

if TYPE_CHECKING:
    from cimrobust.certificate.models import CertificateModel, Status
    from cimrobust.certificate.policy_tables import KppRequirement, RequireRow


def judge_percentile(case: Case, row: RequireRow) -> Judged:
    """Judge a percentile by its bound: met with the confidence asked for, refuted with the same."""
    required, made, trials = row.kpp, case.certificate, case.trials
    assert required is not None
    kpp = percentile(trials, required.k, required.confidence)
    rate = failure_rate(trials, required.accuracy, required.confidence, aim=required.k / 100)
    status: Status = "open"
    if kpp.bound is not None and is_reached(made, kpp.bound, required.accuracy):
        status = "met"
    elif rate.lower > required.k / 100:
        status = "refuted"
    percent = f"{100 * required.confidence:g} %"
    bound = (
        f"no bound exists with {kpp.num_trials} trials, {kpp.needed_trials} are needed"
        if kpp.bound is None
        else f"its bound at {percent} confidence is {shown(made, kpp.bound)}"
    )
    sentence = (
        f"KPP {required.k:g} % of {kpp.num_trials} drawn chips is {shown(made, kpp.score)};"
        f" {bound}, {on_samples(made)}."
    )
    asked = (
        f"KPP {required.k:g} % of {score_name(made)} {rule(made, required.accuracy)} at {percent}"
        f" confidence {on_samples(made)}"
    )
    if row.samples == "these":
        found = kpp.score if status == "refuted" else kpp.bound
        return Judged(asked, status, sentence, found, None if found is None else "statistical")
    bound_beyond, said = _beyond(made, trials, required)
    held = bound_beyond is not None and is_reached(made, bound_beyond, required.accuracy)
    found = kpp.score if status == "refuted" else bound_beyond
    status = status if status != "met" or held else "open"
    return Judged(
        f"{asked} {BEYOND}",
        status,
        f"{sentence} {said}",
        found,
        None if found is None else "statistical",
    )


def _beyond(
    made: CertificateModel, trials: TrialTable, required: KppRequirement
) -> tuple[float | None, str]:
    """Return the bound for chips and samples both drawn, if any, and the bound as a sentence."""
    if trials.count is None:
        return (
            None,
            (
                "Beyond these samples nothing is stated: an error has no upper limit, so samples"
                " alone bound nothing without assumptions."
            ),
        )
    both = two_source_bound(
        trials.value,
        num_decisions=trials.num_samples,
        num_inputs=made.data.used,
        most=made.evaluation_set.most_decisions,
        k=required.k,
        confidence=required.confidence,
        is_sequential=trials.is_sequential,
    )
    if both.bound is None:
        return (
            None,
            (
                f"Beyond these samples no bound exists with {both.num_trials} trials,"
                f" {both.needed_trials} are needed."
            ),
        )
    said = (
        f"Beyond these samples its bound is {shown(made, both.bound)} with"
        f" {100 * both.confidence:g} % confidence, if they were drawn independently."
    )
    return both.bound, said
