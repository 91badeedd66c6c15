"""Columns of Parquet and Arrow files as arrays: numbers, lists, texts, and encoded images.

Images are as datasets on Hugging Face have them: bytes of a file, or a struct with them. A file is
read in batches, and of each only the rows that are wanted are kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from jaxtyping import Int64, Shaped

from cimrobust.data.array_files import MAX_BYTES, require_fit
from cimrobust.data.column_files import PARQUET_SUFFIX, ArrowColumns, ParquetColumns
from cimrobust.data.csv_files import label_of
from cimrobust.data.images import decoded_images
from cimrobust.data.row_choice import RowChoice, first_of
from cimrobust.data.sources import RawData, Taken
from cimrobust.errors import InputRefusedError, UsageError
from cimrobust.input_file import FileKind, open_input, printable, refusing_what_fails

if TYPE_CHECKING:
    from cimrobust.data.description import Step

_FILE = FileKind("data file", MAX_BYTES)
_MAX_COLUMNS = 10_000
_HINT = "check the file"


def read_parquet_columns(
    path: Path,
    names: set[str] | None,
    steps: Callable[[str], Sequence[Step]],
    choice: RowChoice | None,
) -> RawData:
    """Read columns by their names.

    Where no column has the name, ``y`` is the column called label, labels, y, target or class, else
    the last, and ``x`` all other columns of single numbers side by side.

    Args:
        path: The file.
        names: Arrays wanted; None: every column that is an array, and ``x`` of several columns.
        steps: Given an array, what is done to each of its images.
        choice: Rows wanted; None: all.

    Raises:
        UsageError: There is no such column.
        InputRefusedError: The file is damaged, or a column has gaps or rows of several shapes.
    """
    with (
        open_input(path, _FILE) as stream,
        refusing_what_fails(f"data file must be a sound {_called(path)} file", path, hint=_HINT),
    ):
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        table = _Table(stream, path)
        columns = table.columns_of(names)
        choice = choice or RowChoice(first_of(None))
        labels = None
        if choice.needs_labels and choice.label in columns:
            every = np.arange(table.num_rows, dtype=np.int64)
            labels = table.array(columns[str(choice.label)], every, ())
        rows, num_ignored = choice.rows(table.num_rows, labels)
        # The caller refuses data of which nothing is counted.
        rows = rows if rows.size or not table.num_rows else np.zeros(1, dtype=np.int64)
        arrays = {name: table.array(column, rows, steps(name)) for name, column in columns.items()}
        lengths = dict.fromkeys(arrays, table.num_rows)
        images = frozenset(name for name in columns if table.has_images(columns[name]))
        unread = {} if names is not None else table.unread()
    taken = Taken(lengths, num_ignored)
    return RawData(arrays, {path.name: digest}, taken=taken, images=images, unread=unread)


def _called(path: Path) -> str:
    return "Parquet" if path.suffix == PARQUET_SUFFIX else "Arrow"


def no_steps(_array: str) -> tuple[Step, ...]:
    """Return that nothing is done to images."""
    return ()


class _Table:
    """An open file."""

    def __init__(self, stream: BufferedReader, path: Path) -> None:
        is_parquet = path.suffix == PARQUET_SUFFIX
        self._opened = ParquetColumns(stream) if is_parquet else ArrowColumns(stream, path)
        self._path = path
        self._schema = self._opened.schema
        self.num_rows = self._opened.num_rows
        repeated = len(set(self._schema.names)) < len(self._schema.names)
        if repeated or len(self._schema.names) > _MAX_COLUMNS:
            raise InputRefusedError(
                f"data file must have at most {_MAX_COLUMNS} columns with names of their own,"
                f" got {len(self._schema.names)} ({printable(path)}); {_HINT}"
            )

    def columns_of(self, names: set[str] | None) -> dict[str, str | tuple[str, ...]]:
        """Return by array that is wanted and there: its column, or those that lie side by side."""
        known = self._schema.names
        found: dict[str, str | tuple[str, ...]]
        if names is None:
            found = {name: name for name in known if _is_array(self._schema.field(name).type)}
        else:
            found = {name: name for name in sorted(names & {*known})}
        if not known:
            return found
        label = label_of(known)
        single = tuple(
            name for name in known if name != label and _is_number(self._schema.field(name).type)
        )
        if names is None:
            names = {"x"} if len(single) > 1 else set()
        if "y" in names and "y" not in known:
            found["y"] = label
        if "x" in names and "x" not in known and single:
            found["x"] = single
        return found

    def unread(self) -> dict[str, str]:
        """Return the columns that are no arrays, with what they hold."""
        return {
            name: printable(kind)[:100]
            for name, kind in zip(self._schema.names, self._schema.types, strict=True)
            if not _is_array(kind)
        }

    def array(
        self,
        columns: str | tuple[str, ...],
        rows: Int64[np.ndarray, "wanted"],
        steps: Sequence[Step],
    ) -> Shaped[np.ndarray, "wanted ..."]:
        """Return rows of a column, or of several side by side."""
        if isinstance(columns, str):
            return self._column(columns, rows, steps)
        return np.stack([self._column(name, rows, ()) for name in columns], axis=1)

    def has_images(self, columns: str | tuple[str, ...]) -> bool:
        """Tell whether a column holds encoded images."""
        return isinstance(columns, str) and _bytes_of(self._schema.field(columns).type) is not None

    def _column(
        self, name: str, rows: Int64[np.ndarray, "wanted"], steps: Sequence[Step]
    ) -> Shaped[np.ndarray, "wanted ..."]:
        where = f"{printable(self._path)}, column '{printable(name)[:100]}'"
        kind = self._schema.field(name).type
        if not _is_array(kind):
            raise UsageError(
                "columns must hold numbers, lists of numbers, texts or encoded images, got"
                f" {printable(kind)[:100]} ({where}); save it as one of them"
            )
        if _bytes_of(kind) is not None:
            parts = self._opened.parts(name, rows)
            contents = ((content, where) for part in parts for content in _contents(part, where))
            return decoded_images(contents, len(rows), where, steps)
        found: list[Shaped[np.ndarray, "_rows ..."]] = []
        for part in self._opened.parts(name, rows):
            found.append(_values(part, where))
            if len(found) == 1:
                each = found[0].nbytes // max(len(found[0]), 1)
                require_fit(2 * len(rows) * each, what="column and its parts", where=self._path)
        shapes = sorted({values.shape[1:] for values in found})
        if len(shapes) > 1:
            raise _uneven(f"shapes {shapes[:3]}", where)
        return np.concatenate(found) if found else np.empty(0)


def _is_number(kind: pa.DataType) -> bool:
    kinds = (
        pa.types.is_integer,
        pa.types.is_floating,
        pa.types.is_boolean,
        pa.types.is_decimal,
    )
    return any(fits(kind) for fits in kinds)


def _is_list(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )


def _is_text(kind: pa.DataType) -> bool:
    plain = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(plain) or pa.types.is_large_string(plain))


def _bytes_of(kind: pa.DataType) -> str | None:
    """Return where the bytes of encoded images are: in a field, or ("") the column itself."""
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return ""
    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        return "bytes" if _bytes_of(kind.field("bytes").type) == "" else None
    return None


def _is_array(kind: pa.DataType) -> bool:
    inner = kind.storage_type if isinstance(kind, pa.FixedShapeTensorType) else kind
    while _is_list(inner):
        inner = inner.value_type
    return _is_number(inner) or _is_text(kind) or _bytes_of(kind) is not None


def _contents(part: pa.Array, where: str) -> Iterator[bytes]:
    field = _bytes_of(part.type)
    for content in part.field(field) if field else part:
        if not content.is_valid:
            raise _uneven("a gap", where)
        yield content.as_py()


def _values(part: pa.Array, where: str) -> Shaped[np.ndarray, "rows ..."]:
    """Return numbers or texts; lists of one length give further axes, tensors their own."""
    if isinstance(part.type, pa.FixedShapeTensorType):
        order = part.type.permutation or range(len(part.type.shape))
        flat = _values(part.storage, where).reshape(len(part), *part.type.shape)
        return flat.transpose(0, *(1 + axis for axis in order))
    shape = [len(part)]
    while _is_list(part.type):
        lengths = np.unique(np.asarray(part.value_lengths().to_numpy(zero_copy_only=False)))
        if part.null_count or len(lengths) > 1:
            raise _uneven(f"lists of lengths {lengths[:3].tolist()}, or gaps", where)
        shape.append(int(lengths[0]) if len(lengths) else 0)
        part = part.flatten()
    if part.null_count:
        raise _uneven("a gap", where)
    if pa.types.is_decimal(part.type):
        part = part.cast(pa.float64())
    values = np.asarray(part.to_numpy(zero_copy_only=False))
    return (values.astype(str) if _is_text(part.type) else values).reshape(shape)


def _uneven(got: str, where: str) -> InputRefusedError:
    return InputRefusedError(
        f"column must have a value of one shape in every row, got {got} ({where}); clean the data"
    )
