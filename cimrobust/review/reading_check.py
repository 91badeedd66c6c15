"""How a certificate says that data are read.

Applied to data given to a replay, and compared with what their own description says.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from cimrobust.data.decision import Decision
from cimrobust.review.replay_check import ReplayCheck

if TYPE_CHECKING:
    from cimrobust.certificate.models import DecisionBlock
    from cimrobust.data.dataset import DataSet
    from cimrobust.review.evaluated import Evaluated


def as_certified(certificate: Evaluated, dataset: DataSet) -> DataSet:
    """Return data read as the certificate says.

    Its decision with the axis that was found, its coding of labels, its output of several stored
    ones.
    """
    claimed, labels = certificate.data.decision, certificate.data.labels
    outputs = [output.name for output in certificate.model.outputs]
    index = outputs.index(claimed.output) if claimed.output in outputs else 0
    judged = replace(dataset.for_output(claimed.output, index), decision=_decision(claimed))
    if labels is None:
        return judged
    classes = None if labels.classes is None else tuple(labels.classes)
    return replace(
        judged,
        reading=replace(
            judged.reading, classes=classes, first=labels.first, ignore=tuple(labels.ignore)
        ),
    )


def reading_check(certificate: Evaluated, dataset: DataSet) -> ReplayCheck:
    """Compare how data describe themselves with how the certificate says they were read."""
    claimed, labels = certificate.data.decision, certificate.data.labels
    wanted, found = _decision(claimed), dataset.decision
    parts: dict[str, tuple[object, object]] = {
        "read": (found.read, wanted.read),
        "metric": (found.metric, wanted.metric),
        "value": (found.threshold, wanted.threshold),
        "k": (found.k, wanted.k),
    }
    if dataset.labels is not None:
        # Labels of the data always count; a network judged by its own decisions is right by
        # definition.
        parts["labels"] = ("given", certificate.data.label_source)
    if found.output is not None:
        parts["output"] = (found.output, wanted.output)
    if found.axis is not None and found.axis >= 0:
        parts["axis"] = (found.axis, wanted.axis)
    if labels is not None:
        coded = dataset.reading
        if coded.classes is not None:  # else the file of the network may have said them
            parts["classes"] = (list(coded.classes), labels.classes)
        parts["first"] = (coded.first, labels.first)
        parts["ignore"] = (list(coded.ignore), labels.ignore)
    wrong = [
        f"{key} {mine!r}, certified {theirs!r}"
        for key, (mine, theirs) in parts.items()
        if mine != theirs
    ]
    return ReplayCheck(
        "data_reading",
        not wrong,
        "; ".join(wrong) or f"read = {wanted.read} of output '{wanted.output}'",
    )


def _decision(claimed: DecisionBlock) -> Decision:
    threshold = claimed.threshold
    return Decision(
        output=claimed.output,
        read=claimed.read,
        metric=claimed.metric,
        threshold=tuple(threshold) if isinstance(threshold, list) else threshold,
        axis=claimed.axis,
        k=claimed.k or 1,
    )
