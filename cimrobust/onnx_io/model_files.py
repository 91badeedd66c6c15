"""Reading files once, so that what is hashed is what is parsed."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from cimrobust.input_file import FileKind, open_input, read_whole, require_kind
from cimrobust.onnx_io.network import FileDigest


def file_kind(limit: int) -> FileKind:
    """Return what a file of a model must be."""
    return FileKind("model file", limit, hint="copy the data to a plain file")


def read_descriptor(descriptor: int, *, limit: int, name: str) -> bytes:
    """Read a regular file whole from an open descriptor.

    Args:
        descriptor: Open for reading.
        limit: Most bytes.
        name: File as messages call it.

    Raises:
        InputRefusedError: It is not a regular file, or is larger than `limit`, or grows or shrinks
            meanwhile.
    """
    kind = file_kind(limit)
    require_kind(descriptor, name, kind)
    with os.fdopen(os.dup(descriptor), "rb") as stream:
        return read_whole(stream, name, kind)


def model_kind(limit: int) -> FileKind:
    """Return what the file must be that a user named."""
    return FileKind(
        "model", limit, hint="name an .onnx file; large tensors belong in external data files"
    )


def digest(name: str, content: bytes) -> FileDigest:
    """Return the digest of bytes that were read."""
    return FileDigest(name=name, sha256=hashlib.sha256(content).hexdigest(), num_bytes=len(content))


def hashed(path: Path, name: str, kind: FileKind) -> FileDigest:
    """Return the digest of a file of any size; raises as `open_input`."""
    with open_input(path, kind) as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        return FileDigest(name=name, sha256=sha256, num_bytes=stream.tell())
