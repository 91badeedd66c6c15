"""Arrays from files that nobody vouches for.

Sizes are checked before memory is taken, and nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int64, Shaped

from cimrobust.available_memory import available_memory
from cimrobust.data.member_rows import ArrayHeader, read_header, read_rows
from cimrobust.errors import InputRefusedError, UsageError
from cimrobust.input_file import FileKind, open_input, printable, refusing_what_fails

if TYPE_CHECKING:
    from cimrobust.data.row_choice import RowChoice

_KINDS = "biufUS"

#: Largest data file that is opened.
MAX_BYTES = 32 * 2**30

#: Most arrays in an archive: its directory is read into memory whole.
MAX_MEMBERS = 100_000

#: Most axes of an array, and the longest one.
_MAX_AXES, _MAX_LENGTH = 32, 2**40

#: Share of the free memory that raw arrays may take; preprocessing makes a copy in another type.
_SHARE = 0.5

_DATA = FileKind("data file", MAX_BYTES)
_HINT = "write it again with numpy.savez"


@dataclass(frozen=True)
class ArraysRead:
    """What was read of a file of arrays.

    Attributes:
        arrays: By name, the wanted rows of each.
        digest: SHA-256 digest of the whole file.
        lengths: How many rows each of them has in the file; a single number has 0.
        num_ignored: Rows of these whose label is not counted.
    """

    arrays: Mapping[str, Shaped[np.ndarray, "..."]]
    digest: str
    lengths: Mapping[str, int]
    num_ignored: int


def require_fit(
    num_bytes: int, *, what: str, where: object, hint: str = "keep fewer samples in the file"
) -> None:
    """Raise InputRefusedError unless so much raw data fits in the memory that is left."""
    allowed = int(_SHARE * available_memory())
    if num_bytes > allowed:
        raise InputRefusedError(
            f"{what} must fit in half of the free memory, {allowed} bytes, got {num_bytes} bytes"
            f" ({printable(where)}); {hint}"
        )


def read_npz(path: Path, names: set[str]) -> tuple[dict[str, Shaped[np.ndarray, "..."]], str]:
    """Read named arrays of an .npz file.

    Args:
        path: The file.
        names: Arrays wanted.

    Returns:
        The arrays, and the SHA-256 digest of the file.

    Raises:
        UsageError: There is no such file or array.
        InputRefusedError: The file is corrupt, larger than it may be, or holds objects.
    """
    read = read_rows_of_npz(path, names, None)
    return dict(read.arrays), read.digest


def read_rows_of_npz(path: Path, names: set[str], choice: RowChoice | None) -> ArraysRead:
    """Read the wanted rows of named arrays of an .npz file; the others take no memory.

    Arrays of different lengths are told apart by `ArraysRead.lengths`, and read no further than
    their first row.

    Args:
        path: The file.
        names: Arrays wanted.
        choice: Rows wanted of each; None: all, however many each has.

    Raises:
        UsageError: There is no such file or array.
        InputRefusedError: The file is corrupt, what is wanted is larger than it may be, or holds
            objects.
    """
    with open_input(path, _DATA) as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        stream.seek(0)
        return _read_archive(stream, names, path, choice, digest)


def names_in_npz(path: Path) -> list[str]:
    """Return the names of the arrays of an .npz file, in its order; errors as `read_npz`.

    What else an archive holds (a readme, the folder that macOS adds) is no array.
    """
    with (
        open_input(path, _DATA) as stream,
        refusing_what_fails("data file must be a complete .npz archive", path, hint=_HINT),
        zipfile.ZipFile(stream) as archive,
    ):
        files = [info.filename for info in archive.infolist()[:MAX_MEMBERS]]
    names = [
        name.removesuffix(".npy")
        for name in files
        if name.endswith(".npy") and not name.startswith("__MACOSX/")
    ]
    if not names:
        raise InputRefusedError(
            f"data file must hold arrays, got {files[:3] or 'an empty archive'}"
            f" ({printable(path)}); {_HINT}"
        )
    return names


def _read_archive(
    stream: BufferedReader, names: set[str], path: Path, choice: RowChoice | None, digest: str
) -> ArraysRead:
    with (
        refusing_what_fails("data file must be a complete .npz archive", path, hint=_HINT),
        zipfile.ZipFile(stream) as archive,
    ):
        members = _members(archive.infolist(), names, path)
        headers = {
            name: _header_of(archive, info, f"{path}, array '{name}'")
            for name, info in sorted(members.items())
        }
        rows, num_ignored = _wanted(archive, members, headers, path, choice)
        _require_fit(
            sum(
                members[name].file_size if rows is None else _kept(header, rows)[1]
                for name, header in headers.items()
            ),
            path,
        )
        arrays = {
            name: _read_member(
                archive,
                members[name],
                header,
                None if rows is None else _kept(header, rows)[0],
                f"{path}, array '{name}'",
            )
            for name, header in headers.items()
        }
    lengths = {name: header.num_rows for name, header in headers.items()}
    return ArraysRead(arrays, digest, lengths, num_ignored)


def _wanted(
    archive: zipfile.ZipFile,
    members: Mapping[str, zipfile.ZipInfo],
    headers: Mapping[str, ArrayHeader],
    path: Path,
    choice: RowChoice | None,
) -> tuple[Int64[np.ndarray, "wanted"] | None, int]:
    """Return the rows that are wanted, None: all, and how many rows are not counted.

    The first alone where the caller will refuse the file: of arrays of different lengths, and
    where no row is counted.
    """
    first = np.arange(1, dtype=np.int64)
    count, *others = {header.num_rows for header in headers.values()}
    if choice is None or others:
        return (None if choice is None else first), 0
    labels, label = None, choice.label
    if choice.needs_labels and label is not None and label in headers:
        _require_fit(headers[label].num_bytes, path)
        labels = _read_member(
            archive, members[label], headers[label], None, f"{path}, array '{label}'"
        )
    rows, num_ignored = choice.rows(count, labels)
    if num_ignored == count:
        return first, num_ignored
    return (None if len(rows) == count else rows), num_ignored


def _kept(
    header: ArrayHeader, rows: Int64[np.ndarray, "wanted"]
) -> tuple[Int64[np.ndarray, "wanted"], int]:
    """Return the rows that an array has, and their bytes; a single number has none and is kept."""
    kept = rows[rows < header.num_rows]
    return kept, len(kept) * header.row_bytes if header.shape else header.num_bytes


def _require_fit(num_bytes: int, path: Path) -> None:
    require_fit(
        num_bytes,
        what="arrays of a data file",
        where=path,
        hint="use fewer samples (--limit), or keep fewer in the file",
    )


def _members(
    infos: Iterable[zipfile.ZipInfo], names: set[str], path: Path
) -> dict[str, zipfile.ZipInfo]:
    """Return the wanted entries of an archive's directory."""
    entries = list(infos)
    if len(entries) > MAX_MEMBERS:
        raise InputRefusedError(
            f"data file must hold at most {MAX_MEMBERS} arrays, got {len(entries)}"
            f" ({printable(path)}); {_HINT}"
        )
    members = {info.filename.removesuffix(".npy"): info for info in entries}
    missing = sorted(names - members.keys())
    if missing:
        raise UsageError(
            f"data file must hold the arrays {sorted(names)}, got"
            f" {[printable(name)[:100] for name in sorted(members)[:20]]} without {missing}"
            f" ({printable(path)}); check [[input]] array and [label] array"
        )
    if len(members) < len(entries):
        raise InputRefusedError(
            f"data file must name each array once, got repeated names ({printable(path)}); {_HINT}"
        )
    return {name: members[name] for name in names}


