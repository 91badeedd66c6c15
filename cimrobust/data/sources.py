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

from cimrobust.data.arrays import MAX_BYTES, read_npz, require_fit
from cimrobust.data.user_code import run_function
from cimrobust.errors import InputRefusedError, UsageError
from cimrobust.graph.testdata import read_tensor
from cimrobust.input_file import FileKind, read_input, refusing_what_fails

_CSV = FileKind("data file", MAX_BYTES)
_LABEL_COLUMNS = ("label", "labels", "y", "target", "class")
_TENSOR_FILE = re.compile(r"(input|output)_(\d+)\.pb")


@dataclass(frozen=True)
class RawData:
    """Arrays as they are stored.

    Attributes:
        arrays: By name; the first axis counts samples.
        files: SHA-256 digest of every file read.
    """

    arrays: Mapping[str, np.ndarray]
    files: Mapping[str, str]


def read_arrays(path: Path, names: set[str]) -> RawData:
    """Read named arrays from an .npz file."""
    arrays, digest = read_npz(path, names)
    return RawData(arrays, {path.name: digest})


def read_csv(path: Path) -> RawData:
    """Read a CSV file with a header: ``y`` is the column called label, labels, y, target or class, else the last; ``x`` is all others.

    Raises:
        InputRefusedError: It is not a table of numbers.
    """
    content = read_input(path, _CSV)
    require_fit(3 * len(content), what="CSV, its columns and their copy", where=path)
    with refusing_what_fails("CSV must be a table with a header", path, hint="check its rows"):
        table = pa_csv.read_csv(pa.BufferReader(content))
        _require_header(table.column_names, path)
        columns = {name: np.asarray(table.column(name).to_numpy(zero_copy_only=False)) for name in table.column_names}
    text = [name for name, values in columns.items() if values.dtype.kind not in "biuf"]
    if text or len(columns) < 2:
        raise InputRefusedError(
            f"CSV must have at least two columns of numbers, got text in {text} of {list(columns)} ({path}); code text as numbers"
        )
    label = next((name for name in columns if name.lower() in _LABEL_COLUMNS), list(columns)[-1])
    features = np.stack([values for name, values in columns.items() if name != label], axis=1)
    return RawData({"x": features, "y": columns[label]}, {path.name: hashlib.sha256(content).hexdigest()})


def _require_header(names: Sequence[str], path: Path) -> None:
    """Refuse a first row that is no header: its numbers would be lost as names, or repeat."""
    repeated = sorted({name for name in names if names.count(name) > 1})
    if all(_is_number(name) for name in names):
        raise InputRefusedError(f"CSV must begin with a row of column names, got numbers ({path}, row 1); add a header")
    if repeated:
        raise InputRefusedError(f"CSV columns must have names of their own, got {repeated[:5]} more than once ({path}, row 1); rename them")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def read_test_data(folder: Path, input_names: Sequence[str]) -> tuple[RawData, list[np.ndarray]]:
    """Read a folder of ONNX test data: ``test_data_set_*/input_N.pb`` and ``output_N.pb``, or the files of one set.

    Args:
        folder: Folder of sets, or one set.
        input_names: Graph inputs; input_N.pb without a name belongs to the N-th.

    Returns:
        Per graph input the samples of all sets, along the batch axis where the sets have one; and the first output of every set.
    """
    sets = sorted(folder.glob("test_data_set_*"), key=lambda path: (len(path.name), path.name)) or [folder]
    inputs: dict[str, list[np.ndarray]] = {name: [] for name in input_names}
    outputs: list[np.ndarray] = []
    files: dict[str, str] = {}
    for test_set in sets:
        for path in sorted(test_set.glob("*.pb")):
            match = _TENSOR_FILE.fullmatch(path.name)
            if match is None:
                continue
            name, array, files[f"{test_set.name}/{path.name}"] = read_tensor(path)
            index = int(match[2])
            if match[1] == "output":
                outputs += [array] if index == 0 else []
                continue
            target = name if name in inputs else input_names[index] if index < len(input_names) else None
            if target is None:
                raise UsageError(f"test data must fit the {len(input_names)} graph inputs, got {path.name} named '{name}' ({test_set})")
            inputs[target].append(array)
    uneven = sorted(name for name, arrays in inputs.items() if len(arrays) != len(sets))
    if uneven or len(outputs) not in (0, len(sets)):
        raise UsageError(f"every test data set must have all inputs and outputs, got gaps for {uneven or 'output_0.pb'} ({folder})")
    return RawData({name: np.stack(arrays) for name, arrays in inputs.items()}, files), outputs


def call_function(text: str) -> RawData:
    """Call ``module:function`` and take the arrays that it returns.

    The function takes no arguments and returns a mapping of names to arrays, ``x`` and ``y`` or one array for each graph input and ``y``.
    This runs the user's own code, found on the import path or in the working folder, in a process of its own.
    """
    arrays: Any = run_function(text)
    if not isinstance(arrays, Mapping) or not arrays:
        raise UsageError(f'data function must return a mapping such as {{"x": ..., "y": ...}}, got {type(arrays).__name__} ({text})')
    made = {str(name): np.asarray(value) for name, value in arrays.items()}
    wrong = sorted(name for name, value in made.items() if value.dtype.kind not in "biuf" or value.ndim == 0)
    if wrong:
        raise UsageError(f"data function must return arrays of numbers with a sample axis, got others for {wrong} ({text})")
    return RawData(made, {})
