"""Arrays in memory as the bytes of an .npz file, which is read as any other is."""

from __future__ import annotations

import io
import sys
import zipfile
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib import format as npy_format

from cimrobust.errors import UsageError
from cimrobust.input_file import printable

if TYPE_CHECKING:
    from cimrobust.array_shapes import Shaped

_ACCEPTED = (
    "give a data description or another file, arrays (x, y), a dictionary of arrays by graph input"
    " with the labels as y, a TensorDataset or DataLoader of torch, a pandas DataFrame, or a"
    " Hugging Face Dataset"
)
#: Names of the column of a table that holds the labels.
_LABELS = ("y", "label", "labels", "target")


def array_bytes(data: object, *, name: str) -> bytes:
    """Return samples and labels as the bytes of an .npz file; the same arrays give the same bytes.

    Args:
        data: Arrays ``(x, y)``; arrays by graph input, and ``y``; a `TensorDataset`, or a
            `DataLoader` that gives batches of ``x, y`` in a fixed order; a pandas DataFrame, whose
            columns but the labels are the features of one input, in their order; a Hugging Face
            Dataset, with a column for every graph input, and the labels.
        name: Argument that it was given as, for messages.

    Raises:
        UsageError: It is none of them, or its arrays are empty, of objects, or of different
            lengths.
    """
    arrays = {key: _array(value, key, name) for key, value in _by_name(data, name).items()}
    _check(arrays, name)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for key, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{key}.npy"), "w", force_zip64=True) as file:
                npy_format.write_array(file, array, allow_pickle=False)
    return stream.getvalue()


def _by_name(data: object, name: str) -> dict[str, Any]:
    if isinstance(data, Mapping):
        if not all(isinstance(key, str) for key in data):
            raise UsageError(
                f"{name} must name its arrays by text, got {printable(list(data))[:100]} ({name});"
                " use the names of the graph inputs, and y"
            )
        return dict(data)
    if isinstance(data, tuple) and len(data) == 2:
        return dict(zip("xy", data, strict=True))
    torch = sys.modules.get("torch.utils.data")
    if torch is not None and isinstance(data, torch.TensorDataset):
        return _pair(data.tensors, name)
    if torch is not None and isinstance(data, torch.DataLoader):
        return _of_batches(data, name)
    if _is_of("pandas", "DataFrame", data):
        return _of_frame(data, name)
    if _is_of("datasets", "Dataset", data):
        return _of_columns(data, name)
    given = f"a tuple of {len(data)}" if isinstance(data, tuple) else type(data).__name__
    raise UsageError(f"{name} must be a file or data in memory, got {given} ({name}); {_ACCEPTED}")


def _is_of(module: str, kind: str, data: object) -> bool:
    """Tell what an object is, without importing a library where nobody has."""
    found = getattr(sys.modules.get(module), kind, None)
    return isinstance(found, type) and isinstance(data, found)


def _of_frame(frame: Any, name: str) -> dict[str, Any]:
    """Return the features of a data frame as one array of float32, and its labels."""
    labels = _label_column([str(column) for column in frame.columns], name)
    kinds = {str(column): frame.dtypes.iloc[at] for at, column in enumerate(frame.columns)}
    texts = [
        column for column, kind in kinds.items() if column != labels and kind.kind not in "biuf"
    ]
    if texts:
        raise UsageError(
            f"columns must be numbers, got {kinds[texts[0]]} in '{printable(texts[0])}' ({name});"
            " encode them as the network was trained, or leave them out"
        )
    features = frame.iloc[:, [column != labels for column in kinds]]
    return {
        "x": features.to_numpy(dtype=np.float32),
        "y": frame.iloc[:, list(kinds).index(labels)].to_numpy(),
    }


def _of_columns(dataset: Any, name: str) -> dict[str, Any]:
    """Return the columns of a dataset by name; a single one beside the labels is called x."""
    labels = _label_column(dataset.column_names, name)
    columns = dict(dataset.with_format("numpy")[:])
    answers = columns.pop(labels)
    if len(columns) == 1:
        columns = {"x": next(iter(columns.values()))}
    return {**columns, "y": answers}


def _label_column(columns: list[str], name: str) -> str:
    found = [column for column in columns if column in _LABELS]
    if len(found) != 1 or len(set(columns)) != len(columns):
        raise UsageError(
            f"table must have one column of labels, named {' or '.join(_LABELS)}, got columns"
            f" {printable(columns)[:200]} ({name}); rename columns, or give arrays (x, y)"
        )
    return found[0]


def _of_batches(loader: Any, name: str) -> dict[str, Any]:
    """Return all batches of a loader, one behind the other."""
    torch = sys.modules["torch.utils.data"]
    if isinstance(loader.dataset, torch.IterableDataset):
        raise UsageError(
            f"{name} must be a DataLoader of a dataset with a length, got one of an IterableDataset"
            f" ({name}); give arrays (x, y)"
        )
    if isinstance(loader.sampler, torch.RandomSampler):
        raise UsageError(
            f"{name} must be a DataLoader with a fixed order, got one that shuffles ({name}); make"
            " it with shuffle=False"
        )
    batches = [_pair(batch, name) for batch in loader]
    return {
        key: np.concatenate([_array(batch[key], key, name) for batch in batches])
        for key in ("xy" if batches else "")
    }


def _pair(values: object, name: str) -> dict[str, Any]:
    if not isinstance(values, tuple | list) or len(values) != 2:
        given = len(values) if isinstance(values, tuple | list) else type(values).__name__
        raise UsageError(
            f"{name} must give samples and labels, two tensors, got {given} ({name}); give a"
            " dictionary of arrays by graph input, and y"
        )
    return dict(zip("xy", values, strict=True))


def _array(value: Any, key: str, name: str) -> Shaped[np.ndarray, "samples ..."]:
    """Return an array of numbers or texts with at least one sample."""
    where = f"({name}, array '{printable(key)}')"
    try:
        array = np.asarray(value.detach().cpu().numpy() if hasattr(value, "detach") else value)
    except (TypeError, ValueError, RuntimeError) as err:
        raise UsageError(
            f"array must be one of numbers, got {type(value).__name__}: {printable(err)[:150]}"
            f" {where}; give a NumPy array"
        ) from err
    if array.dtype.kind not in "biufU":
        raise UsageError(
            f"array must be one of numbers, or of texts for labels, got dtype {array.dtype}"
            f" {where}; convert it, as by array.astype('float32')"
        )
    if array.ndim == 0 or array.shape[0] == 0:
        raise UsageError(
            f"array must have at least one sample along its first axis, got shape {array.shape}"
            f" {where}; give samples"
        )
    return array


def _check(arrays: Mapping[str, Shaped[np.ndarray, "_samples ..."]], name: str) -> None:
    if "y" not in arrays or len(arrays) < 2:
        raise UsageError(
            f"{name} must hold samples and labels y, got {_listed(arrays)} ({name}); {_ACCEPTED}"
        )
    if len({len(array) for array in arrays.values()}) > 1:
        shapes = ", ".join(f"{printable(key)} {array.shape}" for key, array in arrays.items())
        raise UsageError(
            f"arrays must have as many samples as labels, got shapes {shapes} ({name}); samples are"
            " along the first axis"
        )


def _listed(names: Iterable[str]) -> str:
    return printable(sorted(names)) if names else "no array"
