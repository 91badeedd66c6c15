"""External data of a model.

Only plain files inside the model's own folder, read once through a descriptor that follows no link.

The rules answer the published attacks on ONNX external data (path traversal, links, hard links,
sizes that lie); see the module's tests.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path, PurePosixPath
from typing import Any

from onnx import TensorProto

from cimrobust.errors import InputRefusedError
from cimrobust.input_file import require_kind
from cimrobust.onnx_io.model_files import file_kind, read_descriptor
from cimrobust.onnx_io.network import FileDigest
from cimrobust.onnx_io.size_limits import MAX_EXTERNAL_FILE_BYTES
from cimrobust.onnx_io.tensors import num_bytes
from cimrobust.printable_text import printable

_CHUNK = 2**22
_KEYS = frozenset({"location", "offset", "length", "checksum"})


@dataclass
class ExternalFiles:
    """The external data files of one model.

    Attributes:
        folder: Folder of the model file.
    """

    folder: Path
    _digests: dict[str, FileDigest] = field(default_factory=dict)

    @property
    def digests(self) -> tuple[FileDigest, ...]:
        """Digests of the files read so far, in order of first use."""
        return tuple(self._digests.values())

    def embed(self, tensors: Iterable[TensorProto]) -> list[str]:
        """Move the data of external tensors inside.

        Every file is read once, from its start to its end, so that what is hashed is what is
        taken; of a file only the data of tensors are held.

        Args:
            tensors: All external tensors of the model. Types and dims must have been checked.

        Returns:
            What is wrong with them; a tensor with a problem stays external.
        """
        problems: list[str] = []
        users: dict[str, list[TensorProto]] = {}
        for tensor in tensors:
            problem = _entry_problem(tensor)
            if problem:
                problems.append(problem)
                continue
            key = PurePosixPath(entries_of(tensor)["location"]).as_posix()
            users.setdefault(key, []).append(tensor)
        for key, group in users.items():
            try:
                problems += self._embed_file(key, group)
            except InputRefusedError as err:
                problems += [f"tensor '{tensor.name}': {err}" for tensor in group]
        return problems

    def read(self, location: str) -> bytes:
        """Return the content of a file.

        Raises InputRefusedError where it is missing, a link, or too large.
        """
        with _opened(self.folder, PurePosixPath(location)) as descriptor:
            return read_descriptor(
                descriptor, limit=MAX_EXTERNAL_FILE_BYTES, name=printable(location)
            )

    def _embed_file(self, key: str, tensors: Sequence[TensorProto]) -> list[str]:
        problems: list[str] = []
        with _opened(self.folder, PurePosixPath(key)) as descriptor:
            kind = file_kind(MAX_EXTERNAL_FILE_BYTES)
            require_kind(descriptor, printable(key), kind)
            size = os.fstat(descriptor).st_size
            places: list[tuple[int, int, TensorProto]] = []
            for tensor in tensors:
                values = entries_of(tensor)
                span = _span(values, needed=num_bytes(tensor), available=size)
                if isinstance(span, str):
                    location = values["location"]
                    problems.append(f"tensor '{tensor.name}': external data '{location}' {span}")
                else:
                    places.append((*span, tensor))
            with os.fdopen(os.dup(descriptor), "rb") as stream:
                source = _Hashed(stream)
                _take(source, sorted(places, key=lambda place: place[:2]))
                source.skip_rest()
            if source.place != size:
                raise InputRefusedError(
                    f"{kind.what} must not change while it is read, got {source.place} of {size}"
                    f" bytes ({printable(key)}); try again"
                )
            self._digests[key] = FileDigest(key, source.digest.hexdigest(), size)
        return problems


@dataclass
class _Hashed:
    """A file that is read once, in order, and hashed on the way."""

    stream: BufferedReader
    place: int = 0
    digest: Any = field(default_factory=hashlib.sha256)

    def read(self, count: int) -> bytes:
        """Return the next so many bytes, fewer at the end."""
        content = self.stream.read(count)
        self.digest.update(content)
        self.place += len(content)
        return content

    def skip_to(self, place: int) -> None:
        """Pass over what lies before a place."""
        while self.place < place and self.read(min(_CHUNK, place - self.place)):
            pass

    def skip_rest(self) -> None:
        """Pass over everything up to the end."""
        while self.read(_CHUNK):
            pass


def _take(source: _Hashed, places: Sequence[tuple[int, int, TensorProto]]) -> None:
    """Move data into tensors, those that share bytes of the file together.

    Args:
        source: The file, at its start.
        places: First byte, last byte (exclusive) and tensor, sorted.
    """
    done = 0
    while done < len(places):
        start, end = places[done][:2]
        last = done + 1
        while last < len(places) and places[last][0] < end:
            end, last = max(end, places[last][1]), last + 1
        source.skip_to(start)
        content = source.read(end - start)
        for first, behind, tensor in places[done:last]:
            tensor.raw_data = content[first - start : behind - start]
            tensor.data_location = TensorProto.DEFAULT
            del tensor.external_data[:]
        done = last


def entries_of(tensor: TensorProto) -> dict[str, str]:
    """Return what an external tensor says about where its data are."""
    return {entry.key: entry.value for entry in tensor.external_data}


def _entry_problem(tensor: TensorProto) -> str | None:
    """Return what is wrong with what an external tensor says, None if nothing."""
    name = f"tensor '{tensor.name}'"
    keys = [entry.key for entry in tensor.external_data]
    if len(set(keys)) != len(keys) or not set(keys) <= _KEYS:
        return f"{name} has external data with doubled or unknown keys {sorted(keys)}"
    if tensor.HasField("raw_data") or tensor.data_type == TensorProto.STRING:
        return f"{name} must be either external or inside, and external data cannot hold strings"
    problem = location_problem(entries_of(tensor).get("location", ""))
    return f"{name}: {problem}" if problem else None


def location_problem(location: str) -> str | None:
    """Return why a location is not a plain relative name inside the folder, None if it is."""
    parts = PurePosixPath(location).parts
    plain = (
        location
        and location.isprintable()
        and "\\" not in location
        and not PurePosixPath(location).is_absolute()
    )
    if plain and ".." not in parts and ":" not in location and "~" not in parts[:1] and parts:
        return None
    return (
        "external data location must be a plain relative name inside the model's folder, got"
        f" '{printable(location)}'"
    )


def _span(values: dict[str, str], *, needed: int, available: int) -> tuple[int, int] | str:
    """Return first and last byte (exclusive) of the data, or what is wrong."""
    numbers: dict[str, int] = {"offset": 0, "length": needed}
    for key in numbers:
        text = values.get(key)
        if text is None:
            continue
        if not (text.isascii() and text.isdigit() and len(text) <= 19):
            return f"{key} must be an integer of 0 or more, got '{printable(text)}'"
        numbers[key] = int(text)
    if numbers["length"] != needed:
        return f"length must be {needed} bytes as shape and type say, got {numbers['length']}"
    end = numbers["offset"] + needed
    if end > available:
        return f"must have at least {end} bytes, got {available}"
    return numbers["offset"], end


@contextmanager
def _opened(folder: Path, location: PurePosixPath) -> Iterator[int]:
    """Open a file below a folder; no component may be a link.

    Raises:
        InputRefusedError: Missing, a link, a hard link, or not readable.
    """
    name = printable(location)
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    opened: list[int] = []
    try:
        opened.append(os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        for part in location.parts[:-1]:
            opened.append(os.open(part, flags | os.O_DIRECTORY, dir_fd=opened[-1]))
        opened.append(os.open(location.parts[-1], flags, dir_fd=opened[-1]))
        if os.fstat(opened[-1]).st_nlink != 1:
            raise InputRefusedError(
                f"external data file must have one name only, got a hard link ('{name}'); copy the"
                " file"
            )
        yield opened[-1]
    except OSError as err:
        raise InputRefusedError(
            f"external data file must be a plain file beside the model, got '{err.strerror}'"
            f" ('{name}'); copy it there, links are not followed"
        ) from err
    finally:
        for descriptor in opened:
            os.close(descriptor)
