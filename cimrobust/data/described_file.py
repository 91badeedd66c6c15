"""The arrays that a description names, from whatever kind of file it names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cimrobust.data.column_files import COLUMN_SUFFIXES
from cimrobust.data.description import Description, Input, Step
from cimrobust.data.images import IMAGE_STEPS, read_image_folder
from cimrobust.data.parquet_columns import read_parquet_columns
from cimrobust.data.sample_shards import read_shards, shards_of
from cimrobust.data.sources import RawData, read_arrays, read_csv
from cimrobust.errors import UsageError

if TYPE_CHECKING:
    from cimrobust.data.row_choice import RowChoice, Wanted

Steps = Mapping[str, tuple[Step, ...]]


def read_described(
    file: Path | RawData, description: Description, entries: Mapping[str, Input], wanted: Wanted
) -> tuple[RawData, Steps]:
    """Read the arrays that a description names, or take those given.

    Args:
        file: The data file, or arrays.
        description: The description.
        entries: Its entry for every graph input.
        wanted: Samples wanted.

    Returns:
        The arrays, and by graph input the steps that are left to do.

    Raises:
        UsageError: The file lacks an array, or is of a kind that does not fit.
        InputRefusedError: It is corrupt or unsafe.
    """
    steps: Steps = {name: tuple(entry.steps) for name, entry in entries.items()}
    names = {entry.array or "x" for entry in entries.values() if entry.value is None}
    names |= {description.label.array} if description.label.array is not None else set()
    choice = wanted.of(description.label.array, _not_counted(description, file))
    if isinstance(file, RawData):
        raw, file = file, Path("function")
    elif file.suffix in COLUMN_SUFFIXES or shards_of(file):
        alone = _read_once(entries)

        def of_images(array: str) -> Sequence[Step]:
            return alone[array].steps if array in alone else ()

        raw = (
            read_parquet_columns(file, names, of_images, choice)
            if file.suffix in COLUMN_SUFFIXES
            else read_shards(shards_of(file), of_images, choice)
        )
        steps = {
            name: _left(entry) if (entry.array or "x") in raw.images & alone.keys() else steps[name]
            for name, entry in entries.items()
        }
    elif file.is_dir():
        raw, steps = _image_folder(file, entries, wanted, choice)
    else:
        read = read_arrays if file.suffix != ".csv" else read_csv
        raw = read(file, choice=choice, names=names)
    require_arrays(names, raw, file)
    return raw, steps


def require_arrays(wanted: set[str], raw: RawData, file: Path) -> None:
    """Raise UsageError unless a file has the arrays."""
    if wanted - raw.arrays.keys():
        raise UsageError(
            f"data file must hold the arrays {sorted(wanted)}, got {sorted(raw.arrays)} ({file});"
            " check [[input]] array and [label] array"
        )


def _not_counted(description: Description, file: Path | RawData) -> tuple[int, ...]:
    """Return the labels that are not counted; where names of folders are labels, all are."""
    reading = description.label.to_reading()
    is_folder = isinstance(file, Path) and file.is_dir() and not shards_of(file)
    return () if is_folder and reading.classes is not None else reading.ignore


def _image_folder(
    file: Path, entries: Mapping[str, Input], wanted: Wanted, choice: RowChoice | None
) -> tuple[RawData, Steps]:
    fed = [name for name, entry in entries.items() if entry.value is None]
    if len(fed) != 1:
        raise UsageError(
            f"image folders feed one graph input, got {fed} ({file}); save the arrays as .npz"
        )
    steps = {name: tuple(entry.steps) for name, entry in entries.items()}
    raw, left = read_image_folder(file, steps[fed[0]], limit=wanted.limit, choice=choice)
    return raw, {**steps, fed[0]: left}


def _read_once(entries: Mapping[str, Input]) -> dict[str, Input]:
    """Return the entry of every array that feeds one graph input."""
    fed = [entry for entry in entries.values() if entry.value is None]
    arrays = [entry.array or "x" for entry in fed]
    return {name: entry for name, entry in zip(arrays, fed, strict=True) if arrays.count(name) == 1}


def _left(entry: Input) -> tuple[Step, ...]:
    """Return the steps that are left where images have got their size."""
    return tuple(step for step in entry.steps if step.op not in IMAGE_STEPS)
