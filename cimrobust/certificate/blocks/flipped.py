"""Inputs that are decided right without deviation and wrong on the worst chip found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from cimrobust.certificate import models
from cimrobust.certificate.blocks.picture import is_image, picture, png_base64
from cimrobust.data.failure import margins_of

if TYPE_CHECKING:
    from cimrobust.array_shapes import Float64, Int64, Real, Shaped
    from cimrobust.certificate.evidence import Evidence
    from cimrobust.data.task import Task

#: Inputs shown at most, and what they may take together: values of signals and tables, bytes of
#: pictures.
MOST_SHOWN = 12
_MOST_VALUES = 1024
_MOST_BYTES = 16_384
_MOST_POINTS = 256
_MOST_CELLS = 30
_CHOICE = (
    "Of every kind of wrong decision, the most frequent first, the input with the largest margin"
    " without deviation; then the next of every kind."
)


def flipped(evidence: Evidence) -> tuple[models.Flipped | None, str | None]:
    """Describe inputs that flip; None with the reason where there are none to show."""
    task, dataset = evidence.runtime.task, evidence.runtime.dataset
    if task.is_regression:
        return None, "a regression has no decisions"
    if task.labels.size != dataset.num_samples:
        return None, "a sample has several decisions"
    clean, worst = evidence.runtime.clean_output, evidence.worst_output
    lost = np.flatnonzero(
        task.right(clean).ravel() & ~task.right(worst).ravel() & task.counted.ravel()
    )
    if lost.size == 0:
        return None, "the worst chip found decides no input wrong that is right without deviation"
    name, array = max(dataset.inputs.items(), key=lambda entry: entry[1][0].size)
    if array.dtype.kind not in "fiub":
        return None, f"input '{name}' is of {array.dtype}"
    form = _form(array.shape[1:])
    decisions, margins = task.decide(worst).ravel(), _all_margins(task, clean)
    shown = _chosen(lost, task.labels.ravel()[lost], decisions[lost], margins[lost])
    after = _all_margins(task, worst)
    rows = [
        models.FlippedInput(
            sample=int(index),
            label=int(task.labels.ravel()[index]),
            becomes=int(decisions[index]),
            margin=_finite(margins[index]),
            worst_margin=_finite(after[index]),
            picture=png_base64(picture(array[index])) if form == "image" else None,
            values=None if form == "image" else _values(array[index]),
        )
        for index in shown[: _most(form, array[0])]
    ]
    shape = picture(array[0]).shape if form == "image" else (len(rows[0].values or []),)
    return (
        models.Flipped(
            count=int(lost.size),
            form=form,
            input=name,
            shape=[int(size) for size in array.shape[1:]],
            shown_shape=[int(size) for size in shape],
            choice=_CHOICE,
            rows=rows,
        ),
        None,
    )


def _form(shape: tuple[int, ...]) -> Literal["image", "signal", "table"]:
    if is_image(shape):
        return "image"
    return (
        "signal"
        if int(np.prod(shape)) > _MOST_CELLS and max(shape) == int(np.prod(shape))
        else "table"
    )


def _most(form: str, one: Real[np.ndarray, "..."]) -> int:
    """Return how many inputs are shown, so that the certificate stays small."""
    if form == "image":
        return max(1, min(MOST_SHOWN, _MOST_BYTES // len(png_base64(picture(one)))))
    return max(1, min(MOST_SHOWN, _MOST_VALUES // len(_values(one))))


def _values(one: Real[np.ndarray, "..."]) -> list[float]:
    """Return an input as numbers of four significant digits.

    Every so many of a long signal, the first of a table.
    """
    flat = np.nan_to_num(np.asarray(one, dtype=np.float64).ravel())
    kept = (
        flat[:: -(-flat.size // _MOST_POINTS)]
        if _form(one.shape) == "signal"
        else flat[:_MOST_CELLS]
    )
    return [float(f"{value:.4g}") for value in kept]


def _all_margins(
    task: Task, output: Shaped[np.ndarray, "samples *outputs"]
) -> Float64[np.ndarray, "decisions"]:
    """Return the margin of every decision.

    NaN where the output is the decision itself, or the decision is not counted.
    """
    margins = np.full(task.labels.size, np.nan)
    if task.decision.read != "label":
        margins[task.counted.ravel()] = margins_of(task, output)
    return margins


def _chosen(
    lost: Int64[np.ndarray, "lost"],
    labels: Int64[np.ndarray, "lost"],
    decisions: Int64[np.ndarray, "lost"],
    margins: Float64[np.ndarray, "lost"],
) -> list[int]:
    """Return inputs in the order in which they are shown, see `_CHOICE`."""
    kinds: dict[tuple[int, int], list[int]] = {}
    for place in np.lexsort((lost, -np.nan_to_num(margins))):
        kinds.setdefault((int(labels[place]), int(decisions[place])), []).append(int(lost[place]))
    ordered = sorted(kinds.items(), key=lambda entry: (-len(entry[1]), entry[0]))
    turns = max(len(samples) for samples in kinds.values())
    return [samples[turn] for turn in range(turns) for _, samples in ordered if turn < len(samples)]


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
