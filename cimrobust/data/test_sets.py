"""Folders of ONNX test data as samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Shaped

from cimrobust.data.sources import RawData, read_test_data

if TYPE_CHECKING:
    from cimrobust.data.dataset import StoredOutput
    from cimrobust.data.graph_input import GraphInput


def holds_test_data(folder: Path) -> bool:
    """Tell whether a folder has tensors of ONNX test data in it."""
    return folder.is_dir() and any(folder.glob("**/*.pb"))


def test_data(
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
