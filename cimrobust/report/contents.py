"""The sections of a certificate's page: numbers, titles, where they stand in the JSON.

And what is left out, with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cimrobust.certificate.models import CertificateModel


@dataclass(frozen=True)
class Section:
    """One section.

    Attributes:
        id: Its anchor.
        title: Its heading.
        paths: Blocks of the JSON that it shows.
        number: Its place.
    """

    id: str
    title: str
    paths: tuple[str, ...]
    number: int


def sections(certificate: CertificateModel, *, has_change: bool) -> dict[str, Section]:
    """Return the sections that a page has, by anchor, in order."""
    there = [row for row in _all(certificate, has_change) if row[3]]
    return {
        name: Section(name, title, paths, number)
        for number, (name, title, paths, _) in enumerate(there, 1)
    }


def _all(c: CertificateModel, has_change: bool) -> Iterator[tuple[str, str, tuple[str, ...], bool]]:
    worst, diagnostics = c.worst_found, c.diagnostics
    has_classes = (
        c.clean.per_class is not None or worst.confusion is not None or worst.flipped is not None
    )
    has_diagnosis = diagnostics is not None and bool(diagnostics.costs)
    yield "sure", "How sure", ("clean", "monte_carlo", "worst_found", "certified"), True
    yield (
        "scope",
        "Scope and assumptions",
        ("item", "model", "data", "assumptions", "not_covered"),
        True,
    )
    yield (
        "failures",
        "Failure modes of the worst chip",
        ("clean.per_class", "worst_found.confusion", "worst_found.flipped"),
        has_classes,
    )
    yield (
        "likelihood",
        "Likelihood",
        ("worst_found.likelihood", "monte_carlo.rare"),
        worst.likelihood is not None or c.monte_carlo.rare is not None,
    )
    yield "budget", "Uncertainty budget", ("clean", "evaluation_set", "monte_carlo"), True
    yield "remedies", "What would change the verdict", ("verdict", "diagnostics"), True
    yield (
        "argument",
        "Argument",
        ("verdict.requirements", "assumptions"),
        bool(c.verdict.requirements),
    )
    yield "change", "Change", (), has_change
    yield "attack", "Worst chip found", ("worst_found",), True
    yield "statistics", "Drawn chips", ("monte_carlo",), True
    yield (
        "samples",
        "The evaluation set itself",
        ("evaluation_set",),
        bool(c.evaluation_set.intervals),
    )
    yield "certified", "Certified bound", ("certified",), c.certified.score is not None
    yield (
        "effects",
        "Which effect costs what",
        ("diagnostics.effects",),
        diagnostics is not None and bool(diagnostics.effects),
    )
    yield "diagnostics", "What explains the worst chip", ("diagnostics",), has_diagnosis
    yield "hardware", "Devices and deviation model", ("device",), True
    yield "converters", "Converters", ("converters",), c.converters is not None
    yield "mapping", "Mapping onto devices", ("mapping",), True
    yield "settings", "Settings and reproduction", ("settings", "seeds", "reproduce"), True
    yield "tool", "Confidence in the tool", ("tool", "machine", "checks", "timings"), True
    yield "sign", "Verification and signatures", (), True
    yield "glossary", "Terms and formulas", (), True


def left_out(certificate: CertificateModel) -> list[tuple[str, list[str]]]:
    """Return what a page does not have, by reason, in order of the page."""
    found: dict[str, list[str]] = {}
    for name, reason in _missing(certificate):
        if reason is not None:
            found.setdefault(reason.rstrip("."), []).append(name)
    return list(found.items())


def _missing(c: CertificateModel) -> Iterator[tuple[str, str | None]]:
    worst, drawn, proven, diagnostics = c.worst_found, c.monte_carlo, c.certified, c.diagnostics
    yield "day of issue", c.issued_reason if c.issued is None else None
    yield "item, intended use, hazards and safety goals", c.item_reason if c.item is None else None
    yield "requirements", c.policy_reason if c.policy is None else None
    yield "scores by class", c.clean.per_class_reason if c.clean.per_class is None else None
    yield "decisions by class", worst.confusion_reason if worst.confusion is None else None
    yield "inputs that flip", worst.flipped_reason if worst.flipped is None else None
    yield (
        "distance of the worst chip",
        (worst.likelihood_reason if worst.likelihood is None else None),
    )
    yield "probability of a failing chip", drawn.rare_reason if drawn.rare is None else None
    yield "certified bound", proven.reason if proven.score is None else None
    if proven.score is not None:
        yield (
            "largest tolerance of single samples",
            (proven.largest_tolerance_reason if proven.largest_tolerance is None else None),
        )
    yield "course of the search", worst.effort_curve_reason if worst.effort_curve is None else None
    yield "early stopping", drawn.stopping_reason if drawn.stopping is None else None
    yield (
        "share of chips that miss a requirement",
        (drawn.requirement_reason if drawn.requirement is None else None),
    )
    yield "diagnostics", c.diagnostics_reason if diagnostics is None else None
    for name in _DIAGNOSTICS if diagnostics is not None else ():
        yield (
            f"diagnostic: {name.replace('_', ' ')}",
            getattr(diagnostics, f"{name}_reason") if getattr(diagnostics, name) is None else None,
        )
    yield "converters", c.converters_reason if c.converters is None else None
    yield "machine", c.machine_reason if c.machine is None else None
    yield "re-training", c.retraining_reason
    for row in c.evaluation_set.not_stated:
        yield f"interval of {row.name.replace('_', ' ')} beyond these samples", row.reason


_DIAGNOSTICS = (
    "layers",
    "classes",
    "safety_class",
    "transfer",
    "tolerance_curve",
    "fragile_inputs",
    "stuck_devices",
    "write_verify",
)
