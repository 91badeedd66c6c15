"""Tables from Parquet files that somebody else wrote."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cimrobust.errors import InputRefusedError
from cimrobust.input_file import FileKind, printable, read_input, refusing_what_fails
from cimrobust.shapes import Shaped

_MAX_BYTES = 4 * 2**30
_MAX_COLUMNS = 1000


def read_parquet(path: Path, *, what: str, max_rows: int) -> pa.Table:
    """Read a table.

    The number of rows is looked at first, because few bytes can stand for many equal rows.

    Args:
        path: The file.
        what: What messages call it, e.g. ``"trial table"``.
        max_rows: Most rows.

    Raises:
        InputRefusedError: It is missing, too large, or no Parquet file.
    """
    content = read_input(
        path, FileKind(what, _MAX_BYTES, missing=InputRefusedError, hint="make it again")
    )
    with refusing_what_fails(f"{what} must be a Parquet file", path, hint="make it again"):
        opened = pq.ParquetFile(pa.BufferReader(content))
        rows, columns = opened.metadata.num_rows, opened.metadata.num_columns
        if rows > max_rows or columns > _MAX_COLUMNS:
            raise InputRefusedError(
                f"{what} must have at most {max_rows} rows and {_MAX_COLUMNS} columns, got {rows}"
                f" and {columns} ({printable(path)}); make it again"
            )
        return opened.read(use_threads=False)


def numbers(column: pa.Array) -> Shaped[np.ndarray, "rows"]:
    """Return a column of numbers without nulls as an array, read-only where it shares memory.

    What `to_numpy` returns, which imports pandas where that is installed.

    Raises:
        TypeError: It holds something else.
        pa.ArrowException: It holds something else, or nulls.
    """
    return np.from_dlpack(column)
