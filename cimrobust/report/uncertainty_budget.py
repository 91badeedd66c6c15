"""Where a certificate's numbers are uncertain, source by source, from network to chip to claim."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cimrobust.certificate.programmed import programmed_interval
from cimrobust.certificate.wording import is_proof

if TYPE_CHECKING:
    from cimrobust.certificate.models import CertificateModel


@dataclass(frozen=True)
class Uncertainty:
    """One source of uncertainty.

    Attributes:
        source: What is uncertain.
        words: Words around the numbers; one more than there are numbers.
        paths: Where the numbers stand in the JSON, all scores.
        known: How it is known.
    """

    source: str
    words: tuple[str, ...]
    paths: tuple[str, ...]
    known: str


def uncertainties(certificate: CertificateModel) -> list[Uncertainty]:
    """Return the uncertainty budget."""
    return [*_of_the_network(certificate), *_of_chips(certificate), *_of_claims(certificate)]


def _of_the_network(c: CertificateModel) -> Iterator[Uncertainty]:
    yield Uncertainty(
        "Quantisation",
        ("from ", " to ", ""),
        ("clean.score", "clean.quantised_score"),
        "measured on all samples",
    )
    if c.converters is not None:
        yield Uncertainty(
            "Converters",
            ("from ", " to ", ""),
            ("clean.quantised_score", "converters.score"),
            "measured on all samples",
        )
    rows = [] if c.diagnostics is None else c.diagnostics.effects
    for index, row in enumerate(rows):
        if "noise" in row.effect:
            yield Uncertainty(
                row.effect.capitalize(),
                ("changes the mean by ", ""),
                (f"diagnostics.effects.{index}.change",),
                f"{row.chips} drawn chips",
            )


def _of_chips(c: CertificateModel) -> Iterator[Uncertainty]:
    drawn = c.monte_carlo
    yield Uncertainty(
        "Programming: chips differ",
        ("standard deviation ", ", from ", " to ", ""),
        ("monte_carlo.std", "monte_carlo.min", "monte_carlo.max"),
        f"{drawn.trials} drawn chips; believes the profile",
    )
    kpp = drawn.kpp[0]
    if kpp.lower_bound is None:
        yield Uncertainty(
            "Finite number of chips",
            (f"no bound with {drawn.trials}; {kpp.needed_trials} are needed",),
            (),
            "order statistics",
        )
    else:
        paths = ("monte_carlo.kpp.0.score", "monte_carlo.kpp.0.lower_bound")
        yield Uncertainty(
            "Finite number of chips",
            (f"{kpp.k:g} % percentile ", ", bound ", ""),
            paths,
            f"order statistics, {100 * kpp.confidence:g} % confidence",
        )


def _of_claims(c: CertificateModel) -> Iterator[Uncertainty]:
    name = programmed_interval(c)
    place = next(
        (index for index, row in enumerate(c.evaluation_set.intervals) if row.name == name), None
    )
    if place is None:
        yield Uncertainty("Finite number of samples", ("nothing is stated",), (), _reason(c, name))
    else:
        at = f"evaluation_set.intervals.{place}."
        known = (
            f"{c.evaluation_set.intervals[place].method}, {100 * c.evaluation_set.confidence:g} %"
            f" confidence, {c.evaluation_set.samples} independent samples"
        )
        yield Uncertainty(
            "Finite number of samples",
            ("without deviation ", " to ", ""),
            (f"{at}low", f"{at}high"),
            known,
        )
    transfer = None if c.diagnostics is None else c.diagnostics.transfer
    seen = "not measured (--diagnostics transfer)" if transfer is None else transfer.statement
    if is_proof(c):
        yield Uncertainty(
            "Search: worse chips may exist",
            ("the worst chip lies between ", " and ", ""),
            ("certified.score", "worst_found.score"),
            f"proof and witness. Other samples: {seen}",
        )
    else:
        side = "at or below" if c.metric.higher_is_better else "at or above"
        yield Uncertainty(
            "Search: worse chips may exist",
            (f"the worst chip lies {side} ", "; no limit is proven"),
            ("worst_found.score",),
            f"a witness. Other samples: {seen}",
        )
    yield Uncertainty(
        "Device profile",
        ("all of the above believe it",),
        (),
        f"stated: {c.device.profile.get('source', 'no source')}; age and number of devices"
        " measured: not stated",
    )
    labels = {
        "given": "given with the data; not checked",
        "self": "the network's own decisions",
        "model": "decisions of another network",
    }[c.data.label_source]
    yield Uncertainty("Labels", ("a wrong label counts as a wrong decision",), (), labels)


def _reason(c: CertificateModel, name: str) -> str:
    return next(
        (row.reason for row in c.evaluation_set.not_stated if row.name in (name, "all")),
        "not stated",
    )
