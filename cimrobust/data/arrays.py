"""Arrays from files that nobody vouches for: sizes are checked before memory is taken, and nothing is unpickled."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy_format

from cimrobust.errors import InputRefusedError, UsageError

MAX_BYTES = 32 * 2**30
_KINDS = "biufU"


def require_file(path: Path, *, what: str) -> None:
    """Raise UsageError unless there is a regular file at the path."""
    if not path.is_file():
        raise UsageError(f"{what} must be an existing file, got {path}; check the path")


def names_in_npz(path: Path) -> list[str]:
    """Return the names of the arrays of an .npz file, in its order; errors as `read_npz`."""
    require_file(path, what="data file")
    try:
        with zipfile.ZipFile(path) as archive:
            return [info.filename.removesuffix(".npy") for info in archive.infolist()]
    except (zipfile.BadZipFile, OSError, NotImplementedError, UnicodeDecodeError) as err:
        raise InputRefusedError(
            f"data file must be a complete .npz archive, got: {err or type(err).__name__} ({path}); write it again with numpy.savez_compressed"
        ) from err


def read_npz(path: Path, names: set[str]) -> dict[str, np.ndarray]:
    """Read named arrays of an .npz file.

    Args:
        path: The file.
        names: Arrays wanted.

    Raises:
        UsageError: There is no such file or array.
        InputRefusedError: The file is corrupt, larger than it may be, or holds objects.
    """
    require_file(path, what="data file")
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            missing = sorted(names - members.keys())
            if missing:
                raise UsageError(
                    f"data file must hold the arrays {sorted(names)}, got {sorted(members)} without {missing} ({path}); check [[input]] array and [label] array"
                )
            if len(members) < len(archive.infolist()):
                raise InputRefusedError(
                    f"data file must name each array once, got repeated names ({path}); write it again with numpy.savez"
                )
            return {name: _read_member(archive, members[name], path) for name in sorted(names)}
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError, UnicodeDecodeError) as err:
        raise InputRefusedError(
            f"data file must be a complete .npz archive, got: {err or type(err).__name__} ({path}); write it again with numpy.savez_compressed"
        ) from err


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> np.ndarray:
    where = f"{path}, array '{info.filename.removesuffix('.npy')}'"
    with archive.open(info) as stream:
        try:
            version = npy_format.read_magic(stream)
            header: tuple[tuple[int, ...], bool, np.dtype[Any]] = _read_header(stream, version)
        except ValueError as err:
            raise InputRefusedError(f"array must be in NumPy's format, got: {err} ({where}); write it again with numpy.savez") from err
        shape, fortran, dtype = header
        if dtype.kind not in _KINDS:
            raise InputRefusedError(f"array must hold numbers or text, got type {dtype} ({where}); objects are not read")
        size = dtype.itemsize
        for length in shape:
            size *= length
        if min(shape, default=0) < 0 or size > MAX_BYTES or size > max(info.file_size, 0):
            raise InputRefusedError(
                f"array must fit its file, got shape {list(shape)} of {dtype} in {info.file_size} bytes ({where}); write it again with numpy.savez"
            )
        raw = stream.read(size)
        if len(raw) != size:
            raise InputRefusedError(f"array must have {size} bytes, got {len(raw)} ({where}); write it again with numpy.savez")
        return np.frombuffer(raw, dtype=dtype).reshape(shape, order="F" if fortran else "C").astype(dtype.newbyteorder("="), copy=False)


def _read_header(stream: IO[bytes], version: tuple[int, int]) -> Any:
    if version == (1, 0):
        return npy_format.read_array_header_1_0(stream)
    return npy_format.read_array_header_2_0(stream)
