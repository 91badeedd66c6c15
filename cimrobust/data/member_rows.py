"""Rows of one array of an archive, read as a stream: what is not wanted takes no memory."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from jaxtyping import Int64, Shaped
from numpy.lib import format as npy_format

from cimrobust.data.row_choice import as_slices
from cimrobust.errors import InputRefusedError

_CHUNK = 2**22

#: What NumPy reads of a header that may not be trusted.
_LONGEST_HEADER = 10_000


@dataclass(frozen=True)
class ArrayHeader:
    """What the header of one array says."""

    shape: tuple[int, ...]
    is_fortran: bool
    dtype: np.dtype[Any]

    @property
    def num_bytes(self) -> int:
        """Bytes of the whole array."""
        return self.dtype.itemsize * math.prod(self.shape)

    @property
    def num_rows(self) -> int:
        """Length of the first axis, 0 of a single number."""
        return self.shape[0] if self.shape else 0

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return self.dtype.itemsize * math.prod(self.shape[1:])

    @property
    def is_interleaved(self) -> bool:
        """Whether the numbers of a row lie apart from each other in the file."""
        return self.is_fortran and math.prod(self.shape[1:]) > 1 and len(self.shape) > 1


def read_header(stream: IO[bytes]) -> ArrayHeader:
    """Read the header of NumPy's format; raises what NumPy raises where it is none."""
    start = stream.tell()
    version = npy_format.read_magic(stream)
    size = int.from_bytes(stream.read(2 if version == (1, 0) else 4), "little")
    if size > _LONGEST_HEADER:  # NumPy reads it whole before it says so
        raise ValueError(f"its header has {size} bytes, more than {_LONGEST_HEADER}")
    stream.seek(start)
    npy_format.read_magic(stream)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of headers that Python 2 wrote
        if version == (1, 0):
            shape, fortran, dtype = npy_format.read_array_header_1_0(stream)
        else:
            shape, fortran, dtype = npy_format.read_array_header_2_0(stream)
    return ArrayHeader(tuple(int(length) for length in shape), bool(fortran), dtype)


def read_rows(
    stream: IO[bytes],
    header: ArrayHeader,
    rows: Int64[np.ndarray, "wanted"] | None,
    *,
    where: str,
    hint: str,
) -> Shaped[np.ndarray, "..."]:
    """Read rows of an array in the byte order of the machine.

    Args:
        stream: Stands behind the header.
        header: What it says.
        rows: Rising; None: the whole array.
        where: File and array, for messages.
        hint: What to do about an array that is cut off.

    Raises:
        InputRefusedError: The data end too early.
    """
    source = _Source(stream, header.num_bytes, where, hint)
    if rows is None or not header.shape:
        flat = _empty(header, math.prod(header.shape))
        source.fill(flat)
        shape = header.shape
    elif header.is_interleaved:
        return _native(_interleaved(source, header, rows), header)
    else:
        flat = _empty(header, len(rows) * math.prod(header.shape[1:]))
        _fill_rows(source, header, rows, flat)
        shape = (len(rows), *header.shape[1:])
    return _native(flat.reshape(shape, order="F" if header.is_fortran else "C"), header)


def _fill_rows(
    source: _Source,
    header: ArrayHeader,
    rows: Int64[np.ndarray, "wanted"],
    flat: Shaped[np.ndarray, "numbers"],
) -> None:
    """Fill an array with rows that lie one behind the other in the file."""
    row_length, filled, place = math.prod(header.shape[1:]), 0, 0
    for run in as_slices(rows):
        source.skip((run.start - place) * header.row_bytes)
        count = (run.stop - run.start) * row_length
        source.fill(flat[filled : filled + count])
        filled, place = filled + count, run.stop


def _interleaved(
    source: _Source, header: ArrayHeader, rows: Int64[np.ndarray, "wanted"]
) -> Shaped[np.ndarray, "wanted ..."]:
    """Return rows of an array in Fortran's order, where each column has a number of every row."""
    columns = math.prod(header.shape[1:])
    kept = np.empty((columns, len(rows)), dtype=header.dtype)
    for block in _blocks(
        columns, max(1, _CHUNK // max(1, header.num_rows * header.dtype.itemsize))
    ):
        part = _empty(header, (block.stop - block.start) * header.num_rows)
        source.fill(part)
        kept[block] = part.reshape(-1, header.num_rows)[:, rows]
    return kept.reshape(-1).reshape((len(rows), *header.shape[1:]), order="F")


def _blocks(total: int, size: int) -> Iterator[slice]:
    for start in range(0, total, size):
        yield slice(start, min(total, start + size))


def _empty(header: ArrayHeader, count: int) -> Shaped[np.ndarray, "numbers"]:
    return np.empty(count, dtype=header.dtype)


def _native(
    array: Shaped[np.ndarray, "*shape"], header: ArrayHeader
) -> Shaped[np.ndarray, "*shape"]:
    if header.dtype.kind == "b":
        # Other bytes than 0 and 1 are neither true nor false to NumPy.
        array = array.view(np.uint8) != 0
    return array.astype(header.dtype.newbyteorder("="), copy=False)


@dataclass
class _Source:
    """The data of one array, taken in order."""

    stream: IO[bytes]
    num_bytes: int
    where: str
    hint: str
    taken: int = 0

    def fill(self, array: Shaped[np.ndarray, "numbers"]) -> None:
        """Read an array full."""
        content = array.view(np.uint8).data if array.size else memoryview(b"")
        filled = 0
        while filled < len(content):
            part = self.stream.read(min(_CHUNK, len(content) - filled))
            if not part:
                raise InputRefusedError(
                    f"array must have {self.num_bytes} bytes, got {self.taken} ({self.where});"
                    f" {self.hint}"
                )
            content[filled : filled + len(part)] = part
            filled += len(part)
            self.taken += len(part)

    def skip(self, count: int) -> None:
        """Leave out so many bytes; where they are missing, the next read finds nothing."""
        if count:
            self.stream.seek(count, os.SEEK_CUR)
            self.taken += count
