"""Files that appear whole or not at all, and their digests."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path

from cimrobust.input_file import FileKind, open_input

_ANY = FileKind("file", 2**40, hint="its digest cannot be told")
_STAGING, _PART = ".writing-", ".part"
_OF_CALL = "cimrobust-in-memory-"
# Seconds in which a new file or folder gets its lock.
_JUST_MADE = 60


def write_whole(path: Path, content: bytes) -> None:
    """Write a file beside its final name, flush it to the disk, then give it the name.

    Whoever looks at the final name sees the old content or the new, never a part; a failed write
    leaves nothing behind.
    """
    write_parts(path, (content,))


def write_parts(path: Path, parts: Iterable[bytes]) -> None:
    """Write a file as `write_whole` does, of parts that are made one after the other.

    What killed processes left of the same file is removed first.
    """
    for left in path.parent.glob(f".{escape(path.name)}.*{_PART}"):
        if not left.is_symlink() and _is_old(left) and _is_abandoned(left):
            left.unlink(missing_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=_PART)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            _hold(stream.fileno())
            for part in parts:
                stream.write(part)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@contextmanager
def staging_folder(out: Path) -> Iterator[Path]:
    """Make a folder inside of another, in which files are made before they get their final names.

    It is gone afterwards. What killed runs left of such folders and files is removed first; a run
    that still writes holds a lock on its own.
    """
    _remove_left(out)
    with tempfile.TemporaryDirectory(dir=out, prefix=_STAGING) as folder:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            _hold(descriptor)
            yield Path(folder)
        finally:
            os.close(descriptor)


@contextmanager
def folder_of_call() -> Iterator[Path]:
    """Make a private folder for what a caller gave in memory; it is gone afterwards.

    What killed processes left of such folders, perhaps a network, is removed first.
    """
    for left in Path(tempfile.gettempdir()).glob(f"{_OF_CALL}*"):
        if not left.is_symlink() and _is_old(left) and _is_abandoned(left):
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=_OF_CALL) as folder:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            _hold(descriptor)
            yield Path(folder)
        finally:
            os.close(descriptor)


def stated_place(path: str | Path) -> str:
    """Return a path as results state it: of a file made for one call the name alone."""
    place = Path(path)
    return place.name if place.parent.name.startswith(_OF_CALL) else str(path)


def _hold(descriptor: int) -> None:
    """Lock a file or folder that is being made; where there are no locks, nothing is removed."""
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def _remove_left(out: Path) -> None:
    """Remove unfinished files and staging folders that no living run holds a lock on."""
    for path in (*out.glob(f"{_STAGING}*"), *out.glob(f".*{_PART}")):
        if path.is_symlink() or not _is_abandoned(path):
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _is_old(path: Path) -> bool:
    """Tell whether a file or folder is not just being made, when it has no lock yet."""
    try:
        return time.time() - path.stat().st_mtime > _JUST_MADE
    except OSError:
        return False


def _is_abandoned(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def sha256_of(path: Path) -> str:
    """Return the SHA-256 digest of a file, as hex.

    Raises UsageError where there is none, InputRefusedError unless it is a regular one.
    """
    with open_input(path, _ANY) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
