"""The short summary of a certificate on stdout."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from cimrobust.certificate.models import CertificateModel
    from cimrobust.certificate.models.diagnosed import SafetyClass

#: From here on a number has too many digits to be read.
_LONG = 1e9


def print_summary(certificate: CertificateModel, *, directory: str, as_json: bool) -> None:
    """Print what a certificate says, for people or for machines."""
    summary = summarise(certificate, directory=directory)
    if as_json:
        click.echo(json.dumps(summary, indent=2))
        return
    for label, text in _lines(certificate):
        click.echo(f"{label:<22}{text}")
    for warning in certificate.warnings:
        click.echo(f"{'warning':<22}{warning}")
    click.echo(f"{'certificate':<22}{summary['html']}")


def summarise(certificate: CertificateModel, *, directory: str) -> dict[str, Any]:
    """Return the numbers that a pipeline wants, in one flat mapping.

    Args:
        certificate: What was found.
        directory: Where its files are.
    """
    safety = _safety(certificate)
    kpp = [
        entry.model_dump(include={"k", "score", "lower_bound", "confidence"})
        for entry in certificate.monte_carlo.kpp
    ]
    return {
        "verdict": certificate.verdict.word,
        "metric": certificate.metric.name,
        "clean": certificate.clean.score,
        "quantised": certificate.clean.quantised_score,
        "mean": certificate.monte_carlo.mean,
        "kpp": kpp,
        "worst_found": certificate.worst_found.score,
        "certified": certificate.certified.score,
        "safety_class": (
            None
            if safety is None
            else safety.model_dump(include={"label", "recall", "correct", "samples"})
        ),
        "certificate": f"{directory}/certificate.json",
        "html": f"{directory}/certificate.html",
        "witness": f"{directory}/witness/worst_case.onnx",
        "warnings": list(certificate.warnings),
    }


def _lines(certificate: CertificateModel) -> list[tuple[str, str]]:
    metric = certificate.metric.name
    trials = certificate.monte_carlo
    clean = certificate.clean
    lines = [
        ("verdict", certificate.verdict.word),
        (
            f"clean {metric}",
            f"{printed_score(clean.score)} float, {printed_score(clean.quantised_score)} quantised",
        ),
        ("average chip", f"{printed_score(trials.mean)} over {trials.trials} drawn chips"),
    ]
    for entry in trials.kpp:
        bound = (
            "no bound yet"
            if entry.lower_bound is None
            else f"bound {printed_score(entry.lower_bound)}"
        )
        if entry.two_source is not None:
            bound += f", {printed_score(entry.two_source.bound)} beyond these samples"
        lines.append(
            (
                f"KPP {entry.k:g} %",
                f"{printed_score(entry.score)} ({bound} at {100 * entry.confidence:g} %"
                " confidence)",
            )
        )
    lines.append(("worst chip found", printed_score(certificate.worst_found.score)))
    safety = _safety(certificate)
    if safety is not None:
        lines.append(
            (
                f"safety class {safety.label}",
                f"recall {printed_score(safety.recall)} on the worst chip found for it",
            )
        )
    certified = certificate.certified
    lines.append(
        (
            "certified",
            (
                printed_score(certified.score)
                if certified.score is not None
                else f"none: {certified.reason}"
            ),
        )
    )
    return lines


def _safety(certificate: CertificateModel) -> SafetyClass | None:
    """Return the recall of the safety class; None where none was named."""
    return None if certificate.diagnostics is None else certificate.diagnostics.safety_class


def printed_score(value: float | None) -> str:
    """Return a score as commands print it; none: there is none."""
    if value is None:
        return "none"
    return f"{value:.4f}" if abs(value) < _LONG else f"{value:.4g}"
