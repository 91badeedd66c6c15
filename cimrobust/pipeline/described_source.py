"""The first samples of a data file, as it is stored, for a description that is to be found."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cimrobust.data.array_files import names_in_npz
from cimrobust.data.column_files import COLUMN_SUFFIXES
from cimrobust.data.description import Step
from cimrobust.data.images import read_image_folder
from cimrobust.data.load_dataset import load_data
from cimrobust.data.parquet_columns import read_parquet_columns
from cimrobust.data.row_choice import Wanted
from cimrobust.data.sample_shards import read_shards, shards_of
from cimrobust.data.sources import RawData, read_arrays, read_csv
from cimrobust.errors import UsageError

if TYPE_CHECKING:
    from cimrobust.onnx_io.network import TensorSpec

#: Samples that a description is tried on.
TRIED = 256
#: Axes of a batch of images, and colours that one has.
IMAGE_RANK, COLOURS = 4, (1, 3)
#: Names by which an array is taken for the labels.
LABEL_NAMES = (
    "y",
    "label",
    "labels",
    "target",
    "targets",
    "class",
    "classes",
    "y_test",
    "test_labels",
)


@dataclass(frozen=True)
class Source:
    """A data file as it is stored.

    Attributes:
        path: The file or folder.
        raw: Its arrays.
        is_stored: It is a folder of test data.
        image_steps: What images need to have one size.
    """

    path: Path
    raw: RawData
    is_stored: bool = False
    image_steps: tuple[Mapping[str, Any], ...] = ()


def read_source(path: Path, inputs: Sequence[TensorSpec]) -> Source:
    """Read the first samples of a file or folder.

    Raises:
        UsageError: It is none of the kinds that are read.
        CimrobustError: It is damaged, or too large.
    """
    if path.is_dir() and any(path.glob("**/*.pb")):
        dataset = load_data(path, inputs=inputs)
        return Source(path, RawData(dataset.inputs, {}), is_stored=True)
    shards = shards_of(path)
    if shards or path.suffix in COLUMN_SUFFIXES or path.is_dir():
        size = _image_size(inputs)
        steps = () if size is None else ({"op": "resize", "size": size},)
        raw = _with_images(path, shards, [Step.model_validate(step) for step in steps])
        return Source(path, raw, image_steps=steps if raw.images else ())
    if path.suffix == ".csv":
        names = [spec.name for spec in inputs] if len(inputs) > 1 else ["x"]
        return Source(path, read_csv(path, names=names))
    if path.suffix != ".npz":
        raise UsageError(
            "data to describe must be .npz, .csv, .parquet, .arrow, .feather, shards (.tar), a"
            f" folder of images or of ONNX test data, got '{path}' (DATA); save the arrays by"
            " numpy.savez(x=..., y=...)"
        )
    return Source(path, read_arrays(path, set(names_in_npz(path))))


def _with_images(path: Path, shards: Sequence[Path], steps: Sequence[Step]) -> RawData:
    """Read the first samples of data that may hold images."""
    if not shards and path.is_dir():
        return replace(read_image_folder(path, steps, limit=TRIED)[0], images=frozenset({"x"}))
    first = Wanted(TRIED).of(None)
    if shards:
        return read_shards(shards, lambda _array: steps, first)
    return read_parquet_columns(path, None, lambda _array: steps, first)


def _image_size(inputs: Sequence[TensorSpec]) -> list[int] | None:
    """Return height and width that the graph takes, if it says them."""
    shape = inputs[0].shape
    if shape is None or len(shape) != IMAGE_RANK:
        return None
    sides = shape[2:] if shape[1] in COLOURS else shape[1:3]
    return (
        [side for side in sides if isinstance(side, int)]
        if all(isinstance(side, int) for side in sides)
        else None
    )


def label_array(arrays: Collection[str]) -> str | None:
    """Return the array that holds the labels, if its name says so."""
    return next((name for wanted in LABEL_NAMES for name in arrays if name.lower() == wanted), None)
