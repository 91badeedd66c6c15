"""What a reader is told of a layer on its devices, without the layer's arrays.

Quantised weights and box of a layer take three times what its weights do. What is told of them are
largest values and counts, which pieces of the layer give as well, to the bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cimrobust.array_shapes import Float32, Float64, Int32, Shaped
from cimrobust.device.profile import DeviceProfile
from cimrobust.mapping.coding import cells_per_weight, num_slices
from cimrobust.mapping.own_profile import own_profile
from cimrobust.mapping.place import (
    devices_at_levels,
    drift_factor,
    group_maxima,
    level_weights,
    quantised,
    reference_cells,
    scale_view,
    tiles_of,
)
from cimrobust.mapping.tolerance_limits import box_of

if TYPE_CHECKING:
    from cimrobust.onnx_io.layers import CrossbarLayer, LayerScan

# Weights of a piece; their arrays are 4 MiB each then.
_PIECE = 2**20

# Weights of a piece, contiguous, and their scale groups; None: there is one.
_Piece = tuple[Float32[np.ndarray, "..."], Int32[np.ndarray, "..."] | None]


@dataclass(frozen=True)
class LayerOutline:
    """One crossbar layer on its devices; attributes as those of `TensorPlacement`.

    Attributes:
        initializer: Name of the initializer.
        profile: Its devices.
        shape: Its own shape.
        scale: Weight of one level, float64 [num_scales].
        num_groups: Matrices of the layer.
        num_rows: Word lines of one matrix.
        num_cols: Bit lines of one matrix.
        num_slices: Bit slices of a weight.
        num_reference_cells: Devices that belong to no weight.
        num_devices: Devices of the layer, reference cells included.
        num_tiles: Physical arrays needed.
        levels_given: The file's integers were the levels.
        box_radius: Largest absolute deviation of any weight of the layer.
    """

    initializer: str
    profile: DeviceProfile
    shape: tuple[int, ...]
    scale: Float64[np.ndarray, "scales"]
    num_groups: int
    num_rows: int
    num_cols: int
    num_slices: int
    num_reference_cells: int
    num_devices: int
    num_tiles: int
    levels_given: bool
    box_radius: float


def outlines(scan: LayerScan, profile: DeviceProfile) -> Iterator[LayerOutline]:
    """Outline one layer after the other, whose ranges `place.check_ranges` has checked."""
    for layer in scan.layers:
        yield outline(layer, own_profile(layer, profile))


def outline(layer: CrossbarLayer, profile: DeviceProfile, *, piece: int = _PIECE) -> LayerOutline:
    """Say of a layer what `place.place_layer` finds, holding no more than its weights.

    Args:
        layer: The layer.
        profile: Its devices.
        piece: Weights that are quantised at once, at least.

    Raises:
        InputRefusedError: As `place.drift_factor`.
    """
    values = layer.values
    group, num_scales = scale_view(layer, profile)
    maxima = np.zeros(num_scales)
    for weights, own in _pieces(values, group, piece):
        maxima = np.maximum(maxima, group_maxima(weights, own, num_scales))
    scale = level_weights(maxima, profile)
    cells = cells_per_weight(profile)
    num_reference_cells = reference_cells(layer, profile)
    nominal = _Quantised(values, group, scale, profile, layer.levels is not None, piece)
    return LayerOutline(
        initializer=layer.initializer,
        profile=profile,
        shape=layer.shape,
        scale=scale,
        num_groups=layer.num_groups,
        num_rows=layer.num_rows,
        num_cols=layer.num_cols,
        num_slices=num_slices(profile),
        num_reference_cells=num_reference_cells,
        num_devices=layer.num_weights * cells + num_reference_cells,
        num_tiles=tiles_of(layer, profile, cells),
        levels_given=layer.levels is not None,
        box_radius=_box_radius(nominal),
    )


@dataclass(frozen=True)
class _Quantised:
    """The quantised weights of a layer, made piece by piece.

    Attributes:
        values: Its weights.
        group: Their scale groups; None: there is one.
        scale: Weight of one level.
        profile: Its devices.
        are_levels: The file gives integers.
        piece: Weights of a piece.
    """

    values: Shaped[np.ndarray, "*weight"]
    group: Int32[np.ndarray, "*weight"] | None
    scale: Float64[np.ndarray, "scales"]
    profile: DeviceProfile
    are_levels: bool
    piece: int

    def __iter__(self) -> Iterator[_Piece]:
        for weights, own in _pieces(self.values, self.group, self.piece):
            nominal = quantised(weights, own, self.scale, self.profile, are_levels=self.are_levels)
            yield nominal, own


def _pieces(
    values: Shaped[np.ndarray, "*weight"], group: Int32[np.ndarray, "*weight"] | None, piece: int
) -> Iterator[_Piece]:
    """Yield a layer along its first axis that has more than one entry."""
    shape = values.shape
    while len(shape) > 1 and shape[0] == 1:
        shape = shape[1:]
    values = values.reshape(shape)
    group = None if group is None else group.reshape(shape)
    step = max(1, piece * shape[0] // values.size) if shape and values.size else 1
    for start in range(0, shape[0] if shape else 1, step):
        part = slice(start, start + step) if shape else ()
        yield (
            np.ascontiguousarray(values[part], np.float32),
            None if group is None else np.ascontiguousarray(group[part], np.int32),
        )


def _box_radius(nominal: _Quantised) -> float:
    profile, scale = nominal.profile, nominal.scale
    factor = 1.0
    if profile.drift is not None and profile.drift.compensation != "none":
        counts = np.zeros(profile.device.num_levels, np.int64)
        for weights, group in nominal:
            counts += devices_at_levels(weights, group, scale, profile)
        factor = drift_factor(profile, counts)
    largest = 0.0
    for weights, group in nominal:
        lo, hi = box_of(weights, group, scale, profile, compensation=factor)
        largest = max(largest, float(hi.max(initial=0.0)), -float(lo.min(initial=0.0)))
    return largest
