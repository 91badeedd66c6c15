"""The one door for files that somebody else wrote.

Kind and size are checked on the open file before a byte of it is used.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

from cimrobust.errors import CimrobustError, InputRefusedError, UsageError
from cimrobust.printable_text import printable

__all__ = [
    "FileKind",
    "open_input",
    "printable",
    "read_input",
    "read_whole",
    "refusing_bad_reads",
    "refusing_what_fails",
    "require_kind",
    "require_unchanged",
]

# How a pointer of Git LFS begins, and the most bytes that its specification gives one.
_LFS_POINTER, _MOST_OF_POINTER = b"version https://git-lfs.github.com/spec/", 1023

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe (FIFO)",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
}


@dataclass(frozen=True)
class FileKind:
    """What files of one kind must be.

    Attributes:
        what: What messages call it, e.g. ``"policy"``.
        max_bytes: Most bytes.
        hint: What to do about a file that is not accepted.
        missing: Raised for a file that is not there, is a folder, or may not be read.
        refused: Raised for a pipe, socket or device, for one that is too large, and for one that
            changes.
    """

    what: str
    max_bytes: int
    hint: str = "check the path"
    missing: type[CimrobustError] = UsageError
    refused: type[CimrobustError] = InputRefusedError


@contextmanager
def open_input(path: Path, kind: FileKind) -> Iterator[BufferedReader]:
    """Open a regular file for reading; links to one are followed.

    It is looked at before it is opened, because opening a device can act on it; opened without
    waiting, because a pipe would wait for ever; and looked at again afterwards, because it may have
    been replaced in between.

    Args:
        path: The file.
        kind: What it must be.

    Yields:
        The open file, which has at most `kind.max_bytes` bytes.

    Raises:
        CimrobustError: `kind.missing` or `kind.refused`, see there.
    """
    try:
        _require_regular(Path(path).stat().st_mode, path, kind)
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except (OSError, ValueError) as err:
        reason = err.strerror if isinstance(err, OSError) else err
        raise kind.missing(
            f"{kind.what} must be a readable file, got '{printable(reason)}' ({printable(path)});"
            f" {kind.hint}"
        ) from err
    with os.fdopen(descriptor, "rb") as stream:
        require_kind(descriptor, path, kind)
        yield stream


def require_kind(descriptor: int, where: object, kind: FileKind) -> None:
    """Raise as `open_input` unless an open file is regular, of at most `kind.max_bytes` bytes.

    Raises `kind.refused` too for what Git LFS leaves in place of a file that was not fetched.
    """
    status = os.fstat(descriptor)
    _require_regular(status.st_mode, where, kind)
    if status.st_size > kind.max_bytes:
        raise kind.refused(
            f"{kind.what} must have at most {kind.max_bytes} bytes, got {status.st_size}"
            f" ({printable(where)}); is this the right file?"
        )
    if (
        status.st_size <= _MOST_OF_POINTER
        and os.pread(descriptor, len(_LFS_POINTER), 0) == _LFS_POINTER
    ):
        raise kind.refused(
            f"{kind.what} must hold its content, got a pointer of Git LFS to it"
            f" ({printable(where)}); fetch the content with `git lfs pull`"
        )


def read_input(path: Path, kind: FileKind) -> bytes:
    """Return the content of a file.

    Raises as `open_input`, and `kind.refused` where it changes meanwhile.
    """
    with open_input(path, kind) as stream:
        return read_whole(stream, path, kind)


def read_whole(stream: BufferedReader, where: object, kind: FileKind) -> bytes:
    """Return what an open file holds.

    Raises `kind.refused` where that is not as much as its size says.
    """
    size = os.fstat(stream.fileno()).st_size
    with refusing_bad_reads(where, kind):
        content = stream.read(size + 1)
    require_unchanged(len(content), size, where, kind)
    return content


@contextmanager
def refusing_bad_reads(where: object, kind: FileKind) -> Iterator[None]:
    """Raise `kind.missing` where a file that is open cannot be read."""
    try:
        yield
    except OSError as err:
        raise kind.missing(
            f"{kind.what} must be readable, got '{err.strerror}' ({printable(where)}); {kind.hint}"
        ) from err


def require_unchanged(num_read: int, size: int, where: object, kind: FileKind) -> None:
    """Raise `kind.refused` unless as many bytes were read as the file had when it was opened."""
    if num_read != size:
        raise kind.refused(
            f"{kind.what} must not change while it is read, got {num_read} of {size} bytes"
            f" ({printable(where)}); try again"
        )


@contextmanager
def refusing_what_fails(
    what: str, where: object, *, hint: str, refused: type[CimrobustError] = InputRefusedError
) -> Iterator[None]:
    """Take every error that a library raises on somebody's file for the file's fault.

    Libraries that unpack and parse raise what the code below them raises: zlib.error,
    lzma.LZMAError, struct.error, EOFError, OverflowError, SyntaxError and more, and other ones in
    their next version. The file is hostile until proved otherwise.

    Args:
        what: What is read and what it must be, e.g. ``"data file must be a complete .npz
            archive"``.
        where: File, and place in it.
        hint: What to do.
        refused: Raised instead.
    """
    try:
        yield
    except CimrobustError:
        raise
    except MemoryError as err:
        raise refused(
            f"{what}, got one that asks for more memory than there is: {_reason(err)}"
            f" ({printable(where)}); {hint}"
        ) from err
    except Exception as err:
        raise refused(f"{what}, got: {_reason(err)} ({printable(where)}); {hint}") from err


def _require_regular(mode: int, where: object, kind: FileKind) -> None:
    if stat.S_ISREG(mode):
        return
    found = _KINDS.get(stat.S_IFMT(mode), "another kind of file")
    error = kind.missing if stat.S_ISDIR(mode) else kind.refused
    raise error(
        f"{kind.what} must be a regular file, got {found} ({printable(where)}); {kind.hint}"
    )


def _reason(err: BaseException) -> str:
    # Objects of a library are shown by their address, which is another one in every run.
    text = re.sub(r"<(\S+) object at 0x[0-9a-fA-F]+>", r"\1", printable(err))[:200]
    return f"{text} ({type(err).__name__})" if text else type(err).__name__
