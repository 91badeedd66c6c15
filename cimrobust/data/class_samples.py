"""The samples of one class."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int64

from cimrobust.errors import UsageError

if TYPE_CHECKING:
    from cimrobust.data.task import Task


def samples_of(task: Task, label: int) -> Int64[np.ndarray, "some"]:
    """Return the indices of the samples of a class."""
    return np.flatnonzero(task.labels == label)


def check_safety_class(task: Task, label: int) -> None:
    """Check that a class can be attacked.

    Raises:
        UsageError: There is no such class, or no sample of it.
    """
    if task.num_classes is None or task.labels.ndim != 1:
        what = "a regression" if task.is_regression else "samples with several decisions"
        raise UsageError(
            f"safety class needs one decision a sample, got {what} (--safety-class); leave the"
            " option out"
        )
    if not 0 <= label < task.num_classes or not samples_of(task, label).size:
        there = ", ".join(str(value) for value in np.unique(task.labels)[:20])
        raise UsageError(
            f"safety class must be a class with samples, got {label} (--safety-class); labels of"
            f" these samples: {there}"
        )
