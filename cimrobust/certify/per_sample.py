"""The certified bound sample by sample, as a file of columns."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cimrobust.array_shapes import Bool, Float64
from cimrobust.errors import InputRefusedError
from cimrobust.input_file import printable
from cimrobust.parquet_file import column, read_parquet

if TYPE_CHECKING:  # the table is read where nothing is proven
    from cimrobust.certify.bound_summary import Certification

_MAX_SAMPLES = 100_000_000
_COLUMNS = ("sample", "certified", "largest_tolerance_fraction")


@dataclass(frozen=True)
class PerSample:
    """What is proven of every sample.

    Attributes:
        certified: No chip of the stated tolerance breaks it, bool [samples]; False where it was not
            tried.
        tried: Whether it was tried, or is known to be broken by a chip, bool [samples].
        largest: Largest tolerance at which it is certified, as a fraction of the conductance range,
            float64 [samples]; 0: none was, or it was not tried; NaN: it was not asked for.
    """

    certified: Bool[np.ndarray, "samples"]
    tried: Bool[np.ndarray, "samples"]
    largest: Float64[np.ndarray, "samples"]


def per_sample(certification: Certification, tolerance: float) -> PerSample | None:
    """Return what is proven of every sample; None for a regression or without a bound.

    Args:
        certification: The certified bound.
        tolerance: The stated tolerance, a fraction of the conductance range.
    """
    if (
        certification.certified is None
        or certification.tried is None
        or certification.largest is None
    ):
        return None
    largest = np.full(len(certification.certified), np.nan)
    largest[: len(certification.largest)] = tolerance * certification.largest
    return PerSample(certification.certified, certification.tried, largest)


def to_parquet(table: PerSample, path: Path) -> None:
    """Write the table, whole or not at all.

    Columns sample, certified (null: not tried), largest_tolerance_fraction (null: not asked for).

    The same table gives the same bytes.
    """
    columns = {
        "sample": column(np.arange(len(table.certified))),
        "certified": column(table.certified, missing=~table.tried),
        "largest_tolerance_fraction": column(table.largest, missing=np.isnan(table.largest)),
    }
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        pq.write_table(pa.table(columns), temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def from_parquet(path: Path) -> PerSample:
    """Read a table that `to_parquet` wrote.

    Raises:
        InputRefusedError: The file is missing, corrupt, or no such table.
    """
    try:
        read = read_parquet(path, what="certified samples", max_rows=_MAX_SAMPLES)
        sample, certified, largest = (read.column(name).to_pylist() for name in _COLUMNS)
        if sample != list(range(len(sample))):
            raise ValueError("samples are not counted from 0")
        return PerSample(
            np.array([value is True for value in certified]),
            np.array([value is not None for value in certified]),
            np.array([np.nan if value is None else value for value in largest], dtype=np.float64),
        )
    except (KeyError, ValueError, TypeError, OverflowError, pa.ArrowException) as err:
        raise InputRefusedError(
            f"certified samples must be a table with columns {', '.join(_COLUMNS)}, got:"
            f" {printable(err)[:200]} ({printable(path)})"
        ) from err
