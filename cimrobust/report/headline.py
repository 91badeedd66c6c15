"""The numbers of the first screen.

What was found, on these samples and beyond them, and how it is known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cimrobust.certificate.programmed import programmed_interval
from cimrobust.certificate.wording import bounded_units, is_proof

if TYPE_CHECKING:
    from cimrobust.certificate.models import CertificateModel


@dataclass(frozen=True)
class Headline:
    """One number of the first screen.

    Attributes:
        name: What it is of.
        path: Where it stands in the JSON; None: there is nothing to show.
        known: How it is known.
        low: Path of the lower end beyond these samples; None: nothing is stated there.
        high: Path of the upper end; None: it is a bound to one side.
        nothing: Why there is no number, or none beyond these samples.
    """

    name: str
    path: str | None
    known: str
    low: str | None = None
    high: str | None = None
    nothing: str = ""


def headlines(certificate: CertificateModel) -> list[Headline]:
    """Return the numbers that bracket the truth, the best first."""
    drawn, converted = certificate.monte_carlo, certificate.converters is not None
    programmed = "converters.score" if converted else "clean.quantised_score"
    return [
        Headline(
            "Without deviation",
            programmed,
            f"measured, quantised{', through converters' if converted else ''}",
            *_ends(certificate, programmed_interval(certificate)),
        ),
        Headline(
            "Average chip",
            "monte_carlo.mean",
            f"measured on {drawn.trials} drawn chips",
            *_ends(certificate, "mean"),
        ),
        _percentile(certificate),
        Headline(
            "Worst chip found",
            "worst_found.score",
            f"a chip that exists; search effort {certificate.worst_found.effort}",
            *_ends(certificate, "worst_found"),
        ),
        _proven(certificate),
    ]


def _percentile(certificate: CertificateModel) -> Headline:
    kpp = certificate.monte_carlo.kpp[0]
    name = f"All but the worst {kpp.k:g} % of chips (KPP)"
    if kpp.lower_bound is None:
        reason = (
            f"not proven: {kpp.needed_trials} drawn chips needed, {certificate.monte_carlo.trials}"
            " drawn"
        )
        return Headline(name, None, reason, nothing=kpp.two_source_reason or "")
    known = f"statistical, at {100 * kpp.confidence:g} % confidence"
    low = None if kpp.two_source is None else "monte_carlo.kpp.0.two_source.bound"
    return Headline(
        name, "monte_carlo.kpp.0.lower_bound", known, low, nothing=kpp.two_source_reason or ""
    )


def _proven(certificate: CertificateModel) -> Headline:
    proven, name = certificate.certified, "Proven for every chip"
    if proven.score is None:
        return Headline(name, None, f"not proven: {proven.reason}")
    if not is_proof(certificate):
        return Headline(name, None, f"not proven at this tolerance{_smaller(certificate)}")
    low, high, nothing = _ends(certificate, "certified")
    return Headline(
        name,
        "certified.score",
        "proved by sound bounds",
        low,
        None if certificate.metric.higher_is_better else high,
        nothing,
    )


def _smaller(certificate: CertificateModel) -> str:
    """Say at which tolerance anything is proven."""
    largest = certificate.certified.largest_tolerance
    held = (
        []
        if largest is None
        else [row for row in largest.held if row.tolerance_fraction is not None]
    )
    if largest is None or not held:
        return ""
    best, units = max(held, key=lambda row: row.share), bounded_units(certificate)
    return (
        f"; {100 * best.share:g} % of the first {largest.samples} {units} are proven up to a"
        f" tolerance of {100 * (best.tolerance_fraction or 0.0):.3g} %"
    )


def _ends(certificate: CertificateModel, name: str) -> tuple[str | None, str | None, str]:
    rows = certificate.evaluation_set.intervals
    for index, row in enumerate(rows):
        if row.name == name:
            return (
                f"evaluation_set.intervals.{index}.low",
                f"evaluation_set.intervals.{index}.high",
                "",
            )
    reasons = [
        row.reason for row in certificate.evaluation_set.not_stated if row.name in (name, "all")
    ]
    return None, None, reasons[0] if reasons else ""