def _header_of(archive: zipfile.ZipFile, info: zipfile.ZipInfo, where: str) -> ArrayHeader:
    """Read the header of an array, and refuse what it says before any of the data is unpacked."""
    with (
        refusing_what_fails("array must be in NumPy's format", where, hint=_HINT),
        archive.open(info) as stream,
    ):
        header = read_header(stream)
        size = stream.tell() + header.num_bytes
    if header.dtype.kind not in _KINDS:
        raise InputRefusedError(
            f"array must hold real numbers or text, got type {printable(header.dtype)[:100]}"
            f" ({where}); convert it before it is saved: objects by astype(float) or astype(str),"
            " dates to numbers, complex numbers to pairs of real ones"
        )
    if (
        header.dtype.itemsize < 1
        or len(header.shape) > _MAX_AXES
        or min(header.shape, default=0) < 0
        or max(header.shape, default=0) > _MAX_LENGTH
        or size != info.file_size
    ):
        raise InputRefusedError(
            f"array must fit its file, got shape {list(header.shape)[:_MAX_AXES]} of {header.dtype}"
            f" in {info.file_size} bytes ({where}); {_HINT}"
        )
    return header


def _read_member(
    archive: zipfile.ZipFile,
    info: zipfile.ZipInfo,
    header: ArrayHeader,
    rows: Int64[np.ndarray, "wanted"] | None,
    where: str,
) -> Shaped[np.ndarray, "..."]:
    with (
        refusing_what_fails("array must be readable, not damaged", where, hint=_HINT),
        archive.open(info) as stream,
    ):
        read_header(stream)
        values = read_rows(stream, header, rows, where=where, hint=_HINT)
        if header.dtype.kind == "S":
            return np.asarray(np.char.decode(values, "utf-8"))
        return values
