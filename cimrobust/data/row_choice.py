"""Which samples of a file are wanted, settled before any of them is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64, Shaped

from cimrobust.data.labels import is_counted

#: Of so many samples that count, the places of those wanted, rising.
Keep = Callable[[int], Int64[np.ndarray, "wanted"]]


def first_of(limit: int | None) -> Keep:
    """Return a choice of the first so many samples; None: all."""

    def keep(num_counted: int) -> Int64[np.ndarray, "wanted"]:
        return np.arange(num_counted if limit is None else min(limit, num_counted), dtype=np.int64)

    return keep


@dataclass(frozen=True)
class RowChoice:
    """Which samples of a file are wanted.

    Attributes:
        keep: Chooses among the samples whose label is counted.
        label: Array that holds the labels; None: every sample is counted.
        ignore: Labels that are not counted.
    """

    keep: Keep
    label: str | None = None
    ignore: tuple[int, ...] = ()

    @property
    def needs_labels(self) -> bool:
        """Whether all labels have to be read before it is known which samples are wanted."""
        return self.label is not None and bool(self.ignore)

    def rows(
        self, num_rows: int, labels: Shaped[np.ndarray, "rows ..."] | None
    ) -> tuple[Int64[np.ndarray, "wanted"], int]:
        """Return the rows that are wanted, rising, and how many are not counted.

        Args:
            num_rows: Samples in the file.
            labels: All labels, where they are needed.
        """
        if labels is None or not self.needs_labels:
            return self.keep(num_rows), 0
        counted = np.flatnonzero(is_counted(labels, self.ignore)).astype(np.int64)
        return counted[self.keep(len(counted))], num_rows - len(counted)


def as_slices(rows: Int64[np.ndarray, "wanted"]) -> list[slice]:
    """Return rising rows as runs of rows that follow each other."""
    if not rows.size:
        return []
    ends = [*(np.flatnonzero(np.diff(rows) != 1) + 1).tolist(), len(rows)]
    starts = [0, *ends[:-1]]
    return [
        slice(int(rows[start]), int(rows[end - 1]) + 1)
        for start, end in zip(starts, ends, strict=True)
    ]


@dataclass(frozen=True)
class Wanted:
    """Which samples a caller wants, whatever they are read from.

    Attributes:
        limit: The first so many; None: all. Of images no more are looked at.
        chosen: Chooses others in place of the first ones.
    """

    limit: int | None = None
    chosen: Keep | None = None

    @property
    def keep(self) -> Keep:
        """The choice among samples whose label is counted."""
        return self.chosen or first_of(self.limit)

    def of(self, label: str | None, ignore: tuple[int, ...] = ()) -> RowChoice | None:
        """Return which rows of a file these are; None: all.

        Args:
            label: Array that holds the labels.
            ignore: Labels that are not counted.
        """
        is_all = self.limit is None and self.chosen is None
        return None if is_all else RowChoice(self.keep, label, ignore)
