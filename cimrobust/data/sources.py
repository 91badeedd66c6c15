"""Raw arrays by name from the kinds of files that data sets come in."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Shaped

from cimrobust.data.array_files import ArraysRead, read_rows_of_npz
from cimrobust.data.csv_files import read_table
from cimrobust.data.dataset import StoredOutput
from cimrobust.data.user_code import run_function
from cimrobust.errors import UsageError
from cimrobust.onnx_io.testdata import read_tensor

if TYPE_CHECKING:
    from cimrobust.data.row_choice import RowChoice

_TENSOR_FILE = re.compile(r"(input|output)_(\d+)\.pb")


@dataclass(frozen=True)
class Taken:
    """What a file holds of which only the wanted samples were read.

    Attributes:
        lengths: Samples in the file, by array.
        num_ignored: Those whose label is not counted.
    """

    lengths: Mapping[str, int]
    num_ignored: int


@dataclass(frozen=True)
class RawData:
    """Arrays as they are stored.

    Attributes:
        arrays: By name; the first axis counts samples.
        files: SHA-256 digest of every file read.
        folders: Names of the sub-folders that ``y`` counts; empty: it counts none.
        taken: Of what these are the wanted samples; None: they are all samples.
        images: Arrays that are unpacked images, whose leading steps were done.
        unread: Columns that hold nothing that is read, with what they hold; filled where all
            columns were asked for.
    """

    arrays: Mapping[str, Shaped[np.ndarray, "..."]]
    files: Mapping[str, str]
    folders: tuple[str, ...] = ()
    taken: Taken | None = None
    images: frozenset[str] = frozenset()
    unread: Mapping[str, str] = field(default_factory=dict)


def read_arrays(path: Path, names: set[str], choice: RowChoice | None = None) -> RawData:
    """Read named arrays from an .npz file, all rows or those of a choice."""
    return _raw(read_rows_of_npz(path, names, choice), path, choice)


def read_csv(
    path: Path, choice: RowChoice | None = None, names: Collection[str] = ("x", "y")
) -> RawData:
    """Read named arrays of a CSV file with a header, all rows or those of a choice.

    ``y`` is the column called label, labels, y, target or class, else the last; ``x`` is all
    others; every other array is the column of its name.

    Raises:
        InputRefusedError: It is not a table of numbers.
    """
    return _raw(read_table(path, choice, names), path, choice)


def _raw(read: ArraysRead, path: Path, choice: RowChoice | None) -> RawData:
    taken = None if choice is None else Taken(read.lengths, read.num_ignored)
    return RawData(read.arrays, {path.name: read.digest}, taken=taken)


def read_test_data(
    folder: Path, input_names: Sequence[str]
) -> tuple[RawData, dict[int, StoredOutput]]:
    """Read a folder of ONNX test data.

    ``test_data_set_*/input_N.pb`` and ``output_N.pb``, or the files of one set.

    Args:
        folder: Folder of sets, or one set.
        input_names: Graph inputs; input_N.pb without a name belongs to the N-th.

    Returns:
        Per graph input the arrays of all sets, [sets, ...]; and the same of every output that has
        one shape in all sets, by its number.
    """
    sets = sorted(folder.glob("test_data_set_*"), key=lambda path: (len(path.name), path.name)) or [
        folder
    ]
    inputs: dict[str, list[Shaped[np.ndarray, "..."]]] = {name: [] for name in input_names}
    outputs: dict[int, list[tuple[str, Shaped[np.ndarray, "..."]]]] = {}
    files: dict[str, str] = {}
    for test_set in sets:
        for path in sorted(test_set.glob("*.pb")):
            match = _TENSOR_FILE.fullmatch(path.name)
            if match is None:
                continue
            name, array, files[f"{test_set.name}/{path.name}"] = read_tensor(path)
            index = int(match[2])
            if match[1] == "output":
                outputs.setdefault(index, []).append((name, array))
                continue
            target = (
                name if name in inputs else input_names[index] if index < len(input_names) else None
            )
            if target is None:
                raise UsageError(
                    f"test data must fit the {len(input_names)} graph inputs, got {path.name} named"
                    f" '{name}' ({test_set})"
                )
            inputs[target].append(array)
    uneven = sorted(name for name, arrays in inputs.items() if len(arrays) != len(sets))
    uneven += sorted(
        f"output_{index}.pb" for index, arrays in outputs.items() if len(arrays) != len(sets)
    )
    if uneven:
        raise UsageError(
            f"every test data set must have all inputs and outputs, got gaps for {uneven}"
            f" ({folder})"
        )
    shapes = {name: sorted({array.shape for array in arrays}) for name, arrays in inputs.items()}
    varying = next((name for name in shapes if len(shapes[name]) > 1), None)
    if varying is not None:
        raise UsageError(
            f"test data sets must have inputs of one shape, got {shapes[varying][:3]} for"
            f" '{varying}' ({folder}); keep sets of one shape"
        )
    stored = {
        index: StoredOutput(arrays[0][0], _stacked([array for _, array in arrays]))
        for index, arrays in sorted(outputs.items())
    }
    return RawData({name: np.stack(arrays) for name, arrays in inputs.items()}, files), stored


def _stacked(
    arrays: Sequence[Shaped[np.ndarray, "..."]],
) -> Shaped[np.ndarray, "samples ..."]:
    """Return outputs of all sets along a new first axis.

    An empty array, which fits no sample, where their shapes differ.
    """
    return np.stack(arrays) if len({array.shape for array in arrays}) == 1 else np.empty(0)


def call_function(text: str) -> RawData:
    """Call ``module:function`` and take the arrays that it returns.

    The function takes no arguments and returns a mapping of names to arrays, ``x`` and ``y`` or one
    array for each graph input and ``y``. This runs the user's own code, found on the import path or
    in the working folder, in a process of its own.
    """
    return RawData(run_function(text), {})
