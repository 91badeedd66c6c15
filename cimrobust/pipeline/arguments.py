"""What whole runs do with their arguments alike.

Check them, and make the output folder.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from datetime import date
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING

from cimrobust.errors import UsageError

if TYPE_CHECKING:
    from cimrobust.onnx_io.network import Network


def check_tolerance(tolerance: float | None) -> None:
    """Raise UsageError unless a tolerance, if one is given, is a fraction."""
    if tolerance is not None and not (isinstance(tolerance, Real) and 0 <= tolerance <= 1):
        raise UsageError(
            f"tolerance must be in [0, 1], got {tolerance} (--tolerance); give it as a fraction of"
            " the conductance range"
        )


def check_day(option: str, day: str | None) -> date | None:
    """Return a day that was given as text; raises UsageError unless it reads YYYY-MM-DD.

    Args:
        option: What it was given by, for messages.
        day: The text; None: none was given.
    """
    if day is None:
        return None
    try:
        read = date.fromisoformat(day)
    except (TypeError, ValueError):
        read = None
    # Python reads other forms of ISO 8601 too; one form sorts and compares as text.
    if read is None or read.isoformat() != day:
        raise UsageError(
            f"day must be like 2026-11-29, got {day!r} ({option}); write year, month and day"
        )
    return read


def make_folder(out: Path) -> None:
    """Make the output folder, if it is not there.

    Raises:
        UsageError: It cannot be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise _not_writable(out, err) from err


def resume_folder(out: Path, name: str, *, resume: bool) -> Path:
    """Return the folder below the output folder that a run keeps its progress in.

    It is empty unless the run goes on from an interrupted one.

    Raises:
        UsageError: It cannot be made.
    """
    make_folder(out)
    folder = out / name
    if not resume:
        shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir(exist_ok=True)
    except OSError as err:
        raise _not_writable(out, err) from err
    return folder


def check_not_overwritten(network: Network, name: str, folders: Iterable[Path]) -> None:
    """Raise UsageError where a network would be written over the files that it was read from.

    Args:
        network: The network that was read.
        name: File name of the networks to be written.
        folders: Folders that they go to.
    """
    read = {
        network.path.resolve(),
        *((network.path.parent / file.name).resolve() for file in network.files[1:]),
    }
    for folder in folders:
        for written in (folder / name, *(folder / file.name for file in network.files[1:])):
            if written.resolve() in read:
                raise UsageError(
                    f"output must not replace the model that it comes from, got {written} (--out);"
                    " choose another folder"
                )


def _not_writable(out: Path, err: OSError) -> UsageError:
    return UsageError(
        f"output folder must be writable, got {err.strerror} ({out}, --out); choose another folder"
    )
