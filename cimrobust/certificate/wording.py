"""How scores are said: what they are of, in which unit, on how many samples."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cimrobust.certificate.models import CertificateModel

# The error of a network that always answers the mean is the spread of the targets. A hundred times
# the clean error is as much for a network that explains 99.99 % of their variance, so a larger one
# is kept by networks that have learnt nothing.
ABSURD = 100.0
_ERRORS = {
    "rmse": "root mean square error",
    "mae": "mean absolute error",
    "mse": "mean square error",
    "max_error": "largest absolute error",
}


def score_name(certificate: CertificateModel) -> str:
    """Return what a score is called.

    Labels that are decisions of a network measure agreement, not accuracy.
    """
    metric = certificate.metric.name
    if metric != "accuracy":
        return _ERRORS.get(metric, metric)
    source = certificate.data.label_source
    if source == "self":
        return "agreement with its own clean decisions"
    return (
        "accuracy"
        if source == "given"
        else (
            "agreement with the decisions of"
            f" {', '.join(certificate.data.labels_of or {}) or 'another network'}"
        )
    )


def score_word(certificate: CertificateModel) -> str:
    """Return what a score is called where there is little room.

    Accuracy, agreement, or the name of the error.
    """
    if certificate.metric.name != "accuracy":
        return certificate.metric.name
    return "accuracy" if certificate.data.label_source == "given" else "agreement"


def is_proof(certificate: CertificateModel) -> bool:
    """Tell whether what is certified says anything.

    An accuracy of 0, or an error that a network keeps that has learnt nothing, does not.
    """
    score = certificate.certified.score
    if score is None:
        return False
    if certificate.metric.higher_is_better:
        return score > 0
    return score <= ABSURD * max(certificate.clean.quantised_score, 0.0) or score == 0


def shown(certificate: CertificateModel, value: float) -> str:
    """Return a score with its unit: accuracies in percent, errors with four significant digits."""
    if certificate.metric.name == "accuracy":
        return f"{100 * value:.2f} %"
    return f"{value:.4g} ({unit(certificate)})"


def unit(certificate: CertificateModel) -> str:
    """Return the unit of a score in words."""
    if certificate.metric.name == "accuracy":
        return "fraction"
    return (
        "squared unit of the target" if certificate.metric.name == "mse" else "unit of the target"
    )


def counted(certificate: CertificateModel, value: float, correct: int | None, total: int) -> str:
    """Return a score with its counts."""
    return (
        shown(certificate, value)
        if correct is None
        else f"{shown(certificate, value)} ({correct} of {total})"
    )


def rule(certificate: CertificateModel, threshold: float) -> str:
    """Return a threshold with its direction."""
    return (
        f"{'at least' if certificate.metric.higher_is_better else 'at most'}"
        f" {shown(certificate, threshold)}"
    )


def is_reached(certificate: CertificateModel, value: float, threshold: float) -> bool:
    """Tell whether a score is as good as a threshold."""
    return value >= threshold if certificate.metric.higher_is_better else value <= threshold


def on_samples(certificate: CertificateModel) -> str:
    """Return what a score is of, in words: a sample may have several decisions."""
    decisions, samples = certificate.clean.samples, certificate.data.used
    return (
        f"on these {samples} samples"
        if decisions == samples
        else f"on these {decisions} decisions of {samples} samples"
    )


def bounded_units(certificate: CertificateModel) -> str:
    """Return what is bounded one by one: samples, or decisions where a sample has several."""
    return "samples" if certificate.clean.samples == certificate.data.used else "decisions"


def worst_chip(certificate: CertificateModel) -> str:
    """Return the worst chip found as a sentence."""
    found, tolerance = certificate.worst_found, certificate.device.largest_tolerance_fraction
    score = counted(certificate, found.score, found.correct, found.samples)
    return (
        f"The search found a chip inside the tolerance of {100 * tolerance:.4g} % with"
        f" {score_name(certificate)} {score} {on_samples(certificate)}"
    )


def left_out(stage: str) -> str:
    """Return what a certificate says of a stage that was left out."""
    return f"left out on request (--skip {stage})"
