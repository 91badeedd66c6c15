"""Files of columns, read in batches: Parquet, and Arrow's own, which Feather of version 2 is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from cimrobust.errors import InputRefusedError
from cimrobust.input_file import printable

if TYPE_CHECKING:
    from io import BufferedReader
    from pathlib import Path

    import numpy as np
    from jaxtyping import Int64

#: Ends of the names of files of columns.
PARQUET_SUFFIX = ".parquet"
COLUMN_SUFFIXES = (PARQUET_SUFFIX, ".arrow", ".feather")
_BATCH = 256
# How a file of Arrow begins whose batches can be read in any order; others are read from the front.
_ARROW_FILE, _FEATHER_1 = b"ARROW1", b"FEA1"


class ParquetColumns:
    """An open Parquet file.

    Attributes:
        schema: Its columns.
        num_rows: Rows of each.
    """

    def __init__(self, stream: BufferedReader) -> None:
        stream.seek(0)
        self._opened = pq.ParquetFile(pa.PythonFile(stream, mode="r"))
        self.schema: pa.Schema = self._opened.schema_arrow
        self.num_rows = int(self._opened.metadata.num_rows)

    def parts(self, name: str, rows: Int64[np.ndarray, "wanted"]) -> Iterator[pa.Array]:
        """Yield the wanted rows of a column; row groups without any are passed over."""
        first, groups, begins = 0, [], []
        for group in range(self._opened.num_row_groups):
            count = int(self._opened.metadata.row_group(group).num_rows)
            if ((rows >= first) & (rows < first + count)).any():
                groups.append(group)
                begins.append(first)
            first += count
        for group, begin in zip(groups, begins, strict=True):
            batches = self._opened.iter_batches(
                _BATCH, row_groups=[group], columns=[name], use_threads=False
            )
            yield from _wanted(batches, rows, begin)


class ArrowColumns:
    """An open file in Arrow's own format, or a stream of it.

    Attributes:
        schema: Its columns.
        num_rows: Rows of each.
    """

    def __init__(self, stream: BufferedReader, path: Path) -> None:
        self._stream, self._path = stream, path
        self.schema: pa.Schema = self._reader(None).schema
        # Only whole batches say how many rows they have; one column of them is enough.
        column = 0 if self.schema.names else None
        self.num_rows = sum(batch.num_rows for batch in self._batches(column))

    def parts(self, name: str, rows: Int64[np.ndarray, "wanted"]) -> Iterator[pa.Array]:
        """Yield the wanted rows of a column."""
        return _wanted(self._batches(self.schema.get_field_index(name)), rows, 0)

    def _reader(
        self, column: int | None
    ) -> pa.ipc.RecordBatchReader | pa.ipc.RecordBatchFileReader:
        options = pa.ipc.IpcReadOptions(
            included_fields=None if column is None else [column], use_threads=False
        )
        self._stream.seek(0)
        begins = self._stream.read(len(_ARROW_FILE))
        if begins.startswith(_FEATHER_1):
            raise InputRefusedError(
                "Feather file must be of version 2, got version 1"
                f" ({printable(self._path)}); write it again with pyarrow.feather.write_feather"
            )
        self._stream.seek(0)
        source = pa.PythonFile(self._stream, mode="r")
        opened = pa.ipc.open_file if begins == _ARROW_FILE else pa.ipc.open_stream
        return opened(source, options=options)

    def _batches(self, column: int | None) -> Iterator[pa.RecordBatch]:
        """Yield the batches of a column, looked through: their offsets come from the file."""
        reader = self._reader(column)
        found = (
            (reader.get_batch(index) for index in range(reader.num_record_batches))
            if isinstance(reader, pa.ipc.RecordBatchFileReader)
            else iter(reader)
        )
        for batch in found:
            batch.validate(full=True)
            yield batch


def _wanted(
    batches: Iterator[pa.RecordBatch], rows: Int64[np.ndarray, "wanted"], first: int
) -> Iterator[pa.Array]:
    """Yield the wanted rows of batches of one column, whose first row is `first`."""
    for batch in batches:
        inside = rows[(rows >= first) & (rows < first + batch.num_rows)] - first
        first += batch.num_rows
        if inside.size:
            yield batch.column(0).take(pa.array(inside))
