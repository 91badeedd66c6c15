"""External data of a model.

Only plain files inside the model's own folder, read once through a descriptor that follows no link.

The rules answer the published attacks on ONNX external data (path traversal, links, hard links,
sizes that lie); see the module's tests.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from onnx import TensorProto

from cimrobust.errors import InputRefusedError
from cimrobust.onnx_io.model_files import digest, read_descriptor
from cimrobust.onnx_io.network import FileDigest
from cimrobust.onnx_io.problems import one_line
from cimrobust.onnx_io.size_limits import MAX_EXTERNAL_FILE_BYTES
from cimrobust.onnx_io.tensors import num_bytes

_KEYS = frozenset({"location", "offset", "length", "checksum"})


@dataclass
class ExternalFiles:
    """The external data files of one model, each read once.

    Attributes:
        folder: Folder of the model file.
    """

    folder: Path
    _contents: dict[str, bytes] = field(default_factory=dict)
    _digests: list[FileDigest] = field(default_factory=list)

    @property
    def digests(self) -> tuple[FileDigest, ...]:
        """Digests of the files read so far, in order of first use."""
        return tuple(self._digests)

    def embed(self, tensor: TensorProto) -> str | None:
        """Move the data of an external tensor inside.

        Return what is wrong with it, None if nothing.

        The tensor's type and dims must have been checked.
        """
        name = f"tensor '{tensor.name}'"
        entries = [(entry.key, entry.value) for entry in tensor.external_data]
        keys = [key for key, _ in entries]
        if len(set(keys)) != len(keys) or not set(keys) <= _KEYS:
            return f"{name} has external data with doubled or unknown keys {sorted(keys)}"
        if tensor.HasField("raw_data") or tensor.data_type == TensorProto.STRING:
            return (
                f"{name} must be either external or inside, and external data cannot hold strings"
            )
        values = dict(entries)
        problem = location_problem(values.get("location", ""))
        if problem:
            return f"{name}: {problem}"
        try:
            content = self.read(values["location"])
        except InputRefusedError as err:
            return f"{name}: {err}"
        span = _span(values, needed=num_bytes(tensor), available=len(content))
        if isinstance(span, str):
            return f"{name}: external data '{values['location']}' {span}"
        tensor.raw_data = content[span[0] : span[1]]
        tensor.data_location = TensorProto.DEFAULT
        del tensor.external_data[:]
        return None

    def read(self, location: str) -> bytes:
        """Return the content of a file.

        Raises InputRefusedError where it is missing, a link, or too large.
        """
        key = PurePosixPath(location).as_posix()
        if key not in self._contents:
            content = _read_inside(self.folder, PurePosixPath(location))
            self._contents[key] = content
            self._digests.append(digest(key, content))
        return self._contents[key]


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
        f" '{one_line(location)}'"
    )


def _span(values: dict[str, str], *, needed: int, available: int) -> tuple[int, int] | str:
    """Return first and last byte (exclusive) of the data, or what is wrong."""
    numbers: dict[str, int] = {"offset": 0, "length": needed}
    for key in numbers:
        text = values.get(key)
        if text is None:
            continue
        if not (text.isascii() and text.isdigit() and len(text) <= 19):
            return f"{key} must be an integer of 0 or more, got '{one_line(text)}'"
        numbers[key] = int(text)
    if numbers["length"] != needed:
        return f"length must be {needed} bytes as shape and type say, got {numbers['length']}"
    end = numbers["offset"] + needed
    if end > available:
        return f"must have at least {end} bytes, got {available}"
    return numbers["offset"], end


def _read_inside(folder: Path, location: PurePosixPath) -> bytes:
    """Read a file below a folder; no component may be a link.

    Raises:
        InputRefusedError: Missing, a link, a hard link, not a regular file, or too large.
    """
    name = one_line(location)
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
        return read_descriptor(opened[-1], limit=MAX_EXTERNAL_FILE_BYTES, name=name)
    except OSError as err:
        raise InputRefusedError(
            f"external data file must be a plain file beside the model, got '{err.strerror}'"
            f" ('{name}'); copy it there, links are not followed"
        ) from err
    finally:
        for descriptor in opened:
            os.close(descriptor)
