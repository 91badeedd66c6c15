"""What becomes of what on the worst chip found, and what that costs by the policy."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cimrobust.certificate.cost_required import cost_matrix
from cimrobust.certificate.policy_tables import CostTable

if TYPE_CHECKING:
    from cimrobust.certificate.models import CertificateModel, Flipped, FlippedInput

MOST_TRANSITIONS = 8
_WIDTH, _HEIGHT = 120.0, 40.0


@dataclass(frozen=True)
class Transition:
    """One kind of wrong decision.

    Attributes:
        label: Class of the label.
        decision: Class that is decided for.
        path: Where its number stands in the JSON.
        cost: Cost of one; None: the policy states no costs.
        total: Number times cost, or the number.
    """

    label: str
    decision: str
    path: str
    cost: float | None
    total: float


def class_names(certificate: CertificateModel) -> list[str]:
    """Return the names of the classes of the table of decisions, and of no class at the end."""
    rows, labels = certificate.worst_found.confusion or [], certificate.data.labels
    known = (
        [] if labels is None or labels.classes is None else [str(name) for name in labels.classes]
    )
    return [*(known if len(known) == len(rows) else map(str, range(len(rows)))), "no class"]


def costs(certificate: CertificateModel) -> list[list[float]] | None:
    """Return the costs that the policy states, row the label, the last column for no class.

    None: none, or they do not fit.
    """
    rows, policy = certificate.worst_found.confusion, certificate.policy or {}
    if rows is None or policy.get("cost") is None:
        return None
    labels = certificate.data.labels
    names = (
        [] if labels is None or labels.classes is None else [str(name) for name in labels.classes]
    )
    found = cost_matrix(CostTable.model_validate(policy["cost"]), len(rows), names)
    return None if isinstance(found, str) else found


def transitions(certificate: CertificateModel) -> list[Transition]:
    """Return the kinds of wrong decisions of the worst chip, by falling cost, then frequency."""
    names, priced = class_names(certificate), costs(certificate)
    found = [
        Transition(
            label=names[label],
            decision=names[decision],
            path=f"worst_found.confusion.{label}.{decision}",
            cost=None if priced is None else priced[label][decision],
            total=count * (1.0 if priced is None else priced[label][decision]),
        )
        for label, row in enumerate(certificate.worst_found.confusion or [])
        for decision, count in enumerate(row)
        if count and decision != label
    ]
    return sorted(found, key=lambda row: -row.total)[:MOST_TRANSITIONS]


def collapse(certificate: CertificateModel) -> tuple[str, int, int] | None:
    """Return the class that most wrong decisions are for, how many, and of how many.

    None where there is no such class.
    """
    rows = certificate.worst_found.confusion
    if rows is None:
        return None
    wrong = [
        sum(row[decision] for label, row in enumerate(rows) if label != decision)
        for decision in range(len(rows[0]))
    ]
    total, most = sum(wrong), max(wrong, default=0)
    return (
        (class_names(certificate)[wrong.index(most)], most, total)
        if total and 2 * most > total
        else None
    )


def shown_part(flipped: Flipped | None) -> str:
    """Say how much of an input is shown, as the end of a sentence; nothing: all of it."""
    if flipped is None or math.prod(flipped.shown_shape) >= math.prod(flipped.shape):
        return ""
    if flipped.form == "image":
        return f", made smaller: {flipped.shown_shape[0]} x {flipped.shown_shape[1]} pixels"
    return (
        f", {flipped.shown_shape[0]} points of it"
        if flipped.form == "signal"
        else f", the first {flipped.shown_shape[0]} values of it"
    )


def line_of(row: FlippedInput) -> str:
    """Return a signal as the points of a line, in a box of `line_box`."""
    values = row.values or [0.0]
    low, high = min(values), max(values)
    step, scale = _WIDTH / max(1, len(values) - 1), (_HEIGHT - 2) / (high - low or 1.0)
    return " ".join(
        f"{index * step:.1f},{_HEIGHT - 1 - (value - low) * scale:.1f}"
        for index, value in enumerate(values)
    )


def line_box() -> str:
    """Return the view box of `line_of`."""
    return f"0 0 {_WIDTH:g} {_HEIGHT:g}"
