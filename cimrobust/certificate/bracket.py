"""The scores that bracket the truth, as rows of the certificate's main chart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from cimrobust.certificate.programmed import programmed_interval, programmed_score
from cimrobust.certificate.wording import is_proof, shown

if TYPE_CHECKING:
    from cimrobust.certificate.models import CertificateModel

#: What a row says: a proof, the worst chip, drawn chips, or the network without deviation.
RowKind = Literal["proof", "worst", "drawn", "clean"]


@dataclass(frozen=True)
class BracketRow:
    """One score of the chart.

    Attributes:
        label: What it is of.
        kind: What it says.
        value: The score; None: nothing is proven.
        low: Lower end of its interval beyond the samples; None: it has none.
        high: Upper end.
    """

    label: str
    kind: RowKind
    value: float | None
    low: float | None = None
    high: float | None = None


def bracket_rows(certificate: CertificateModel) -> tuple[BracketRow, ...]:
    """Return the rows of the chart from the proof up to the network without deviation."""
    kpp, drawn = certificate.monte_carlo.kpp[0], certificate.monte_carlo
    proven = certificate.certified.score if is_proof(certificate) else None
    spans: dict[str, tuple[float | None, float | None]] = {
        row.name: (row.low, row.high) for row in certificate.evaluation_set.intervals
    }
    if kpp.two_source is not None and kpp.lower_bound is not None:
        spans["kpp"] = (kpp.two_source.bound, kpp.lower_bound)
    scores: tuple[tuple[str, str, RowKind, float | None], ...] = (
        ("certified", "proven for every chip", "proof", proven),
        ("worst_found", "worst chip found", "worst", certificate.worst_found.score),
        ("kpp", f"{kpp.k:g} % KPP bound", "drawn", kpp.lower_bound),
        ("mean", "average chip", "drawn", drawn.mean),
        (
            programmed_interval(certificate),
            "without deviation",
            "clean",
            programmed_score(certificate),
        ),
    )
    return tuple(
        BracketRow(
            label, kind, value, *((None, None) if value is None else spans.get(key, (None, None)))
        )
        for key, label, kind, value in scores
    )


def bracket_sentence(certificate: CertificateModel) -> str:
    """Return what the chart shows, in words."""
    said = ", ".join(
        f"{row.label} {'not proven' if row.value is None else shown(certificate, row.value)}"
        for row in bracket_rows(certificate)
    )
    return f"Scores on one axis: {said}."
