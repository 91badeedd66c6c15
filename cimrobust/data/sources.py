"""Raw arrays by name from the kinds of files that data sets come in."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
from jaxtyping import Shaped

from cimrobust.data.array_files import MAX_BYTES, read_npz, require_fit
from cimrobust.data.dataset import StoredOutput
from cimrobust.data.labels import is_text
from cimrobust.data.user_code import run_function
from cimrobust.errors import InputRefusedError, UsageError
from cimrobust.input_file import FileKind, read_input, refusing_what_fails
from cimrobust.onnx_io.testdata import read_tensor

_CSV = FileKind("data file", MAX_BYTES)
_LABEL_COLUMNS = ("label", "labels", "y", "target", "class")
_TENSOR_FILE = re.compile(r"(input|output)_(\d+)\.pb")


@dataclass(frozen=True)
class RawData:
    """Arrays as they are stored.

    Attributes:
        arrays: By name; the first axis counts samples.
        files: SHA-256 digest of every file read.
        folders: Names of the sub-folders that ``y`` counts; empty: it counts none.
    """

    arrays: Mapping[str, Shaped[np.ndarray, "..."]]
    files: Mapping[str, str]
    folders: tuple[str, ...] = ()


def read_arrays(path: Path, names: set[str]) -> RawData:
    """Read named arrays from an .npz file."""
    arrays, digest = read_npz(path, names)
    return RawData(arrays, {path.name: digest})


def read_csv(path: Path) -> RawData:
    """Read a CSV file with a header.

    ``y`` is the column called label, labels, y, target or class, else the last; ``x`` is all
    others.

    Raises:
        InputRefusedError: It is not a table of numbers.
    """
    content = read_input(path, _CSV)
    require_fit(3 * len(content), what="CSV, its columns and their copy", where=path)
    with refusing_what_fails("CSV must be a table with a header", path, hint="check its rows"):
        table = pa_csv.read_csv(pa.BufferReader(content))
        _require_header(table.column_names, path)
        columns = {
            name: np.asarray(table.column(name).to_numpy(zero_copy_only=False))
            for name in table.column_names
        }
        label = next(
            (name for name in columns if name.lower() in _LABEL_COLUMNS), list(columns)[-1]
        )
        if columns[label].dtype.kind == "O" and all(
            isinstance(value, str) for value in columns[label]
        ):
            columns[label] = columns[label].astype(str)
    text = [
        name
        for name, values in columns.items()
        if values.dtype.kind not in ("biufU" if name == label else "biuf")
    ]
    if text or len(columns) < 2:
        raise InputRefusedError(
            f"CSV must have at least two columns of numbers, got text in {text} of {list(columns)}"
            f" ({path}); code text as numbers"
        )
    features = np.stack([values for name, values in columns.items() if name != label], axis=1)
    return RawData(
        {"x": features, "y": columns[label]}, {path.name: hashlib.sha256(content).hexdigest()}
    )


def _require_header(names: Sequence[str], path: Path) -> None:
    """Refuse a first row that is no header: its numbers would be lost as names, or repeat."""
    repeated = sorted({name for name in names if names.count(name) > 1})
    if all(_is_number(name) for name in names):
        raise InputRefusedError(
            f"CSV must begin with a row of column names, got numbers ({path}, row 1); add a header"
        )
    if repeated:
        raise InputRefusedError(
            f"CSV columns must have names of their own, got {repeated[:5]} more than once ({path},"
            " row 1); rename them"
        )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


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
    arrays: Any = run_function(text)
    if not isinstance(arrays, Mapping) or not arrays:
        raise UsageError(
            'data function must return a mapping such as {"x": ..., "y": ...}, got'
            f" {type(arrays).__name__} ({text})"
        )
    made = {str(name): np.asarray(value) for name, value in arrays.items()}
    made = {
        name: (
            value.astype(str)
            if is_text(value) and all(isinstance(part, str) for part in value.flat)
            else value
        )
        for name, value in made.items()
    }
    wrong = sorted(
        name for name, value in made.items() if value.dtype.kind not in "biufU" or value.ndim == 0
    )
    if wrong:
        raise UsageError(
            "data function must return arrays of numbers, or text for labels, with a sample axis,"
            f" got others for {wrong} ({text})"
        )
    return RawData(made, {})
