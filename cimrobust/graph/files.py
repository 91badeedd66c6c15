"""Reading files once, so that what is hashed is what is parsed."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from cimrobust.errors import InputRefusedError, UsageError
from cimrobust.graph.network import FileDigest
from cimrobust.graph.problems import one_line


def read_descriptor(descriptor: int, *, limit: int, name: str) -> bytes:
    """Read a regular file whole from an open descriptor.

    Args:
        descriptor: Open for reading.
        limit: Most bytes.
        name: File as messages call it.

    Raises:
        InputRefusedError: It is not a regular file, or is larger than `limit`, or grows or shrinks meanwhile.
    """
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise InputRefusedError(f"model file must be a regular file, got another kind ({name}); copy the data to a plain file")
    if status.st_size > limit:
        raise InputRefusedError(
            f"model file must have at most {limit} bytes, got {status.st_size} ({name}); keep large tensors in external data files"
        )
    with os.fdopen(os.dup(descriptor), "rb") as stream:
        content = stream.read(status.st_size + 1)
    if len(content) != status.st_size:
        raise InputRefusedError(
            f"model file must not change while it is read, got {len(content)} of {status.st_size} bytes ({name}); try again"
        )
    return content


def read_model_file(path: Path, *, limit: int) -> bytes:
    """Read the file a user named.

    Raises:
        UsageError: There is no such file, it is a folder, or may not be read.
        InputRefusedError: It is not a regular file, or is too large.
    """
    name = one_line(path)
    if path.is_dir():
        raise UsageError(f"model must be an ONNX file, got a folder ({name}); name the .onnx file inside it")
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as err:
        raise UsageError(f"model must be an existing file, got a name without file ({name}); check the path") from err
    except (OSError, ValueError) as err:
        raise UsageError(f"model must be a readable file, got '{one_line(err)}' ({name}); check path and permissions") from err
    try:
        return read_descriptor(descriptor, limit=limit, name=name)
    finally:
        os.close(descriptor)


def digest(name: str, content: bytes) -> FileDigest:
    """Return the digest of bytes that were read."""
    return FileDigest(name=name, sha256=hashlib.sha256(content).hexdigest(), num_bytes=len(content))
