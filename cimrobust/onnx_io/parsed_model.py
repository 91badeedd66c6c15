"""Parsing a model file without holding it beside the message that it becomes.

A protobuf message is parsed from bytes that hold all of it, so that a large model would be there
twice. Here the data of large tensors are taken out of the bytes while they are read, the rest is
parsed, and then the data are moved into the message, one tensor after the other.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from io import BufferedReader
from pathlib import Path

import onnx

from cimrobust.input_file import FileKind, open_input, refusing_bad_reads, require_unchanged
from cimrobust.onnx_io.network import FileDigest

# Numbers of fields, from onnx.proto.
_GRAPH, _INITIALIZER, _RAW_DATA = 7, 5, 9

# Wire types, from https://protobuf.dev/programming-guides/encoding, and the bytes of fixed ones.
_VARINT, _LENGTH_DELIMITED = 0, 2
_FIXED = {1: 8, 5: 4}
_VARINT_BYTES = 10

# Bytes of data from which a tensor's are taken out. Smaller ones are there twice for a moment.
_LARGE = 2**20

# Bytes that are put together before they are hashed and listed.
_CHUNK = 2**16

# Bytes of data that are read at once where they are let go again.
_SKIPPED = 2**22

# Fields that are looked at one by one; what comes after so many is parsed as it is. No graph that
# is covered has as many, and a file of empty fields would keep this loop busy for an hour.
_MOST_FIELDS = 2**21


class _NotWalkedError(Exception):
    """What follows is left to protobuf to judge."""


class _EndedError(Exception):
    """The file ends before its size says."""


def read_model(
    path: Path, kind: FileKind, *, large: int = _LARGE
) -> tuple[onnx.ModelProto, FileDigest]:
    """Read and parse a model file once, from start to end.

    Args:
        path: The file.
        kind: What it must be.
        large: Bytes from which the data of an initializer are moved into the message by
            themselves.

    Returns:
        The message, equal to what parsing all bytes of the file at once gives, and the digest of
        these bytes.

    Raises:
        DecodeError: It is no protobuf message (google.protobuf.message).
        CimrobustError: As `open_input`, and `kind.refused` where the file changes meanwhile.
    """
    with open_input(path, kind) as stream, refusing_bad_reads(path, kind):
        size = os.fstat(stream.fileno()).st_size
        parts = _Parts(stream, size, large)
        parts.read()
        require_unchanged(parts.place + len(stream.read(1)), size, path, kind)
    model = onnx.ModelProto()
    model.ParseFromString(parts.joined())
    for index in sorted(parts.data):
        model.graph.initializer[index].raw_data = parts.data.pop(index)
    return model, FileDigest(path.name, parts.digest.hexdigest(), size)


def read_without_data(path: Path, kind: FileKind) -> tuple[bytes, FileDigest]:
    """Read a model file once, and let the data of large initializers go.

    Arguments, digest and errors as for `read_model`.

    Returns:
        The message without these data, serialised, and the digest of the file.
    """
    with open_input(path, kind) as stream, refusing_bad_reads(path, kind):
        size = os.fstat(stream.fileno()).st_size
        parts = _Parts(stream, size, _LARGE, keeps=False)
        parts.read()
        require_unchanged(parts.place + len(stream.read(1)), size, path, kind)
    return parts.joined(), FileDigest(path.name, parts.digest.hexdigest(), size)


class _Parts:
    """A file in two parts: data of large initializers, and a message without them.

    Only what protobuf writes is taken apart: shortest varints, and lengths that fit. From the first
    field that is anything else the file is left as it is, and protobuf refuses it or not.

    Attributes:
        place: Bytes read so far.
        digest: SHA-256 of them.
        data: Data that are taken out, by the index of the initializer; empty where none are kept.
    """

    def __init__(
        self, stream: BufferedReader, size: int, large: int, *, keeps: bool = True
    ) -> None:
        self.place = 0
        self.digest = hashlib.sha256()
        self.data: dict[int, bytes] = {}
        self._stream, self._size, self._large, self._keeps = stream, size, large, keeps
        self._rest: list[bytes | bytearray] = []
        self._open = bytearray()  # tag and length of a field whose content is not read yet
        self._unhashed = bytearray()
        self._num_fields = 0
        self._num_initializers = 0

    def read(self) -> None:
        """Read the file; fewer bytes than `size` where it ends before."""
        with suppress(_EndedError):
            try:
                self._walk(self._size, {_GRAPH: self._graph})
            except _NotWalkedError:
                self._copy_to(self._size)
        self._hash()

    def joined(self) -> bytes:
        """Return the message without the data that were taken out; they are held no longer here."""
        content = b"".join(self._rest)
        self._rest.clear()
        return content

    def _graph(self, end: int) -> None:
        self._walk(end, {_INITIALIZER: self._initializer})

    def _initializer(self, end: int) -> None:
        index = self._num_initializers
        self._num_initializers += 1
        if end - self.place < self._large:
            self._copy_to(end)
            return
        try:
            self._walk(end, {_RAW_DATA: partial(self._raw_data, index)})
        except _NotWalkedError:
            # What follows may hold data as well, and the last of a field is what counts.
            data = self.data.pop(index, None)
            if data is not None:
                self._put(_varint_of(_RAW_DATA << 3 | _LENGTH_DELIMITED) + _varint_of(len(data)))
                self._put(data)
            raise

    def _raw_data(self, index: int, end: int) -> None:
        count = end - self.place
        if count < self._large:
            self.data.pop(index, None)
            self._copy_to(end)
        elif self._keeps:
            self.data[index] = self._take(count)
        else:
            end = self.place + count
            while self.place < end:
                self._take(min(_SKIPPED, end - self.place))
            self.data[index] = b""

    def _walk(self, end: int, inner: Mapping[int, Callable[[int], None]]) -> None:
        """Read the fields of a message up to its end.

        Args:
            end: Place behind the message.
            inner: What reads the content of a field up to its end, by number.
        """
        while self.place < end:
            self._num_fields += 1
            if self._num_fields > _MOST_FIELDS:
                raise _NotWalkedError
            tag = _number_of(self._varint(end))
            number, wire = tag >> 3, tag & 7
            if wire == _LENGTH_DELIMITED and number in inner:
                self._content(end, inner[number])
            elif wire == _LENGTH_DELIMITED:
                self._copy_to(self._length(end) + self.place)
            elif wire == _VARINT:
                self._varint(end)
                self._copy_to(self.place)
            elif wire in _FIXED and end - self.place >= _FIXED[wire]:
                self._copy_to(self.place + _FIXED[wire])
            else:
                raise _NotWalkedError

    def _content(self, end: int, read: Callable[[int], None]) -> None:
        """Read length and content of a field, and put down the length of what is left of it."""
        length = self._length(end)
        del self._open[-len(_varint_of(length)) :]
        self._copy_to(self.place)
        behind = self.place + length
        outside, self._rest = self._rest, []
        try:
            read(behind)
        except _NotWalkedError:
            self._copy_to(behind)
            raise
        finally:
            inside, self._rest = self._rest, outside
            self._put(_varint_of(sum(map(len, inside))))
            self._rest += inside

    def _length(self, end: int) -> int:
        length = _number_of(self._varint(end))
        if length > end - self.place:
            raise _NotWalkedError
        return length

    def _varint(self, end: int) -> bytes:
        """Return the bytes of a number."""
        encoded = b""
        while self.place < end and len(encoded) < _VARINT_BYTES:
            byte = self._take(1)
            encoded += byte
            self._open += byte
            if byte[0] < 128:
                return encoded
        raise _NotWalkedError

    def _copy_to(self, end: int) -> None:
        """Put down what has been read of a field, and everything up to a place."""
        if self._open:
            self._put(bytes(self._open))
            self._open.clear()
        if end > self.place:
            self._put(self._take(end - self.place))

    def _put(self, content: bytes) -> None:
        """Put down what stays in the message; short pieces together, since each has its price."""
        if len(content) >= _CHUNK:
            self._rest.append(content)
        elif self._rest and isinstance(self._rest[-1], bytearray):
            self._rest[-1] += content
        else:
            self._rest.append(bytearray(content))

    def _take(self, count: int) -> bytes:
        """Return the next bytes of the file; raise _EndedError where there are fewer."""
        content = self._stream.read(count)
        self.place += len(content)
        if len(content) < _CHUNK:
            self._unhashed += content
        if len(self._unhashed) >= _CHUNK or len(content) >= _CHUNK:
            self._hash()
        if len(content) >= _CHUNK:
            self.digest.update(content)
        if len(content) < count:
            raise _EndedError
        return content

    def _hash(self) -> None:
        self.digest.update(self._unhashed)
        self._unhashed.clear()


def _number_of(encoded: bytes) -> int:
    """Return a tag or a length, which have up to 32 bits."""
    value = sum((byte & 127) << 7 * index for index, byte in enumerate(encoded))
    if value >= 2**32 or _varint_of(value) != encoded:
        raise _NotWalkedError
    return value


def _varint_of(value: int) -> bytes:
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
