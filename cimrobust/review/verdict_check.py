"""The verdict of a certificate, given again.

That of an older one as far as the rules of today tell.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from cimrobust.certificate.policy import Policy
from cimrobust.certificate.verdict import judge
from cimrobust.review.differences import named
from cimrobust.review.record_checks import is_of_today
from cimrobust.review.replay_check import ReplayCheck

if TYPE_CHECKING:
    from cimrobust.certificate.models import CertificateModel, Verdict
    from cimrobust.montecarlo.trial_table import TrialTable

_CLEAN = "clean_accuracy"


def verdict_check(certificate: CertificateModel, table: TrialTable) -> ReplayCheck:
    """Judge a certificate again against its own policy.

    Rules and words of older versions were others, so nothing but a contradiction refutes a verdict
    of theirs.

    Args:
        certificate: The certificate.
        table: Its trials.
    """
    policy = None if certificate.policy is None else Policy.model_validate(certificate.policy)
    again = judge(certificate, policy, table)
    if is_of_today(certificate, certificate.tool):
        return ReplayCheck("verdict", again == certificate.verdict, again.word)
    wrong = list(_contradictions(certificate, policy, again))
    if wrong:
        return ReplayCheck("verdict", False, f"by no version's rules: {named(wrong)}")
    return ReplayCheck(
        "verdict",
        None,
        "judged by an earlier version's rules; nothing that it says is met is refuted by those of"
        " today",
    )


def _contradictions(
    certificate: CertificateModel, policy: Policy | None, again: Verdict
) -> Iterator[str]:
    """Yield what contradicts itself, or the numbers of the certificate, whatever the rules were."""
    claimed = certificate.verdict
    statuses = [row.status for row in claimed.requirements]
    if (claimed.word == "FAIL") != ("refuted" in statuses):
        yield f"{claimed.word} with {statuses.count('refuted')} requirements refuted"
    if claimed.word.startswith("PASS") and (policy is None or "open" in statuses):
        yield f"{claimed.word} with {statuses.count('open')} requirements open"
    if policy is not None and len(claimed.requirements) < len(list(policy.rows)):
        yield f"{len(claimed.requirements)} requirements judged, of {len(list(policy.rows))}"
    met = {row.id for row in claimed.requirements if row.status == "met"}
    for row in again.requirements:
        # Older versions took the score of the file for it, which is compared below.
        if row.id in met and row.status == "refuted" and row.id != _CLEAN:
            yield row.id
    if policy is not None and _CLEAN in met:
        yield from _missed_clean(certificate, policy)


def _missed_clean(certificate: CertificateModel, policy: Policy) -> Iterator[str]:
    clean, higher = certificate.clean, certificate.metric.higher_is_better
    best = (max if higher else min)(clean.score, clean.quantised_score)
    for threshold in policy.thresholds(_CLEAN):
        if (best < threshold) if higher else (best > threshold):
            yield _CLEAN
