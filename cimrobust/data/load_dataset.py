"""Data sets of every kind, as the network takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Int64, Shaped

from cimrobust.data.casting import constant
from cimrobust.data.column_files import COLUMN_SUFFIXES
from cimrobust.data.dataset import DataSet, DataSource, StoredOutput
from cimrobust.data.decision import Decision, LabelReading
from cimrobust.data.described_file import Steps, read_described, require_arrays
from cimrobust.data.description import Description, Input, read_description
from cimrobust.data.graph_input import GraphInput, check_shape, fit_flat
from cimrobust.data.parquet_columns import no_steps, read_parquet_columns
from cimrobust.data.row_choice import Keep, RowChoice, Wanted, as_slices
from cimrobust.data.sources import RawData, Taken, call_function, read_arrays, read_csv
from cimrobust.data.steps import apply_steps
from cimrobust.data.test_sets import holds_test_data, test_data
from cimrobust.data.user_code import is_function, require_code_allowed
from cimrobust.errors import UsageError
from cimrobust.files import sha256_of

Part = Literal["eval", "train"]


def load_data(
    path: str | Path,
    *,
    inputs: Sequence[GraphInput],
    limit: int | None = None,
    part: Part = "eval",
    like: str | Path | None = None,
    keep: Keep | None = None,
) -> DataSet:
    """Load a data set.

    Args:
        path: A description (.toml), .npz with x (ready to be fed) and y, .csv, .parquet, .arrow,
            .feather, folder of ONNX test data, or ``module:function``.
        inputs: Graph inputs that it has to feed.
        limit: Take the first so many samples.
        part: ``train`` takes the description's ``train_file``.
        like: Data that these belong to: arrays without a description (.npz, .csv, images, a
            function's) are read by the description of those, its steps, labels and
            decision. None, or data without a description: by what `path` says alone.
        keep: Take these samples in place of the first ones. Of those that are not wanted only
            the labels are read, and these where some are not counted.

    Raises:
        UsageError: The description is wrong or does not fit the graph; names file and key.
        InputRefusedError: A data file is corrupt or unsafe.
    """
    text, wanted = str(path), Wanted(limit, keep)
    source, by = Path(text), None if like is None or Path(like).suffix != ".toml" else Path(like)
    if is_function(text) and not source.exists():
        made = call_function(text)
        return (
            _bare(made, text, inputs, wanted)
            if by is None
            else _described(by, inputs, wanted, part, given=made)
        )
    if source.suffix == ".toml":
        return _described(source, inputs, wanted, part)
    if by is not None and not any(source.glob("**/*.pb")):
        return _described(by, inputs, wanted, part, given=source)
    if part == "train":
        raise UsageError(
            f"training data must come from a description with train_file, got {text} (--data);"
            " write a .toml"
        )
    if source.suffix == ".csv":
        return _bare(read_csv(source, wanted.of("y"), _names(inputs)), source.name, inputs, wanted)
    if source.suffix in COLUMN_SUFFIXES:
        raw = read_parquet_columns(source, _names(inputs), no_steps, wanted.of("y"))
        return _bare(raw, source.name, inputs, wanted)
    if source.is_dir():
        return _folder(source, inputs, wanted)
    if source.suffix != ".npz":
        raise UsageError(
            "data must be .toml, .npz, .csv, .parquet, .arrow, .feather, a folder of ONNX test data"
            f" or module:function, got '{text}' (--data); write a description with `cimrobust init`"
            " for shards (.tar) and images, or save the arrays by numpy.savez(x=..., y=...)"
        )
    return _bare(read_arrays(source, _names(inputs), wanted.of("y")), source.name, inputs, wanted)


def _names(inputs: Sequence[GraphInput]) -> set[str]:
    """Return the arrays that data without a description must have."""
    return {"x", "y"} if len(inputs) == 1 else {*(spec.name for spec in inputs), "y"}


def _described(
    path: Path,
    inputs: Sequence[GraphInput],
    wanted: Wanted,
    part: Part,
    given: Path | RawData | None = None,
) -> DataSet:
    """Return the data of a description, or other data by the same description.

    Other data are given as a file or arrays.
    """
    description = read_description(path)
    source = _source(description, path, part) if given is None else given
    entries = _entries(description, inputs, str(path))
    stored: Mapping[int, StoredOutput] = {}
    if isinstance(source, Path) and holds_test_data(source):
        raw, stored = test_data(source, inputs)
        entries = {
            name: entry.model_copy(update={"array": entry.array or name})
            for name, entry in entries.items()
        }
        left: Steps = {name: tuple(entry.steps) for name, entry in entries.items()}
        require_arrays(
            {str(entry.array) for entry in entries.values() if entry.value is None}, raw, source
        )
    else:
        raw, left = read_described(source, description, entries, wanted)
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
    stored, labels, reading = _labels(description, raw, stored, path)
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
        taken=_named(
            raw,
            {name: entry.array or "x" for name, entry in entries.items() if entry.value is None},
            None if labels is None else description.label.array,
        ),
        steps={
            name: tuple(step.to_dict() for step in entry.steps) for name, entry in entries.items()
        },
        wanted=wanted,
    )


def _source(description: Description, path: Path, part: Part) -> Path | RawData:
    """Return the file of a part that a description names, or what its function gives."""
    file = description.train_file if part == "train" else description.file
    if file is None:
        raise UsageError(
            f"data description must name a train_file for training, got none ({path}, key"
            " 'train_file'); add it"
        )
    if is_function(file) and not (path.parent / file).exists():
        require_code_allowed(file, path)
        return call_function(file)
    return path.parent / file


def _labels(
    description: Description, raw: RawData, stored: Mapping[int, StoredOutput], path: Path
) -> tuple[Mapping[int, StoredOutput], Shaped[np.ndarray, "samples ..."] | None, LabelReading]:
    """Return stored outputs or labels, whichever there are, and how labels are read."""
    label = description.label
    if stored and label.array not in (None, "y"):
        raise UsageError(
            "labels of a folder of test data are its stored outputs, got array"
            f" '{label.array}' ({path}, key 'label.array'); leave [label] out, or save"
            " samples and labels as .npz"
        )
    stored = {} if label.self_ else stored
    labels = None if label.self_ or stored else raw.arrays[str(label.array)]
    reading = replace(label.to_reading(), folders=raw.folders)
    if raw.folders and reading.classes is not None and labels is not None:
        labels = np.asarray(raw.folders)[labels]
    return stored, labels, reading


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


def _bare(raw: RawData, where: str, inputs: Sequence[GraphInput], wanted: Wanted) -> DataSet:
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
        name: fit_flat(array, spec)
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
        taken=_named(raw, names, "y"),
        steps=dict.fromkeys(arrays, ()),
        wanted=wanted,
    )


def _folder(folder: Path, inputs: Sequence[GraphInput], wanted: Wanted) -> DataSet:
    if not holds_test_data(folder):
        raise UsageError(
            f"a folder must hold ONNX test data (test_data_set_*/input_0.pb), got none ({folder});"
            " for a folder of images write a description with file = the folder and the steps that"
            " the network was trained with"
        )
    raw, stored = test_data(folder, inputs)
    return _assemble(
        dict(raw.arrays),
        {},
        None,
        inputs=inputs,
        decision=Decision(),
        where=str(folder),
        files=raw.files,
        steps=dict.fromkeys(raw.arrays, ()),
        wanted=wanted,
        stored=stored,
    )


def _named(raw: RawData, arrays: Mapping[str, str], label: str | None) -> Taken | None:
    """Return what the file holds, by graph input and for the labels."""
    if raw.taken is None:
        return None
    keys = {**arrays, **({} if label is None else {"labels": label})}
    return replace(raw.taken, lengths={name: raw.taken.lengths[key] for name, key in keys.items()})


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
    wanted: Wanted,
    reading: LabelReading | None = None,
    stored: Mapping[int, StoredOutput] | None = None,
    taken: Taken | None = None,
) -> DataSet:
    lengths = _lengths(arrays, labels) if taken is None else taken.lengths
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
            check_shape(arrays[spec.name], spec, where)
    num_available = next(iter(lengths.values()))
    rows: Int64[np.ndarray, "wanted"] | None = None
    if taken is None:
        choice = RowChoice(wanted.keep, "labels", () if reading is None else reading.ignore)
        rows, num_ignored = choice.rows(num_available, labels)
    else:
        num_ignored = taken.num_ignored
    if num_ignored == num_available:
        raise UsageError(
            f"data must have labels that are counted, got {num_available} samples of none ({where},"
            " [label] ignore); check the labels"
        )
    source = DataSource(
        description=Path(where).name,
        files=dict(files),
        steps=dict(steps),
        num_available=num_available,
        num_ignored=num_ignored,
    )
    coded = reading or LabelReading()
    if stored:
        labels, coded = next(iter(stored.values())).array, replace(coded, kind="stored")
    whole = DataSet(arrays, constants, labels, decision, source, coded, stored or {})
    if rows is None:
        return whole
    runs = as_slices(rows)
    return whole.part(runs[0] if len(runs) == 1 else rows)


def _lengths(
    arrays: Mapping[str, Shaped[np.ndarray, "..."]], labels: Shaped[np.ndarray, "..."] | None
) -> dict[str, int]:
    named = dict(arrays) if labels is None else {**arrays, "labels": labels}
    return {name: _length(array) for name, array in named.items()}


def _length(array: Shaped[np.ndarray, "..."]) -> int:
    """Return the number of samples; a single number has no sample axis."""
    return int(array.shape[0]) if array.ndim else 0
