"""Trials already done, on disk: a killed run goes on where it stopped and ends with the same table.

One JSON object a line: first what the run is, then one trial a line, each line written in one
piece. A line that a kill cut off is dropped.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from cimrobust.data.decision import Score
from cimrobust.errors import InputRefusedError, UsageError
from cimrobust.input_file import FileKind, read_input
from cimrobust.json_file import parse_json

_FORMAT = "cimrobust trials 1"
MAX_BYTES = 2**32


@dataclass(frozen=True)
class Opened:
    """A checkpoint ready for more trials.

    Attributes:
        done: Scores of the trials in it, by trial index.
        note: What was found on disk, one sentence; empty for a new file.
    """

    done: dict[int, Score]
    note: str


class Checkpoint:
    """Appends trials to a file; use it in a ``with`` statement."""

    def __init__(self, path: Path, fingerprint: str) -> None:
        """Open a checkpoint, taking over the trials in it if they are of the same run.

        A checkpoint of another run is put aside under a name that ends in ``.old``, never mixed in
        and never deleted.

        Args:
            path: The file; its folder must exist.
            fingerprint: Digest of everything that a score depends on.

        Raises:
            UsageError: The file cannot be written.
        """
        self._path = path
        header = _header(fingerprint)
        try:
            self.opened, valid_bytes = _read(path, header)
            if valid_bytes == 0 and path.exists():
                path.replace(path.with_name(path.name + ".old"))
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            os.ftruncate(self._descriptor, valid_bytes)
            os.lseek(self._descriptor, valid_bytes, os.SEEK_SET)
            if valid_bytes == 0:
                self._write_line(header)
        except OSError as err:
            raise UsageError(
                f"checkpoint must be a writable file, got: {err.strerror} ({path}); choose another"
                " folder"
            ) from err

    def add(self, trial: int, score: Score) -> None:
        """Append one trial."""
        self._write_line(
            json.dumps(
                {
                    "trial": trial,
                    "value": score.value,
                    "count": score.count,
                    "samples": score.num_samples,
                }
            )
        )

    def _write_line(self, line: str) -> None:
        os.write(self._descriptor, line.encode() + b"\n")

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._descriptor)


def trials_in(content: bytes, path: Path, fingerprint: str) -> dict[int, Score]:
    """Return the trials of a finished checkpoint.

    Args:
        content: What the file holds.
        path: The file, for messages.
        fingerprint: Digest of everything that a score depends on.

    Raises:
        InputRefusedError: It is of another run, ends within a line, or holds a trial twice.
    """
    first, *lines = content.split(b"\n")
    if first != _header(fingerprint).encode() or not lines or lines.pop() != b"":
        raise InputRefusedError(
            f"checkpoint must be whole and of this run, got another or a part ({path}); draw its"
            " trials again"
        )
    parsed = [_parse(line, path, number) for number, line in enumerate(lines, start=2)]
    done = dict(parsed)
    if len(done) < len(parsed):
        raise InputRefusedError(
            f"checkpoint must hold every trial once, got {len(parsed)} lines of {len(done)} trials"
            f" ({path}); draw its trials again"
        )
    return done


def _header(fingerprint: str) -> str:
    return json.dumps({"format": _FORMAT, "fingerprint": fingerprint})


def _read(path: Path, header: str) -> tuple[Opened, int]:
    """Return the trials of a checkpoint of this run, and the length of its valid part.

    Nothing and 0 for any other file.
    """
    try:
        content = read_input(
            path,
            FileKind("checkpoint", MAX_BYTES, missing=UsageError, hint="delete it to begin anew"),
        )
    except UsageError as err:
        if isinstance(err.__cause__, FileNotFoundError):
            return Opened({}, ""), 0
        raise
    lines = content.split(b"\n")[:-1]  # what follows the last line break was cut off by a kill
    if not lines or lines[0] != header.encode():
        return (
            Opened(
                {},
                f"The checkpoint {path.name} is of another run; it was put aside and the trials"
                " begin anew.",
            ),
            0,
        )
    done: dict[int, Score] = {}
    for number, line in enumerate(lines[1:], start=2):
        trial, score = _parse(line, path, number)
        done[trial] = score
    return Opened(done, f"{len(done)} trials were taken from the checkpoint {path.name}."), sum(
        len(line) + 1 for line in lines
    )


def _parse(line: bytes, path: Path, number: int) -> tuple[int, Score]:
    try:
        row = parse_json(line)
        count = row["count"]
        return int(row["trial"]), Score(
            value=float(row["value"]),
            count=None if count is None else int(count),
            num_samples=int(row["samples"]),
        )
    except (ValueError, KeyError, TypeError) as err:
        raise InputRefusedError(
            f"checkpoint must hold one trial a line, got something else ({path}, line {number});"
            " delete the file to begin anew"
        ) from err
