"""The training log as a table."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from cimrobust.input_file import refusing_what_fails
from cimrobust.parquet_file import read_parquet
from cimrobust.training.state import EpochRow

_MAX_EPOCHS = 1_000_000
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


def read_log(path: Path) -> dict[str, list[dict[str, int | float | bool | None]]]:
    """Read a training log.

    Returns by role the values of every epoch by name, null where nothing was measured.

    Raises:
        InputRefusedError: It is missing, or no such table.
    """
    read = read_parquet(path, what="training log", max_rows=_MAX_EPOCHS, texts=("role",))
    names = list(EpochRow.__dataclass_fields__)
    with refusing_what_fails(
        "training log must be a table of epochs", path, hint="take the file from where it was made"
    ):
        roles = read.column("role").to_pylist()
        columns = [read.column(name).to_pylist() for name in names]
        trainings: dict[str, list[dict[str, int | float | bool | None]]] = {}
        for role, *values in zip(roles, *columns, strict=True):
            finite = [
                None if isinstance(value, float) and not math.isfinite(value) else value
                for value in values
            ]
            trainings.setdefault(str(role), []).append(dict(zip(names, finite, strict=True)))
        return trainings
