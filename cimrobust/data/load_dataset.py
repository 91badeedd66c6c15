"""Data sets of every kind, as the network takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Shaped

from cimrobust.data.casting import constant
from cimrobust.data.dataset import DataSet, DataSource, StoredOutput
from cimrobust.data.decision import Decision, LabelReading
from cimrobust.data.description import Description, Input, Step, read_description
from cimrobust.data.images import read_image_folder
from cimrobust.data.labels import is_counted
from cimrobust.data.sources import RawData, call_function, read_arrays, read_csv, read_test_data
from cimrobust.data.steps import apply_steps
from cimrobust.data.user_code import is_function, require_code_allowed
from cimrobust.errors import UsageError
from cimrobust.files import sha256_of

Part = Literal["eval", "train"]


@runtime_checkable
class GraphInput(Protocol):
    """What is known of a graph input: name, element type and shape."""

    @property
    def name(self) -> str:
        """Name in the graph."""

    @property
    def dtype(self) -> str:
        """NumPy name of the element type."""

    @property
    def shape(self) -> tuple[int | str | None, ...] | None:
        """One entry an axis; None: unknown."""


def load_data(
    path: str | Path,
    *,
    inputs: Sequence[GraphInput],
    limit: int | None = None,
    part: Part = "eval",
    like: str | Path | None = None,
) -> DataSet:
    """Load a data set.

    Args:
        path: A description (.toml), .npz with x (ready to be fed) and y, .csv, folder of ONNX test
            data, or ``module:function``.
        inputs: Graph inputs that it has to feed.
        limit: Take the first so many samples.
        part: ``train`` takes the description's ``train_file``.
        like: Data that these belong to: arrays without a description (.npz, .csv, images, a
            function's) are read by the description of those, its steps, labels and
            decision. None, or data without a description: by what `path` says alone.

    Raises:
        UsageError: The description is wrong or does not fit the graph; names file and key.
        InputRefusedError: A data file is corrupt or unsafe.
    """
    text = str(path)
    source, by = Path(text), None if like is None or Path(like).suffix != ".toml" else Path(like)
    if is_function(text) and not source.exists():
        made = call_function(text)
        return (
            _bare(made, text, inputs, limit)
            if by is None
            else _described(by, inputs, limit, part, given=made)
        )
    if source.suffix == ".toml":
        return _described(source, inputs, limit, part)
    if by is not None and not any(source.glob("**/*.pb")):
        return _described(by, inputs, limit, part, given=source)
    if part == "train":
        raise UsageError(
            f"training data must come from a description with train_file, got {text} (--data);"
            " write a .toml"
        )
    if source.suffix == ".csv":
        return _bare(read_csv(source), source.name, inputs, limit)
    if source.is_dir():
        return _folder(source, inputs, limit)
    names = {"x", "y"} if len(inputs) == 1 else {*(spec.name for spec in inputs), "y"}
    if source.suffix != ".npz":
        raise UsageError(
            f"data must be .toml, .npz, .csv, a folder or module:function, got '{text}' (--data);"
            " see the README"
        )
    return _bare(read_arrays(source, names), source.name, inputs, limit)


def _described(
    path: Path,
    inputs: Sequence[GraphInput],
    limit: int | None,
    part: Part,
    given: Path | RawData | None = None,
) -> DataSet:
    """Return the data of a description, or other data by the same description.

    Other data are given as a file or arrays.
    """
    description = read_description(path)
    file = description.train_file if part == "train" else description.file
    if given is None and file is None:
        raise UsageError(
            f"data description must name a train_file for training, got none ({path}, key"
            " 'train_file'); add it"
        )
    if (
        given is None
        and file is not None
        and is_function(file)
        and not (path.parent / file).exists()
    ):
        require_code_allowed(file, path)
        given = call_function(file)
    entries = _entries(description, inputs, str(path))
    source = path.parent / str(file) if given is None else given
    stored: Mapping[int, StoredOutput] = {}
    if isinstance(source, Path) and _holds_test_data(source):
        raw, stored = _test_data(source, inputs)
        entries = {
            name: entry.model_copy(update={"array": entry.array or name})
            for name, entry in entries.items()
        }
        left = {name: tuple(entry.steps) for name, entry in entries.items()}
        _require(
            {str(entry.array) for entry in entries.values() if entry.value is None}, raw, source
        )
    else:
        raw, left = _read_described(source, description, entries, limit)
    arrays = {
        name: apply_steps(
            raw.arrays[entry.array or "x"],
            left[name],
            dtype=entry.dtype,
            where=f"{path}, input '{name}'",
        )
        for name, entry in entries.items()
        if entry.value is None
    }
    constants = {
        name: constant(entry.value, entry.dtype, f"{path}, input '{name}'")
        for name, entry in entries.items()
        if entry.value is not None
    }
    if stored and description.label.array not in (None, "y"):
        raise UsageError(
            "labels of a folder of test data are its stored outputs, got array"
            f" '{description.label.array}' ({path}, key 'label.array'); leave [label] out, or save"
            " samples and labels as .npz"
        )
    stored = {} if description.label.self_ else stored
    labels = None if description.label.self_ or stored else raw.arrays[str(description.label.array)]
    reading = replace(description.label.to_reading(), folders=raw.folders)
    if raw.folders and reading.classes is not None and labels is not None:
        labels = np.asarray(raw.folders)[labels]
    return _assemble(
        arrays,
        constants,
        labels,
        inputs=inputs,
        decision=description.decision.to_decision(),
        reading=reading,
        stored=stored,
        where=str(path),
        files={path.name: sha256_of(path), **raw.files},
        steps={
            name: tuple(step.to_dict() for step in entry.steps) for name, entry in entries.items()
        },
        limit=limit,
    )


def _read_described(
    file: Path | RawData, description: Description, entries: Mapping[str, Input], limit: int | None
) -> tuple[RawData, dict[str, tuple[Step, ...]]]:
    """Read the arrays that a description names, or take those given.

    Return them and the steps that are left to do.
    """
    left = {name: tuple(entry.steps) for name, entry in entries.items()}
    wanted = {entry.array or "x" for entry in entries.values() if entry.value is None}
    wanted |= {description.label.array} if description.label.array is not None else set()
    if isinstance(file, RawData):
        raw, file = file, Path("function")
    elif file.is_dir():
        fed = [name for name, entry in entries.items() if entry.value is None]
        if len(fed) != 1:
            raise UsageError(
                f"image folders feed one graph input, got {fed} ({file}); save the arrays as .npz"
            )
        raw, left[fed[0]] = read_image_folder(file, left[fed[0]], limit=limit)
    else:
        raw = read_csv(file) if file.suffix == ".csv" else read_arrays(file, wanted)
    _require(wanted, raw, file)
    return raw, left


def _require(wanted: set[str], raw: RawData, file: Path) -> None:
    """Raise UsageError unless a file has the arrays."""
    if wanted - raw.arrays.keys():
        raise UsageError(
            f"data file must hold the arrays {sorted(wanted)}, got {sorted(raw.arrays)} ({file});"
            " check [[input]] array and [label] array"
        )


def _entries(
    description: Description, inputs: Sequence[GraphInput], where: str
) -> dict[str, Input]:
    """Return the entry for every graph input, or say which names do not fit."""
    entries: dict[str, Input] = {}
    for entry in description.input:
        name = entry.name or (inputs[0].name if len(inputs) == 1 else "")
        if not name or name in entries:
            raise UsageError(
                f"every [[input]] must have a 'name' of its own, got '{name}' ({where}); the graph"
                f" has {[i.name for i in inputs]}"
            )
        entries[name] = entry
    wanted = [spec.name for spec in inputs]
    if set(wanted) != entries.keys():
        raise UsageError(
            f"[[input]] names must be the graph's inputs {wanted}, got {list(entries)} ({where},"
            " key 'input.name'); correct the names"
        )
    return entries


def _bare(raw: RawData, where: str, inputs: Sequence[GraphInput], limit: int | None) -> DataSet:
    """Make a data set of arrays that are ready to be fed and of labels ``y``, read by argmax."""
    names = (
        {inputs[0].name: "x"}
        if len(inputs) == 1 and "x" in raw.arrays
        else {spec.name: spec.name for spec in inputs}
    )
    missing = sorted({*names.values(), "y"} - raw.arrays.keys())
    if missing:
        raise UsageError(
            f"data must hold the arrays {sorted({*names.values(), 'y'})}, got {sorted(raw.arrays)}"
            f" ({where}); write a description"
        )
    types = {spec.name: spec.dtype for spec in inputs}
    arrays = {
        name: apply_steps(raw.arrays[key], (), dtype=types[name], where=f"{where}, array '{key}'")
        for name, key in names.items()
    }
    arrays = {
        name: _fit_flat(array, spec)
        for (name, array), spec in zip(arrays.items(), inputs, strict=True)
    }
    return _assemble(
        arrays,
        {},
        raw.arrays["y"],
        inputs=inputs,
        decision=Decision(),
        where=where,
        files=raw.files,
        steps=dict.fromkeys(arrays, ()),
        limit=limit,
    )


def _fit_flat(array: Shaped[np.ndarray, "..."], spec: GraphInput) -> Shaped[np.ndarray, "..."]:
    """Return table rows in the shape of the graph input where it says one; others unchanged."""
    shape = spec.shape
    if (
        array.ndim != 2
        or shape is None
        or len(shape) <= 2
        or not all(isinstance(length, int) for length in shape[1:])
    ):
        return array
    sample = [int(length) for length in shape[1:] if isinstance(length, int)]
    return (
        array.reshape(array.shape[0], *sample) if int(np.prod(sample)) == array.shape[1] else array
    )


def _folder(folder: Path, inputs: Sequence[GraphInput], limit: int | None) -> DataSet:
    if not _holds_test_data(folder):
        raise UsageError(
            f"a folder must hold ONNX test data (test_data_set_*/input_0.pb), got none ({folder});"
            " for a folder of images write a description with file = the folder and the steps that"
            " the network was trained with"
        )
    raw, stored = _test_data(folder, inputs)
    return _assemble(
        dict(raw.arrays),
        {},
        None,
        inputs=inputs,
        decision=Decision(),
        where=str(folder),
        files=raw.files,
        steps=dict.fromkeys(raw.arrays, ()),
        limit=limit,
        stored=stored,
    )


def _holds_test_data(folder: Path) -> bool:
    return folder.is_dir() and any(folder.glob("**/*.pb"))


def _test_data(
    folder: Path, inputs: Sequence[GraphInput]
) -> tuple[RawData, dict[int, StoredOutput]]:
    """Read a folder of ONNX test data, samples along one axis."""
    raw, stored = read_test_data(folder, [spec.name for spec in inputs])
    merged = {spec.name: _merge_batch(raw.arrays[spec.name], spec) for spec in inputs}
    batches = {
        raw.arrays[name].shape[1] for name, array in merged.items() if array is not raw.arrays[name]
    }
    if len(batches) == 1:
        size = batches.pop()
        stored = {
            index: (
                replace(output, array=output.array.reshape(-1, *output.array.shape[2:]))
                if output.array.shape[1:2] == (size,)
                else output
            )
            for index, output in stored.items()
        }
    return RawData(merged, raw.files), stored


def _merge_batch(array: Shaped[np.ndarray, "..."], spec: GraphInput) -> Shaped[np.ndarray, "..."]:
    """Return test sets [sets, batch, ...] as samples along one axis.

    Sets of a graph without a batch axis are samples themselves.
    """
    if spec.shape is not None and array.ndim == len(spec.shape) + 1 and array.ndim > 2:
        return array.reshape(-1, *array.shape[2:])
    return array


def _assemble(
    arrays: dict[str, Shaped[np.ndarray, "..."]],
    constants: dict[str, Shaped[np.ndarray, "..."]],
    labels: Shaped[np.ndarray, "..."] | None,
    *,
    inputs: Sequence[GraphInput],
    decision: Decision,
    where: str,
    files: Mapping[str, str],
    steps: Mapping[str, tuple[Mapping[str, object], ...]],
    limit: int | None,
    reading: LabelReading | None = None,
    stored: Mapping[int, StoredOutput] | None = None,
) -> DataSet:
    lengths = {name: _length(array) for name, array in arrays.items()} | (
        {} if labels is None else {"labels": _length(labels)}
    )
    if not arrays or len(set(lengths.values())) != 1 or 0 in lengths.values():
        raise UsageError(
            f"data must have one or more samples, as many in every array as labels, got {lengths}"
            f" ({where}); check the arrays"
        )
    if labels is not None and labels.dtype.kind == "f" and not np.isfinite(labels).all():
        raise UsageError(
            f"labels must be finite, got NaN or infinity ({where}, [label] array); clean the data"
        )
    for spec in inputs:
        if spec.name in arrays:
            _check_shape(arrays[spec.name], spec, where)
    counted = (
        np.ones(next(iter(lengths.values())), dtype=bool)
        if labels is None
        else is_counted(labels, () if reading is None else reading.ignore)
    )
    if not counted.any():
        raise UsageError(
            f"data must have labels that are counted, got {len(counted)} samples of none ({where},"
            " [label] ignore); check the labels"
        )
    source = DataSource(
        description=Path(where).name,
        files=dict(files),
        steps=dict(steps),
        num_available=len(counted),
        num_ignored=int((~counted).sum()),
    )
    coded = reading or LabelReading()
    if stored:
        labels, coded = next(iter(stored.values())).array, replace(coded, kind="stored")
    whole = DataSet(arrays, constants, labels, decision, source, coded, stored or {})
    kept = slice(limit) if counted.all() else np.flatnonzero(counted)[:limit]
    return whole.part(kept)


def _length(array: Shaped[np.ndarray, "..."]) -> int:
    """Return the number of samples; a single number has no sample axis."""
    return int(array.shape[0]) if array.ndim else 0


def fits_input(sample: Sequence[int], spec: GraphInput) -> bool:
    """Tell whether samples of a shape fit a graph input, with or without a batch axis in it."""
    if spec.shape is None:
        return True
    return any(
        len(expected) == len(sample)
        and all(not isinstance(e, int) or e == s for e, s in zip(expected, sample, strict=True))
        for expected in (spec.shape[1:], spec.shape)
    )


def _check_shape(array: Shaped[np.ndarray, "..."], spec: GraphInput, where: str) -> None:
    """Raise UsageError unless samples fit the graph input, with or without a batch axis in it."""
    if spec.shape is None:
        return
    sample = array.shape[1:]
    if fits_input(sample, spec):
        return
    raise UsageError(
        f"samples must fit the graph input '{spec.name}' of shape {list(spec.shape)}, got samples"
        f" of shape {list(sample)} ({where}); add a reshape or transpose step"
    )
