"""Arrays from files that nobody vouches for.

Sizes are checked before memory is taken, and nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import math
import warnings
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import IO, Any

import numpy as np
from jaxtyping import Shaped
from numpy.lib import format as npy_format

from cimrobust.available_memory import available_memory
from cimrobust.errors import InputRefusedError, UsageError
from cimrobust.input_file import FileKind, open_input, printable, refusing_what_fails

_KINDS = "biufU"

#: Largest data file that is opened.
MAX_BYTES = 32 * 2**30

#: Most arrays in an archive: its directory is read into memory whole.
MAX_MEMBERS = 100_000

#: Most axes of an array, and the longest one.
_MAX_AXES, _MAX_LENGTH = 32, 2**40

#: Share of the free memory that raw arrays may take; preprocessing makes a copy in another type.
_SHARE = 0.5

_CHUNK = 2**24
_DATA = FileKind("data file", MAX_BYTES)
_HINT = "write it again with numpy.savez"


@dataclass(frozen=True)
class _Header:
    """What the header of one array says."""

    shape: tuple[int, ...]
    is_fortran: bool
    dtype: np.dtype[Any]

    @property
    def num_bytes(self) -> int:
        return self.dtype.itemsize * math.prod(self.shape)


def require_fit(num_bytes: int, *, what: str, where: object) -> None:
    """Raise InputRefusedError unless so much raw data fits in the memory that is left."""
    allowed = int(_SHARE * available_memory())
    if num_bytes > allowed:
        raise InputRefusedError(
            f"{what} must fit in half of the free memory, {allowed} bytes, got {num_bytes} bytes"
            f" ({printable(where)}); keep fewer samples in the file"
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
    with open_input(path, _DATA) as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        stream.seek(0)
        return _read_archive(stream, names, path), digest


def names_in_npz(path: Path) -> list[str]:
    """Return the names of the arrays of an .npz file, in its order; errors as `read_npz`."""
    with (
        open_input(path, _DATA) as stream,
        refusing_what_fails("data file must be a complete .npz archive", path, hint=_HINT),
        zipfile.ZipFile(stream) as archive,
    ):
        return [info.filename.removesuffix(".npy") for info in archive.infolist()[:MAX_MEMBERS]]


def _read_archive(
    stream: BufferedReader, names: set[str], path: Path
) -> dict[str, Shaped[np.ndarray, "..."]]:
    with (
        refusing_what_fails("data file must be a complete .npz archive", path, hint=_HINT),
        zipfile.ZipFile(stream) as archive,
    ):
        members = _members(archive.infolist(), names, path)
        require_fit(
            sum(info.file_size for info in members.values()),
            what="arrays of a data file",
            where=path,
        )
        headers = {
            name: _header_of(archive, info, f"{path}, array '{name}'")
            for name, info in sorted(members.items())
        }
        return {
            name: _read_member(archive, members[name], header, f"{path}, array '{name}'")
            for name, header in headers.items()
        }


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


def _header_of(archive: zipfile.ZipFile, info: zipfile.ZipInfo, where: str) -> _Header:
    """Read the header of an array, and refuse what it says before any of the data is unpacked."""
    with (
        refusing_what_fails("array must be in NumPy's format", where, hint=_HINT),
        archive.open(info) as stream,
    ):
        header = _read_header(stream)
        size = stream.tell() + header.num_bytes
    if header.dtype.kind not in _KINDS:
        raise InputRefusedError(
            f"array must hold numbers or text, got type {printable(header.dtype)[:100]} ({where});"
            " objects are not read"
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


def _read_header(stream: IO[bytes]) -> _Header:
    version = npy_format.read_magic(stream)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of headers that Python 2 wrote
        if version == (1, 0):
            shape, fortran, dtype = npy_format.read_array_header_1_0(stream)
        else:
            shape, fortran, dtype = npy_format.read_array_header_2_0(stream)
    return _Header(tuple(int(length) for length in shape), bool(fortran), dtype)


def _read_member(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, header: _Header, where: str
) -> Shaped[np.ndarray, "..."]:
    with (
        refusing_what_fails("array must be readable, not damaged", where, hint=_HINT),
        archive.open(info) as stream,
    ):
        _read_header(stream)
        array = np.empty(math.prod(header.shape), dtype=header.dtype)
        content = array.view(np.uint8).data if array.size else memoryview(b"")
        filled = 0
        while filled < len(content):
            part = stream.read(min(_CHUNK, len(content) - filled))
            if not part:
                raise InputRefusedError(
                    f"array must have {header.num_bytes} bytes, got {filled} ({where}); {_HINT}"
                )
            content[filled : filled + len(part)] = part
            filled += len(part)
        if header.dtype.kind == "b":
            array = (
                array.view(np.uint8) != 0
            )  # other bytes than 0 and 1 are neither true nor false to NumPy
        shaped = array.reshape(header.shape, order="F" if header.is_fortran else "C")
        return shaped.astype(header.dtype.newbyteorder("="), copy=False)
