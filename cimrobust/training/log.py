"""The training log as a table."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from cimrobust.training.state import EpochRow

_TYPES = {"int": pa.int64(), "float": pa.float64(), "bool": pa.bool_()}


def write_log(path: Path, trainings: Mapping[str, Sequence[EpochRow]]) -> None:
    """Write one row an epoch of every training, whole or not at all.

    Args:
        path: The file.
        trainings: Epochs by role, ``method`` or ``control``; it is the first column.
    """
    rows = [(role, row) for role, epochs in trainings.items() for row in epochs]
    columns: dict[str, pa.Array] = {"role": pa.array([role for role, _ in rows], pa.string())}
    for name, field in EpochRow.__dataclass_fields__.items():
        columns[name] = pa.array([getattr(row, name) for _, row in rows], _TYPES[str(field.type)])
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        pq.write_table(pa.table(columns), temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
