"""Finished parts of a long run on disk: a killed run goes on where it stopped, to the same result.

Each part is a file of its own, written whole or not at all: the digest of all that follows, then
arrays with a description in JSON. A part is taken over where its content is undamaged, what the
reader expects, and of the same run; else it is made again, and a note says why. What a file says
is never trusted: it names no types and holds no code.
"""

from __future__ import annotations

import glob
import hashlib
import json
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from cimrobust.available_memory import available_memory
from cimrobust.errors import CimrobustError
from cimrobust.files import write_whole
from cimrobust.input_file import FileKind, printable, read_input
from cimrobust.json_file import parse_json
from cimrobust.typed_values import Arrays, as_plain, from_plain

if TYPE_CHECKING:
    from cimrobust.array_shapes import Shaped

T = TypeVar("T")

_LOG = logging.getLogger(__name__)

_KIND = FileKind("part of a run", 2**35, hint="it is made again")
_SUFFIX = ".part"
_DIGEST = 64
#: Key of an array that is always there: without any the format has no place for a description.
_FILLING = "filling"


@dataclass(frozen=True)
class FinishedParts:
    """Where finished parts of a run are kept.

    Attributes:
        folder: Their folder, which must exist; None: nothing is kept.
        fingerprint: Digest of everything that the parts depend on.
        prefix: What names of files begin with.
        notes: What was found on disk that could not be used, one sentence each; shared by all that
            `within` returns.
        taken: Names of the parts that were taken over; shared likewise.
    """

    folder: Path | None = None
    fingerprint: str = ""
    prefix: str = ""
    notes: list[str] = field(default_factory=list)
    taken: list[str] = field(default_factory=list)

    @property
    def keeps(self) -> bool:
        """Whether anything is kept."""
        return self.folder is not None

    def within(self, name: str, *given: Any) -> FinishedParts:
        """Return the same store for one piece of the run.

        Args:
            name: Its name, unique in this one.
            given: What its parts depend on beside the run: numbers, texts, arrays, dataclasses.
        """
        if self.folder is None:
            return self
        fingerprint = digest_of([self.fingerprint, name, *given]) if given else self.fingerprint
        return replace(self, prefix=f"{self.prefix}{_file_name(name)}.", fingerprint=fingerprint)

    def recall(
        self,
        name: str,
        kind: type[T],
        make: Callable[[], T],
        check: Callable[[T], None] | None = None,
    ) -> T:
        """Return a part: from its file if that can be used, else made and kept.

        Args:
            name: Its name, unique in this store.
            kind: Type of the part: a dataclass, a record, or what these are made of.
            make: Makes it.
            check: Raises ValueError or CimrobustError where a part that was read makes no sense.
        """
        known = self.find(name, kind, check)
        if known is None:
            known = make()
            self.keep(name, known)
        return known

    def find(self, name: str, kind: type[T], check: Callable[[T], None] | None = None) -> T | None:
        """Return a part from its file; None where there is none that can be used."""
        path = self._path(name)
        if path is None or not path.exists():
            return None
        try:
            part = _parse(read_input(path, _KIND), self.fingerprint, kind)
            if check is not None:
                check(part)
        except (CimrobustError, ValueError) as err:
            self._note(f"{path.name} was not used and is made again: {str(err)[:200]}.")
            return None
        self.taken.append(self.prefix + name)
        return part

    def keep(self, name: str, part: Any) -> None:
        """Write a part; where the disk does not take it, the run goes on without."""
        path = self._path(name)
        if path is None:
            return
        try:
            write_whole(path, _content(self.fingerprint, part))
        except OSError as err:
            self._note(f"{path.name} could not be kept: {err.strerror}.")

    def _note(self, text: str) -> None:
        self.notes.append(text)
        _LOG.warning(printable(text))

    def drop(self) -> None:
        """Remove all parts of this store, which a part of a larger one replaces."""
        if self.folder is not None:
            for path in self.folder.glob(f"{glob.escape(self.prefix)}*{_SUFFIX}"):
                path.unlink(missing_ok=True)

    def _path(self, name: str) -> Path | None:
        if self.folder is None:
            return None
        return self.folder / f"{self.prefix}{_file_name(name)}{_SUFFIX}"


#: Keeps nothing.
NOTHING_KEPT = FinishedParts()


def _file_name(name: str) -> str:
    """Return a name that any file system takes; other names give other ones."""
    safe = re.sub(r"[^A-Za-z0-9_.-]", "_", name)[:40]
    return safe if safe == name else f"{safe}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"


def digest_of(value: Any) -> str:
    """Return a digest of numbers, texts, arrays and what is made of them, as hex."""
    arrays: Arrays = {}
    digest = hashlib.sha256()
    text = json.dumps(as_plain(value, arrays), sort_keys=True)
    digest.update(text.encode())
    for name, array in arrays.items():
        whole = np.ascontiguousarray(array)
        digest.update(f"{name} {whole.dtype} {whole.shape}".encode())
        digest.update(whole.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _content(fingerprint: str, part: Any) -> bytes:
    arrays: Arrays = {}
    text = json.dumps({"fingerprint": fingerprint, "part": as_plain(part, arrays)})
    tensors = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    tensors[_FILLING] = np.zeros(1, dtype=np.uint8)
    body = save(tensors, metadata={"part": text})
    return hashlib.sha256(body).hexdigest().encode() + body


def _parse(content: bytes, fingerprint: str, kind: type[T]) -> T:
    """Read a part; raises ValueError, saying what is wrong, where it cannot be used."""
    body = memoryview(content)[_DIGEST:]
    if hashlib.sha256(body).hexdigest().encode() != content[:_DIGEST]:
        raise ValueError("it is damaged")
    if 2 * len(content) > available_memory():
        raise ValueError("it does not fit into memory")
    try:
        tensors = load(bytes(body))
        size = int.from_bytes(body[:8], "little")
        head = parse_json(bytes(body[8 : 8 + size]))
        described = parse_json(head["__metadata__"]["part"])
        stated, plain = described["fingerprint"], described["part"]
    except (SafetensorError, KeyError, TypeError) as err:
        raise ValueError("it is no part of a run") from err
    if stated != fingerprint:
        raise ValueError("it is of another run: its model, data, settings, tool or machine differ")
    return from_plain(kind, plain, _without_filling(tensors))


def _without_filling(tensors: Mapping[str, Shaped[np.ndarray, "..."]]) -> Arrays:
    return {name: array for name, array in tensors.items() if name != _FILLING}
