"""The model card of a bill of materials.

What the network is, how it scores on imperfect chips, and what that does not say.

CycloneDX has no Python model of it, so it is written as the plain values of its schema, version
1.6. All numbers are texts there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from cimrobust.certificate.bom.claims import proves_something

if TYPE_CHECKING:
    from cimrobust.certificate.models import CertificateModel, Tensor

Plain = dict[str, Any]


def model_card(certificate: CertificateModel, datasets: Iterable[str]) -> Plain:
    """Return the model card of a certified network.

    Args:
        certificate: Its certificate.
        datasets: References of the evaluation data.
    """
    is_classifier = certificate.metric.name == "accuracy"
    return {
        "modelParameters": {
            "task": "classification" if is_classifier else "regression",
            "datasets": [{"ref": reference} for reference in datasets],
            "inputs": [{"format": _format(tensor)} for tensor in certificate.model.inputs],
            "outputs": [{"format": _format(tensor)} for tensor in certificate.model.outputs],
        },
        "quantitativeAnalysis": {"performanceMetrics": list(_metrics(certificate))},
        "considerations": {"technicalLimitations": list(_limitations(certificate))},
    }


def _format(tensor: Tensor) -> str:
    shape = (
        "of any rank"
        if tensor.shape is None
        else str(["?" if axis is None else axis for axis in tensor.shape])
    )
    return f"{tensor.name}: {tensor.dtype} {shape}"


def _metrics(certificate: CertificateModel) -> Iterator[Plain]:
    """Yield the scores with the certificate's intervals for the distribution of the samples."""
    clean, drawn = certificate.clean, certificate.monte_carlo
    within = (
        f"devices within {certificate.device.largest_tolerance_fraction:g} of the conductance range"
    )
    yield _metric(certificate, clean.score, "model file, no deviation", "clean")
    yield _metric(
        certificate, clean.quantised_score, "quantised weights, no deviation", "quantised"
    )
    yield _metric(
        certificate,
        drawn.mean,
        f"mean of {drawn.trials} chips drawn from the device profile",
        "mean",
    )
    for row in drawn.kpp:
        slice_name = (
            f"percentile {row.k:g} of {drawn.trials} drawn chips, bound at confidence"
            f" {row.confidence:g}"
        )
        bound = "lowerBound" if certificate.metric.higher_is_better else "upperBound"
        limits = (
            {}
            if row.lower_bound is None
            else {"confidenceInterval": {bound: repr(row.lower_bound)}}
        )
        yield {
            "type": certificate.metric.name,
            "value": repr(row.score),
            "slice": slice_name,
            **limits,
        }
    yield _metric(
        certificate, certificate.worst_found.score, f"worst chip found, {within}", "worst_found"
    )
    if certificate.certified.score is not None and proves_something(certificate):
        yield _metric(
            certificate,
            certificate.certified.score,
            f"proven for every chip, {within}",
            "certified",
        )


def _metric(certificate: CertificateModel, score: float, slice_name: str, name: str) -> Plain:
    metric: Plain = {"type": certificate.metric.name, "value": repr(score), "slice": slice_name}
    for interval in certificate.evaluation_set.intervals:
        if interval.name == name:
            metric["confidenceInterval"] = {
                "lowerBound": repr(interval.low),
                "upperBound": repr(interval.high),
            }
    return metric


def _limitations(certificate: CertificateModel) -> Iterator[str]:
    yield from (f"Not covered: {text}" for text in certificate.not_covered)
    yield from certificate.warnings
    yield from (warned.text for warned in certificate.worst_found.warnings)
    yield from (
        f"Assumed: {entry.text} If that is false: {entry.effect_if_false}"
        for entry in certificate.assumptions
    )
