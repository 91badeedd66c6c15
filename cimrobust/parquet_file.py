"""Tables from Parquet files that somebody else wrote."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cimrobust.available_memory import available_memory
from cimrobust.errors import InputRefusedError
from cimrobust.input_file import FileKind, printable, read_input, refusing_what_fails

if TYPE_CHECKING:
    from cimrobust.array_shapes import Bool, Shaped

_MAX_BYTES = 4 * 2**30
_MAX_COLUMNS = 64
_BYTES = 8


def read_parquet(path: Path, *, what: str, max_rows: int, texts: Collection[str] = ()) -> pa.Table:
    """Read a table: its numbers and truth values, and the texts that are named.

    What it takes is looked at first, because few bytes can stand for many equal rows, and for one
    long text in each of them.

    Args:
        path: The file.
        what: What messages call it, e.g. ``"trial table"``.
        max_rows: Most rows.
        texts: Columns that are read whatever they hold.

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
        wanted = [
            field.name
            for field in opened.schema_arrow
            if pa.types.is_primitive(field.type)
            or pa.types.is_null(field.type)
            or field.name in texts
        ]
        needed = _BYTES * rows * len(wanted)
        if 3 * needed > available_memory():
            raise InputRefusedError(
                f"{what} must fit into memory, got {needed} bytes of numbers ({printable(path)});"
                " use a larger machine"
            )
        return opened.read(columns=wanted, use_threads=False)


def numbers(column: pa.Array) -> Shaped[np.ndarray, "rows"]:
    """Return a column of numbers without nulls as an array, read-only where it shares memory.

    What `to_numpy` returns, which imports pandas where that is installed.

    Raises:
        TypeError: It holds something else, or nulls.
    """
    is_number = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
    if not is_number or column.null_count:
        raise TypeError(f"columns must hold numbers, got {column.type}, {column.null_count} null")
    return np.from_dlpack(column)


def column(
    values: Shaped[np.ndarray, "rows"], *, missing: Bool[np.ndarray, "rows"] | None = None
) -> pa.Array:
    """Return numbers or truth values as a column, of 64 bits or of one.

    What `pa.array` returns, which imports pandas where that is installed.

    Args:
        values: Whole numbers, floats or truth values.
        missing: Which are null; None: none is.
    """
    present = None if missing is None or not missing.any() else _bits(~missing)
    if values.dtype == np.bool_:
        return pa.Array.from_buffers(pa.bool_(), len(values), [present, _bits(values)])
    is_whole = np.issubdtype(values.dtype, np.integer)
    kind, dtype = (pa.int64(), np.int64) if is_whole else (pa.float64(), np.float64)
    content = pa.py_buffer(np.ascontiguousarray(values, dtype))
    return pa.Array.from_buffers(kind, len(values), [present, content])


def _bits(flags: Bool[np.ndarray, "rows"]) -> pa.Buffer:
    return pa.py_buffer(np.packbits(flags, bitorder="little"))
