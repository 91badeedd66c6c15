"""The intervals of a finite evaluation set, derived again from the scores stated elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cimrobust import __version__
from cimrobust.certificate.blocks.samples_block import CONFIDENCE, interval_of
from cimrobust.review.differences import Exactness, differences
from cimrobust.review.record_checks import is_of_today
from cimrobust.review.replay_check import ReplayCheck

if TYPE_CHECKING:
    from cimrobust.certificate.models import CertificateModel


def interval_check(certificate: CertificateModel) -> ReplayCheck:
    """Derive the interval of every accuracy again, and which there are.

    Args:
        certificate: The certificate.
    """
    problem = _counts_problem(certificate) or _rows_problem(certificate)
    claimed = certificate.evaluation_set
    return ReplayCheck(
        "evaluation_set",
        not problem,
        problem or f"{len(claimed.intervals)} intervals on {claimed.samples} samples",
    )


def _counts_problem(certificate: CertificateModel) -> str:
    """Return what is wrong with samples, decisions and confidence; nothing if nothing is."""
    claimed, data = certificate.evaluation_set, certificate.data
    if claimed.confidence != CONFIDENCE:
        return (
            f"the intervals are those of {CONFIDENCE:g}, the certificate says"
            f" {claimed.confidence:g}"
        )
    if (claimed.samples, claimed.decisions) != (data.used, certificate.clean.samples):
        return (
            f"there are {data.used} samples and {certificate.clean.samples} decisions, it says"
            f" {claimed.samples} and {claimed.decisions}"
        )
    if data.labels is None or claimed.most_decisions is None:
        # Files of earlier versions of the tool do not state them.
        if is_of_today(certificate, certificate.tool):
            return "decisions of a sample, or how labels are read, are not stated"
        return ""
    if claimed.decisions + data.labels.ignored_decisions != claimed.samples * (
        claimed.most_decisions
    ):
        return (
            f"{claimed.samples} samples of {claimed.most_decisions} decisions are not"
            f" {claimed.decisions} and {data.labels.ignored_decisions} ignored ones"
        )
    return ""


def _rows_problem(certificate: CertificateModel) -> str:
    claimed, scores = certificate.evaluation_set, _scores(certificate)
    # Sentences may read differently in another version; their numbers stand beside them.
    exactness = Exactness(
        texts=certificate.tool.version == __version__
        and certificate.stated_version == certificate.VERSION
    )
    for row in claimed.intervals:
        score = scores.get(row.name)
        if score is None:
            return f"there is no score '{row.name}'"
        again = interval_of(
            row.name,
            score,
            num_decisions=claimed.decisions,
            num_inputs=claimed.samples,
            most=claimed.most_decisions,
        )
        if list(differences(again, row, place=row.name, exactness=exactness)):
            return f"the interval of '{row.name}' is {again.low:.6g} to {again.high:.6g}"
    found = [row.name for row in claimed.intervals]
    wanted = _names(certificate)
    if is_of_today(certificate, certificate.tool) and found != wanted:
        return f"there must be the intervals of {', '.join(wanted) or 'nothing'}"
    return ""


def _scores(certificate: CertificateModel) -> dict[str, float | None]:
    """Return the score of every interval, in their order; None: there is none."""
    converters = certificate.converters
    return {
        "clean": certificate.clean.score,
        "quantised": certificate.clean.quantised_score,
        "converters": None if converters is None else converters.score,
        "mean": certificate.monte_carlo.mean,
        "worst_found": certificate.worst_found.score,
        "certified": certificate.certified.score,
    }


def _names(certificate: CertificateModel) -> list[str]:
    """Return the names of the intervals that there must be, in their order."""
    if certificate.metric.unit != "fraction":
        return []
    left_out = {"clean"} if certificate.data.label_source == "self" else set()
    if certificate.monte_carlo.stopping is not None:
        left_out.add("mean")
    return [
        name
        for name, score in _scores(certificate).items()
        if score is not None and name not in left_out
    ]
