"""What whole runs do with their arguments alike.

Check them, make the output folder, say what was set.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from datetime import date
from pathlib import Path

from cimrobust.certificate.models import Setting
from cimrobust.certificate.policy import EFFORTS
from cimrobust.counts import check_count
from cimrobust.errors import UsageError
from cimrobust.onnx_io.network import Network


def available_processors() -> int:
    """Return the processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_effort(effort: str) -> None:
    """Raise UsageError unless there is such a level of effort."""
    if effort not in EFFORTS:
        raise UsageError(
            f"effort must be one of {', '.join(EFFORTS)}, got '{effort}' (--effort); choose one of"
            " them"
        )


def check_tolerance(tolerance: float | None) -> None:
    """Raise UsageError unless a tolerance, if one is given, is a fraction."""
    if tolerance is not None and not 0 <= tolerance <= 1:
        raise UsageError(
            f"tolerance must be in [0, 1], got {tolerance} (--tolerance); give it as a fraction of"
            " the conductance range"
        )


def check_counts(*, least: int = 1, **counts: int | None) -> None:
    """Raise UsageError for the first count, named as its option is, that is given and too small or too large."""
    for name, value in counts.items():
        check_count(name.replace("_", "-"), value, least=least)


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
    """Return the folder below the output folder that a run keeps its progress in, empty unless it goes on from an interrupted one.

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
    """Raise UsageError where a network that is written, or external data beside it, would take the place of the files that a network was read from.

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


def stored(
    key: str,
    value: int | float | str | bool | None,
    *,
    default: int | float | str | bool | None = None,
) -> Setting:
    """Return a setting as the certificate states it."""
    return Setting(key=key, value=value, is_default=value == default)


def stored_each(key: str, values: Iterable[str]) -> tuple[Setting, ...]:
    """Return a setting that may be given several times, one entry a time.

    One entry without value where it was not given.
    """
    return tuple(Setting(key=key, value=value, is_default=False) for value in values) or (
        Setting(key=key, value=None, is_default=True),
    )


def stored_file(key: str, path: str | Path | None) -> Setting:
    """Return the setting of a file, which is stated by its name alone; the default is none."""
    return stored(key, None if path is None else Path(path).name)


def _not_writable(out: Path, err: OSError) -> UsageError:
    return UsageError(
        f"output folder must be writable, got {err.strerror} ({out}, --out); choose another folder"
    )
