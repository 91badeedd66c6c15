"""Files that appear whole or not at all, and their digests."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

from cimrobust.input_file import FileKind, open_input

_ANY = FileKind("file", 2**40, hint="its digest cannot be told")


def write_whole(path: Path, content: bytes) -> None:
    """Write a file beside its final name, flush it to the disk, then give it the name.

    Whoever looks at the final name sees the old content or the new, never a part; a failed write
    leaves nothing behind.
    """
    descriptor, temporary = tempfile.mkstemp(
        dir=path.parent, prefix=f".{path.name}.", suffix=".part"
    )
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def sha256_of(path: Path) -> str:
    """Return the SHA-256 digest of a file, as hex.

    Raises UsageError where there is none, InputRefusedError unless it is a regular one.
    """
    with open_input(path, _ANY) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
