"""Shards as WebDataset writes them: tar files of samples, each a few members of one key.

``KEY.jpg`` (or another image) and ``KEY.npy`` are array ``x`` of a sample, ``KEY.NAME.npy`` and
``KEY.NAME.jpg`` array NAME, and ``KEY.cls`` is its label ``y``. Other members are passed over.
Nothing is unpacked to the disk, and of samples that are not wanted only the labels are read.
"""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Shaped

from cimrobust.data.array_files import require_fit
from cimrobust.data.images import IMAGE_FILE, IMAGE_SUFFIXES, decoded_images
from cimrobust.data.member_rows import read_header, read_rows
from cimrobust.data.row_choice import RowChoice, first_of
from cimrobust.data.sources import RawData, Taken
from cimrobust.errors import InputRefusedError, UsageError
from cimrobust.input_file import FileKind, open_input, printable, refusing_what_fails

if TYPE_CHECKING:
    from cimrobust.data.description import Step

_SHARD = FileKind("shard", 2**40)
_MOST_LABEL_BYTES = 256
# What fits into 64 bits.
_WHOLE_NUMBER = re.compile(r"[+-]?[0-9]{1,18}")
_HINT = "write the shard again"


@dataclass(frozen=True)
class _Member:
    """Where one member of a sample is."""

    shard: int
    offset: int
    size: int
    suffix: str


@dataclass
class _Sample:
    """One sample, by array its member."""

    key: tuple[int, str]
    members: dict[str, _Member] = field(default_factory=dict)


def shards_of(path: Path) -> list[Path]:
    """Return the shards that a path names: a tar file, or those of a folder; empty: none."""
    if path.suffix == ".tar" and not path.is_dir():
        return [path]
    return sorted(path.glob("*.tar")) if path.is_dir() else []


def read_shards(
    paths: Sequence[Path], steps: Callable[[str], Sequence[Step]], choice: RowChoice | None
) -> RawData:
    """Read samples of shards, in the order of the shards.

    Args:
        paths: The shards.
        steps: Given an array, what is done to each of its images.
        choice: Samples wanted; None: all.

    Raises:
        UsageError: There are no samples, or images differ in size.
        InputRefusedError: A shard is damaged or unsafe, or samples have other members than the
            first.
    """
    choice, files = choice or RowChoice(first_of(None)), {}
    with ExitStack() as opened:
        streams = [opened.enter_context(open_input(path, _SHARD)) for path in paths]
        samples: list[_Sample] = []
        for number, (path, stream) in enumerate(zip(paths, streams, strict=True)):
            files[path.name] = hashlib.file_digest(stream, "sha256").hexdigest()
            with refusing_what_fails("shard must be a sound tar file", path, hint=_HINT):
                samples += _samples(number, stream, path)
        _require_alike(samples, paths)
        shards = _Shards(paths, streams)
        labels = shards.labels(samples) if "y" in samples[0].members else None
        rows, num_ignored = choice.rows(len(samples), labels)
        # The caller refuses data of which nothing is counted.
        rows = rows if rows.size else np.zeros(1, dtype=np.int64)
        wanted = [samples[row] for row in rows]
        names = [name for name in samples[0].members if name != "y"]
        arrays = {name: shards.array(name, wanted, steps(name)) for name in names}
        if labels is not None:
            arrays["y"] = labels[rows]
    images = frozenset(name for name in names if samples[0].members[name].suffix != ".npy")
    taken = Taken(dict.fromkeys(arrays, len(samples)), num_ignored)
    return RawData(arrays, files, taken=taken, images=images)


def _samples(number: int, stream: BufferedReader, path: Path) -> Iterator[_Sample]:
    """Yield the samples of a shard; members of one key follow each other."""
    stream.seek(0)
    sample: _Sample | None = None
    with tarfile.open(fileobj=stream, mode="r:") as archive:
        while (info := archive.next()) is not None:
            archive.members = []  # type: ignore[attr-defined]  # else they stay, a kilobyte each
            if info.isdir():
                continue
            _require_safe(info, path)
            place = PurePosixPath(info.name)
            stem, _, ending = place.name.partition(".")
            named, _, suffix = ending.rpartition(".")
            suffix = f".{suffix.lower()}"
            if suffix not in {*IMAGE_SUFFIXES, ".npy", ".cls"}:
                continue
            key = (number, str(place.parent / stem))
            if sample is None or sample.key != key:
                if sample is not None:
                    yield sample
                sample = _Sample(key)
            array = "y" if suffix == ".cls" else named or "x"
            if array in sample.members:
                raise InputRefusedError(
                    f"sample must have one member for array '{printable(array)[:100]}', got two"
                    f" ({printable(path)}, {printable(key[1])[:200]}); {_HINT}"
                )
            sample.members[array] = _Member(number, info.offset_data, info.size, suffix)
    if sample is not None:
        yield sample


