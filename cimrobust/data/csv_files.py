"""Tables of numbers in CSV files.

``y`` is the column called label, labels, y, target or class, else the last; ``x`` is all others;
every other array is the column of its name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
from jaxtyping import Int64, Shaped

from cimrobust.data.array_files import MAX_BYTES, ArraysRead, require_fit
from cimrobust.errors import InputRefusedError
from cimrobust.input_file import FileKind, open_input, read_input, refusing_what_fails

if TYPE_CHECKING:
    from cimrobust.data.row_choice import RowChoice

_CSV = FileKind("data file", MAX_BYTES)
_LABEL_COLUMNS = ("label", "labels", "y", "target", "class")
# What else parts columns in files that are called CSV.
_OTHER_MARKS = (";", "\t", "|")
_HINT = "check its rows"


def read_table(path: Path, choice: RowChoice | None, names: Collection[str]) -> ArraysRead:
    """Read the wanted rows of a CSV file with a header.

    Args:
        path: The file.
        names: Arrays wanted; those that are no columns are left out.
        choice: Rows wanted; None: all.

    Raises:
        InputRefusedError: It is not a table of numbers.
    """
    read = None if choice is None else _streamed(path, choice, names)
    return _whole(path, names) if read is None else read


def _whole(path: Path, names: Collection[str]) -> ArraysRead:
    content = read_input(path, _CSV)
    require_fit(3 * len(content), what="CSV, its columns and their copy", where=path)
    _require_utf8(content, path)
    _require_commas(content.partition(b"\n")[0].decode("utf-8"), path)
    with refusing_what_fails("CSV must be a table with a header", path, hint=_HINT):
        table = pa_csv.read_csv(pa.BufferReader(content))
        _require_header(table.column_names, path)
        if not table.num_rows:
            raise InputRefusedError(
                f"CSV must have rows below its header, got none ({path}); give one a sample"
            )
        columns = {name: _values(table.column(name)) for name in table.column_names}
    label = label_of(table.column_names)
    arrays = _arrays(columns, label, names, path)
    lengths = dict.fromkeys(arrays, table.num_rows)
    return ArraysRead(arrays, hashlib.sha256(content).hexdigest(), lengths, 0)


def _streamed(path: Path, choice: RowChoice, wanted: Collection[str]) -> ArraysRead | None:
    """Return the wanted rows, of which alone all columns are kept.

    None where the file has to be read whole: where a column turns out to be of another type
    further down, the types of all its rows decide, and labels that are the features themselves
    are no column.
    """
    if choice.needs_labels and choice.label != "y":
        return None
    with open_input(path, _CSV) as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        try:
            schema = _opened(stream, None).schema
            if any(pa.types.is_binary(kind) for kind in schema.types):  # no UTF-8
                return None
            names = schema.names
            label = label_of(names)
            labels = _as_text(_values(pa.chunked_array(_column(stream, label))))
            rows, num_ignored = choice.rows(len(labels), labels)
            if not rows.size:
                return None
            columns = _rows_of(stream, rows)
        except (pa.ArrowInvalid, UnicodeDecodeError):
            return None
    _require_commas(names[0] if len(names) == 1 else ",", path)
    _require_header(names, path)
    arrays = _arrays({**columns, label: labels[rows]}, label, wanted, path)
    return ArraysRead(arrays, digest, dict.fromkeys(arrays, len(labels)), num_ignored)


def _opened(stream: BufferedReader, column: str | None) -> pa_csv.CSVStreamingReader:
    """Return a reader of the file from its start, of one column or all."""
    stream.seek(0)
    return pa_csv.open_csv(
        pa.PythonFile(stream, mode="r"),
        convert_options=pa_csv.ConvertOptions(include_columns=None if column is None else [column]),
    )


def _column(stream: BufferedReader, name: str) -> Iterator[pa.Array]:
    for batch in _opened(stream, name):
        yield batch.column(0)


def _rows_of(
    stream: BufferedReader, rows: Int64[np.ndarray, "wanted"]
) -> dict[str, Shaped[np.ndarray, "wanted"]]:
    """Return rows of every column; reads on to the end, since all rows settle its type."""
    found, first = [], 0
    for batch in _opened(stream, None):
        inside = rows[(rows >= first) & (rows < first + batch.num_rows)] - first
        found.append(batch.take(pa.array(inside)))
        first += batch.num_rows
    table = pa.Table.from_batches(found)
    return {name: _values(table.column(name)) for name in table.column_names}


def _values(column: pa.ChunkedArray) -> Shaped[np.ndarray, "rows"]:
    return np.asarray(column.to_numpy(zero_copy_only=False))


def label_of(names: Sequence[str]) -> str:
    """Return the column of the labels: the one that is called so, else the last."""
    return next((name for name in names if name.strip().lower() in _LABEL_COLUMNS), names[-1])


def _as_text(values: Shaped[np.ndarray, "rows"]) -> Shaped[np.ndarray, "rows"]:
    """Return texts as NumPy's; everything else as it is."""
    if values.dtype.kind == "O" and all(isinstance(value, str) for value in values):
        return values.astype(str)
    return values


def _arrays(
    columns: Mapping[str, Shaped[np.ndarray, "rows"]],
    label: str,
    names: Collection[str],
    path: Path,
) -> dict[str, Shaped[np.ndarray, "rows ..."]]:
    """Return the wanted arrays; the features side by side only where they are wanted."""
    texts = {name: _as_text(values) for name, values in columns.items()}
    by_name = {
        name: values for name, values in texts.items() if name in names and name not in ("x", "y")
    }
    features = [name for name in columns if name != label] if "x" in names or not by_name else []
    _require_numbers(texts, [label, *by_name], features, path)
    side_by_side = {"x": np.stack([columns[name] for name in features], axis=1)} if features else {}
    return {**side_by_side, **by_name, "y": texts[label]}


def _require_numbers(
    columns: Mapping[str, Shaped[np.ndarray, "rows"]],
    alone: Sequence[str],
    features: Sequence[str],
    path: Path,
) -> None:
    """Refuse features that are no numbers, and columns that are neither numbers nor text."""
    text = [name for name in features if columns[name].dtype.kind not in "biuf"]
    text += [name for name in alone if columns[name].dtype.kind not in "biufU"]
    if text or len(columns) < 2:
        raise InputRefusedError(
            f"CSV must have at least two columns of numbers, got text in {text} of {list(columns)}"
            f" ({path}); code text as numbers"
        )


def _require_utf8(content: bytes, path: Path) -> None:
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as err:
        raise InputRefusedError(
            f"CSV must be text in UTF-8, got byte 0x{content[err.start]:02x} at {err.start}"
            f" ({path}); save the table in UTF-8"
        ) from err


def _require_commas(first: str, path: Path) -> None:
    """Refuse columns that are parted by something else, as spreadsheets of many countries do."""
    other = next((mark for mark in _OTHER_MARKS if mark in first), None)
    if other is not None and "," not in first:
        raise InputRefusedError(
            f"CSV columns must be parted by commas, got {other!r} ({path}, row 1); save the table"
            " with commas between columns and points in numbers"
        )


def _require_header(names: Sequence[str], path: Path) -> None:
    """Refuse a first row that is no header: its numbers would be lost as names, or repeat."""
    repeated = sorted({name for name in names if names.count(name) > 1})
    if all(_is_number(name) for name in names):
        raise InputRefusedError(
            f"CSV must begin with a row of column names, got numbers ({path}, row 1); add a header"
        )
    if repeated:
        raise InputRefusedError(
            f"CSV columns must have names of their own, got {repeated[:5]} more than once ({path},"
            " row 1); rename them"
        )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
