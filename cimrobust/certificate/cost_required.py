"""A requirement on what the decisions of the worst chip found cost, by who is taken for whom."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cimrobust.certificate.judging import Case, Judged
from cimrobust.certificate.wording import on_samples

if TYPE_CHECKING:
    from cimrobust.certificate.models import CertificateModel
    from cimrobust.certificate.policy_tables import CostTable, RequireRow


def judge_cost(case: Case, row: RequireRow) -> Judged:
    """Judge the mean cost of a decision.

    Open where the certificate has no table of decisions by label, or the costs do not fit it.
    """
    made = case.certificate
    asked = (
        f"mean cost of a decision of the worst chip found at most {row.threshold:.4g}"
        f" {on_samples(made)}"
    )
    if row.samples == "beyond":
        return Judged(
            f"{asked} and beyond these samples",
            "open",
            "No bound of a cost beyond these samples is computed; ask it on these (samples).",
        )
    rows = made.worst_found.confusion
    if rows is None:
        return Judged(
            asked,
            "open",
            "The certificate has no table of decisions by label:"
            f" {made.worst_found.confusion_reason}.",
        )
    costs = cost_matrix(case.cost, len(rows), _names(made))
    if isinstance(costs, str):
        return Judged(asked, "open", f"The costs of the policy do not fit the classes: {costs}.")
    total = sum(map(sum, rows))
    mean = sum(
        count * cost
        for counts, line in zip(rows, costs, strict=True)
        for count, cost in zip(counts, line, strict=True)
    ) / max(1, total)
    sentence = (
        f"The decisions of the worst chip found cost {mean:.4g} on"
        f" average{_dearest(rows, costs, _names(made))}."
    )
    if mean > row.threshold:
        return Judged(asked, "refuted", sentence, mean, "searched")
    return Judged(
        asked,
        "met",
        f"{sentence} That refutes nothing, and proves nothing about chips that were not tried.",
        mean,
        "searched",
    )


def cost_matrix(
    table: CostTable | None, num_classes: int, names: list[str]
) -> list[list[float]] | str:
    """Return the cost of every decision [classes, classes + 1], the last column for no class.

    Or why there is none, in words.

    Args:
        table: Costs of the policy; None: 1 for every wrong decision.
        num_classes: Classes.
        names: Their names, in order; empty: they have none.
    """
    costs = [
        [float(label != decision) for decision in range(num_classes)]
        for label in range(num_classes)
    ]
    if table is not None and table.matrix is not None:
        if len(table.matrix) != num_classes:
            return f"{len(table.matrix)} rows for {num_classes} classes"
        costs = [list(line) for line in table.matrix]
    for pair in [] if table is None else table.pair:
        label, decision = (_index(name, num_classes, names) for name in (pair.label, pair.decision))
        if label is None or decision is None:
            return f"no class '{pair.label if label is None else pair.decision}'"
        costs[label][decision] = pair.cost
    # To decide for no class at all costs as much as the dearest decision.
    return [[*line, max(line)] for line in costs]


def _index(name: int | str, num_classes: int, names: list[str]) -> int | None:
    if str(name) in names:
        return names.index(str(name))
    # Where names are numbers themselves, a number is a name.
    has_numbers = any(known.lstrip("-").isdecimal() for known in names)
    return name if isinstance(name, int) and not has_numbers and name < num_classes else None


def _names(made: CertificateModel) -> list[str]:
    labels = made.data.labels
    return (
        [] if labels is None or labels.classes is None else [str(name) for name in labels.classes]
    )


def _dearest(rows: list[list[int]], costs: list[list[float]], names: list[str]) -> str:
    """Return the kind of wrong decision that costs most in all, as the end of a sentence."""
    sums = {
        (label, decision): count * costs[label][decision]
        for label, counts in enumerate(rows)
        for decision, count in enumerate(counts)
        if count * costs[label][decision] > 0
    }
    if not sums:
        return ""
    label, decision = max(sums, key=lambda place: sums[place])
    shown = [*(names or map(str, range(len(rows)))), "no class"]
    return (
        f"; the dearest are {rows[label][decision]} of class {shown[label]} taken for"
        f" {shown[decision]}"
    )