def _require_safe(info: tarfile.TarInfo, path: Path) -> None:
    """Refuse members that are no plain files, lead out of the shard, or are too large."""
    place = PurePosixPath(info.name)
    problem = ""
    if not info.isreg() or info.issparse():
        problem = "be plain files, got a link or another kind"
    elif place.is_absolute() or ".." in place.parts:
        problem = "lie inside of it, got a path that leads out"
    elif info.size > IMAGE_FILE.max_bytes:
        problem = f"have at most {IMAGE_FILE.max_bytes} bytes, got {info.size}"
    if problem:
        raise InputRefusedError(
            f"members of a shard must {problem} ({printable(path)},"
            f" {printable(info.name)[:200]}); do not trust it"
        )


def _require_alike(samples: Sequence[_Sample], paths: Sequence[Path]) -> None:
    where = printable(paths[0].parent if len(paths) > 1 else paths[0])
    if not samples:
        raise UsageError(
            "shards must hold samples, KEY.jpg or KEY.npy and KEY.cls, got none"
            f" ({where}); check the path"
        )
    first = samples[0]
    kinds = {name: member.suffix == ".npy" for name, member in first.members.items()}
    for sample in samples:
        found = {name: member.suffix == ".npy" for name, member in sample.members.items()}
        if found != kinds:
            raise InputRefusedError(
                f"samples must have the members of the first, {sorted(kinds)}, got"
                f" {sorted(found)} ({where}, {printable(sample.key[1])[:200]}); {_HINT}"
            )


@dataclass(frozen=True)
class _Shards:
    """Open shards."""

    paths: Sequence[Path]
    streams: Sequence[BufferedReader]

    def labels(self, samples: Sequence[_Sample]) -> Shaped[np.ndarray, "samples"]:
        """Return all labels: whole numbers, or texts where one is no number."""
        texts = []
        for sample in samples:
            member = sample.members["y"]
            where = self._where(sample)
            if member.size > _MOST_LABEL_BYTES:
                raise InputRefusedError(
                    f"label must have at most {_MOST_LABEL_BYTES} bytes, got {member.size}"
                    f" ({where}); {_HINT}"
                )
            with refusing_what_fails("label must be text", where, hint=_HINT):
                texts.append(self._content(sample, "y").decode("utf-8").strip())
        # Python's int() takes 1_0 for 10, and digits of other scripts.
        if all(_WHOLE_NUMBER.fullmatch(text) for text in texts):
            return np.array([int(text) for text in texts], dtype=np.int64)
        return np.array(texts)

    def array(
        self, name: str, samples: Sequence[_Sample], steps: Sequence[Step]
    ) -> Shaped[np.ndarray, "samples ..."]:
        """Return one array of some samples."""
        where = self.paths[0].parent if len(self.paths) > 1 else self.paths[0]
        if samples[0].members[name].suffix != ".npy":
            contents = ((self._content(each, name), self._where(each)) for each in samples)
            return decoded_images(contents, len(samples), where, steps)
        parts: list[Shaped[np.ndarray, "_samples ..."]] = []
        for sample in samples:
            with refusing_what_fails("member must be an array", self._where(sample), hint=_HINT):
                parts.append(_array(self._content(sample, name), self._where(sample)))
            if len(parts) == 1:
                needed = 2 * len(samples) * parts[0].nbytes
                require_fit(needed, what="arrays of shards and their stack", where=where)
            if (parts[-1].shape, parts[-1].dtype) != (parts[0].shape, parts[0].dtype):
                raise InputRefusedError(
                    f"arrays must be alike in all samples, got {parts[0].dtype}"
                    f" {list(parts[0].shape)} and {parts[-1].dtype} {list(parts[-1].shape)}"
                    f" ({self._where(sample)}); {_HINT}"
                )
        return np.stack(parts)

    def _content(self, sample: _Sample, name: str) -> bytes:
        member = sample.members[name]
        stream = self.streams[member.shard]
        stream.seek(member.offset)
        content = stream.read(member.size)
        if len(content) != member.size:
            raise InputRefusedError(
                f"member must have {member.size} bytes, got {len(content)}"
                f" ({self._where(sample)}); {_HINT}"
            )
        return content

    def _where(self, sample: _Sample) -> str:
        number, key = sample.key
        return f"{printable(self.paths[number])}, {printable(key)[:200]}"


def _array(content: bytes, where: str) -> Shaped[np.ndarray, "..."]:
    stream = io.BytesIO(content)
    header = read_header(stream)
    if header.dtype.kind not in "biuf":
        raise InputRefusedError(
            f"arrays must hold numbers, got {header.dtype} ({where}); save them as numbers"
        )
    if header.num_bytes > len(content):
        raise InputRefusedError(
            f"array must have {header.num_bytes} bytes, got {len(content)} ({where}); {_HINT}"
        )
    return read_rows(stream, header, None, where=where, hint=_HINT)
