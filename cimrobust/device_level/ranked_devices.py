"""All devices of a network in one row.

Numbers for ranking them, places for finding them on the chip.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float64, Int64, Real, Shaped

from cimrobust.mapping.device_levels import level_weights

if TYPE_CHECKING:
    from cimrobust.mapping.placement import Placement
    from cimrobust.onnx_io.layers import CrossbarLayer, LayerScan


@dataclass(frozen=True)
class Places:
    """Where devices are, one entry a device.

    Attributes:
        layer: Index of the initializer in `DeviceSpace.names`, int64.
        group: Matrix of the layer, int64.
        row: Word line, int64: the place of the weight among those of its column, in storage order.
        column: Column of the matrix, before slices and pairs, int64.
        slice_index: Bit slice, 0 the least significant, int64.
        side: 1, or -1 for the negative device of a pair, int64.
    """

    layer: Int64[np.ndarray, "devices"]
    group: Int64[np.ndarray, "devices"]
    row: Int64[np.ndarray, "devices"]
    column: Int64[np.ndarray, "devices"]
    slice_index: Int64[np.ndarray, "devices"]
    side: Int64[np.ndarray, "devices"]


class DeviceSpace:
    """The devices of a placement, numbered layer by layer.

    In a layer cell by cell, in a cell weight by weight.

    Reference cells of the offset mapping belong to no weight and are left out.

    Attributes:
        placement: The devices.
        names: Initializers, in graph order.
        starts: Number of the first device of every layer, and of all devices at the end.
    """

    def __init__(self, placement: Placement, scan: LayerScan) -> None:
        """Number the devices.

        Args:
            placement: The devices.
            scan: The layers they hold.
        """
        self.placement = placement
        self.names = tuple(placement.tensors)
        sizes = [
            tensor.cells_per_weight * tensor.num_weights for tensor in placement.tensors.values()
        ]
        self.starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        self._layers = {layer.initializer: layer for layer in scan.layers}

    @property
    def size(self) -> int:
        """Number of devices."""
        return int(self.starts[-1])

    @cached_property
    def level_weight(self) -> Float64[np.ndarray, "devices"]:
        """What one level of a device adds to its weight, float64 [devices]."""
        return self.join(
            {name: level_weights(tensor) for name, tensor in self.placement.tensors.items()}
        )

    @cached_property
    def largest_weight(self) -> Float64[np.ndarray, "devices"]:
        """Largest magnitude of a weight of the device's layer, float64 [devices].

        1 where all are 0.
        """
        return self.per_layer(
            {
                name: float(np.abs(tensor.nominal).max(initial=0.0)) or 1.0
                for name, tensor in self.placement.tensors.items()
            }
        )

    def join(
        self, arrays: Mapping[str, Shaped[np.ndarray, "_cells _weights"]]
    ) -> Shaped[np.ndarray, "devices"]:
        """Return arrays [cells_per_weight, num_weights] of every layer as one row."""
        return np.concatenate([arrays[name].reshape(-1) for name in self.names])

    def split(
        self, row: Shaped[np.ndarray, "devices"]
    ) -> dict[str, Shaped[np.ndarray, "_cells _weights"]]:
        """Return one row as arrays [cells_per_weight, num_weights] by initializer; views."""
        parts = np.split(row, self.starts[1:-1])
        return {
            name: part.reshape(self.placement.tensors[name].cells_per_weight, -1)
            for name, part in zip(self.names, parts, strict=True)
        }

    def per_layer(self, values: Mapping[str, float]) -> Real[np.ndarray, "devices"]:
        """Return one value a layer as one row."""
        return np.repeat([values[name] for name in self.names], np.diff(self.starts))

    def of_weights(
        self, arrays: Mapping[str, Real[np.ndarray, "..."]]
    ) -> Real[np.ndarray, "devices"]:
        """Return one value a weight as one row: the same for all devices of a weight."""
        cells = {name: self.placement.tensors[name].cells_per_weight for name in self.names}
        return self.join(
            {
                name: np.broadcast_to(arrays[name].reshape(1, -1), (cells[name], arrays[name].size))
                for name in self.names
            }
        )

    def weights_of(
        self, devices: Int64[np.ndarray, "some"]
    ) -> tuple[Int64[np.ndarray, "some"], Int64[np.ndarray, "some"]]:
        """Return the layer of devices, and the position of their weight in it."""
        layer = np.searchsorted(self.starts, devices, side="right") - 1
        sizes = np.array([self.placement.tensors[name].num_weights for name in self.names])
        return layer, (devices - self.starts[layer]) % sizes[layer]

    def places(self, devices: Int64[np.ndarray, "some"]) -> Places:
        """Return where devices are."""
        layer, weight = self.weights_of(devices)
        sizes = np.array([self.placement.tensors[name].num_weights for name in self.names])
        slices = np.array([self.placement.tensors[name].num_slices for name in self.names])
        cell = (devices - self.starts[layer]) // sizes[layer]
        group, row, column = (np.zeros(len(devices), dtype=np.int64) for _ in range(3))
        for index in np.unique(layer):
            here = layer == index
            group[here], row[here], column[here] = _matrix_places(
                self._layers[self.names[index]], weight[here]
            )
        return Places(
            layer, group, row, column, cell % slices[layer], np.where(cell < slices[layer], 1, -1)
        )

    def sides(self, places: Places) -> Sequence[str]:
        """Return the side of devices in words.

        ``positive`` or ``negative`` in a pair, else ``single``.
        """
        is_pair = np.array(
            [
                self.placement.tensors[name].profile.weight.mapping == "differential"
                for name in self.names
            ]
        )
        words = np.where(places.side > 0, "positive", "negative")
        return [str(word) for word in np.where(is_pair[places.layer], words, "single")]


def _matrix_places(
    layer: CrossbarLayer, weights: Int64[np.ndarray, "some"]
) -> tuple[Int64[np.ndarray, "some"], Int64[np.ndarray, "some"], Int64[np.ndarray, "some"]]:
    """Return matrix, row and column of elements of an initializer."""
    column = layer.column.reshape(-1)
    order = np.argsort(column, kind="stable")
    counts = np.bincount(column)
    first = np.concatenate([[0], np.cumsum(counts)])[:-1]
    row = np.empty(column.size, dtype=np.int64)
    row[order] = np.arange(column.size) - first[column[order]]
    group, inside = np.divmod(column[weights].astype(np.int64), layer.num_cols)
    return group, row[weights], inside
