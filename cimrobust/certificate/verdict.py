"""A certificate's numbers against a policy.

Three statuses a requirement can have: *met*, *refuted* (by an attack, by the statistics or by a measurement), and *open*. A search proves nothing about chips it
did not try, so a worst-found requirement that holds is met as written but can pass no network: a pass is certified, or statistical if the policy asked for it.
"""

from __future__ import annotations

from collections.abc import Callable

from cimrobust.certificate.models import CertificateModel, RequirementResult, Status, Verdict, Word
from cimrobust.certificate.policy import EFFORTS, KppRequirement, Policy
from cimrobust.certificate.safety import judge_safety_class
from cimrobust.montecarlo.table import TrialTable, failure_rate
from cimrobust.montecarlo.table import kpp as percentile

NO_POLICY = "No requirement was given, so nothing is passed or failed; name a policy to get a verdict."


def judge(certificate: CertificateModel, policy: Policy | None, trials: TrialTable) -> Verdict:
    """Judge a certificate.

    Args:
        certificate: Its `verdict` and `policy` are not looked at.
        policy: What is required; None: nothing.
        trials: The drawn chips.

    Returns:
        ``FAIL`` if a requirement is refuted; ``INCONCLUSIVE`` if one is open or none of them says anything about chips that were not tried;
        else ``PASS_CERTIFIED`` if a certified requirement is met, ``PASS_STATISTICAL`` if a percentile requirement is.
    """
    if policy is None:
        return Verdict(word="INCONCLUSIVE", sentence=NO_POLICY, requirements=[])
    results = _results(certificate, policy, trials)
    word, sentence = _word(results, policy)
    return Verdict(word=word, sentence=sentence, requirements=results)


def _results(certificate: CertificateModel, policy: Policy, trials: TrialTable) -> list[RequirementResult]:
    require = policy.require
    results = []
    if require.clean_accuracy is not None:
        results.append(_clean(certificate, require.clean_accuracy))
    if require.worst_found_accuracy is not None:
        results.append(_worst_found(certificate, require.worst_found_accuracy))
    if require.certified_accuracy is not None:
        results.append(_certified(certificate, require.certified_accuracy))
    results += [_kpp(certificate, kpp, trials) for kpp in require.kpp]
    if require.safety_class is not None:
        results.append(judge_safety_class(certificate, require.safety_class))
    if require.effort is not None:
        results.append(_effort(certificate, require.effort))
    return results


def _word(results: list[RequirementResult], policy: Policy) -> tuple[Word, str]:
    refuted = [result.id for result in results if result.status == "refuted"]
    undecided = [result.id for result in results if result.status == "open"]
    if refuted:
        return "FAIL", f"Refuted: {', '.join(refuted)}."
    if undecided:
        return "INCONCLUSIVE", f"Neither confirmed nor refuted: {', '.join(undecided)}."
    if policy.require.certified_accuracy is not None:
        return "PASS_CERTIFIED", "Every requirement is met, and the certified bound holds for every chip within the tolerance."
    if policy.require.kpp:
        return "PASS_STATISTICAL", "Every requirement is met, the percentile with the stated confidence for chips drawn as stated."
    return (
        "INCONCLUSIVE",
        "Nothing refutes the policy, but nothing in it is about chips that were not tried; require a kpp or a certified accuracy to pass.",
    )


def _better(certificate: CertificateModel) -> Callable[[float, float], bool]:
    """Return the comparison "at least as good as"."""
    return (lambda a, b: a >= b) if certificate.metric.higher_is_better else (lambda a, b: a <= b)


def _shown(certificate: CertificateModel, value: float) -> str:
    return f"{value:.4f}" if certificate.metric.name == "accuracy" else f"{value:.6g}"


def _rule(certificate: CertificateModel, value: float) -> str:
    words = "at least" if certificate.metric.higher_is_better else "at most"
    return f"{words} {_shown(certificate, value)}"


def _clean(certificate: CertificateModel, threshold: float) -> RequirementResult:
    score = certificate.clean.score
    met = _better(certificate)(score, threshold)
    metric = certificate.metric.name
    return RequirementResult(
        id="clean_accuracy",
        text=f"Clean {metric} {_rule(certificate, threshold)}",
        status="met" if met else "refuted",
        sentence=f"Clean {metric} is {_shown(certificate, score)} on {_decided_on(certificate)}.",
    )


def _decided_on(certificate: CertificateModel) -> str:
    """Return what a score is of, in words: a sample may have several decisions."""
    decisions, samples = certificate.clean.samples, certificate.data.used
    return f"{samples} samples" if decisions == samples else f"{decisions} decisions of {samples} samples"


def _worst_found(certificate: CertificateModel, threshold: float) -> RequirementResult:
    found, drawn = certificate.worst_found.score, certificate.monte_carlo
    better, metric = _better(certificate), certificate.metric.name
    worst_drawn = drawn.min if certificate.metric.higher_is_better else drawn.max
    worst = worst_drawn if better(found, worst_drawn) else found
    met = better(worst, threshold)
    reached = f"The search found a chip with {metric} {_shown(certificate, found)}, replayed from its file."
    return RequirementResult(
        id="worst_found_accuracy",
        text=f"Worst {metric} found {_rule(certificate, threshold)}",
        status="met" if met else "refuted",
        sentence=reached if not met else f"{reached} That refutes nothing, and proves nothing about chips that were not tried.",
    )


def _certified(certificate: CertificateModel, threshold: float) -> RequirementResult:
    score = certificate.certified.score
    better, metric = _better(certificate), certificate.metric.name
    status: Status = "open"
    if score is not None and better(score, threshold):
        status = "met"
    elif not better(certificate.worst_found.score, threshold):
        status = "refuted"
    bound = f"no certified bound ({certificate.certified.reason})" if score is None else f"certified {_shown(certificate, score)}"
    return RequirementResult(
        id="certified_accuracy",
        text=f"Certified {metric} {_rule(certificate, threshold)}",
        status=status,
        sentence=f"There is {bound}; worst found is {_shown(certificate, certificate.worst_found.score)}.",
    )


def _kpp(certificate: CertificateModel, required: KppRequirement, trials: TrialTable) -> RequirementResult:
    kpp = percentile(trials, required.k, required.confidence)
    rate = failure_rate(trials, required.accuracy, required.confidence, aim=required.k / 100)
    status: Status = "open"
    if kpp.bound is not None and _better(certificate)(kpp.bound, required.accuracy):
        status = "met"
    elif rate.lower > required.k / 100:
        status = "refuted"
    percent = f"{100 * required.confidence:g} %"
    bound = (
        f"no bound exists with {kpp.num_trials} trials, {kpp.needed_trials} are needed"
        if kpp.bound is None
        else f"its bound at {percent} confidence is {_shown(certificate, kpp.bound)}"
    )
    return RequirementResult(
        id=f"kpp_{required.k:g}",
        text=f"KPP {required.k:g} % of {certificate.metric.name} {_rule(certificate, required.accuracy)} at {percent} confidence",
        status=status,
        sentence=f"KPP {required.k:g} % of {kpp.num_trials} drawn chips is {_shown(certificate, kpp.score)}; {bound}.",
    )


def _effort(certificate: CertificateModel, least: str) -> RequirementResult:
    made = certificate.worst_found.effort
    return RequirementResult(
        id="effort",
        text=f"Search effort at least {least}",
        status="met" if EFFORTS.index(made) >= EFFORTS.index(least) else "refuted",
        sentence=f"The certificate was made with effort {made}.",
    )
