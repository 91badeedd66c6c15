"""Where every weight is stored: quantised value, devices, slices, tiles, and the box it may end up in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cimrobust.device.profile import DeviceProfile


@dataclass(frozen=True)
class TensorPlacement:
    """One crossbar layer on its devices.

    Attributes:
        initializer: Name of the initializer.
        shape: Its own shape; the arrays below have it.
        nominal: Quantised weight that the devices are programmed to, float32.
        lo: Smallest deviation the tolerance allows, float32, never positive; of weights without a stuck device.
        hi: Largest deviation, float32, never negative.
        scale: Weight of one level, float64 [num_scales]; one entry, or one a column.
        scale_group: Index into `scale` of every element, int32; None when there is one scale.
        num_groups: Matrices of the layer.
        num_rows: Word lines of one matrix.
        num_cols: Bit lines of one matrix, one a weight column (before slices and pairs).
        num_slices: Bit slices of a weight.
        cells_per_weight: Devices of one weight: slices times 2 for differential pairs.
        num_reference_cells: Devices that belong to no weight (reference columns of the offset mapping).
        num_tiles: Physical arrays needed.
        levels_given: The file's integers were the levels, no rounding took place.
        drift_factor: What drift compensation multiplies the outputs of the layer by; 1 without.
    """

    initializer: str
    shape: tuple[int, ...]
    nominal: np.ndarray
    lo: np.ndarray
    hi: np.ndarray
    scale: np.ndarray
    scale_group: np.ndarray | None
    num_groups: int
    num_rows: int
    num_cols: int
    num_slices: int
    cells_per_weight: int
    num_reference_cells: int
    num_tiles: int
    levels_given: bool
    drift_factor: float = 1.0

    @property
    def num_devices(self) -> int:
        """Devices of the layer, reference cells included."""
        return self.nominal.size * self.cells_per_weight + self.num_reference_cells

    @property
    def box_radius(self) -> float:
        """Largest absolute deviation of any weight of the layer."""
        return float(max(self.hi.max(initial=0.0), -self.lo.min(initial=0.0)))


@dataclass(frozen=True)
class Placement:
    """All crossbar layers of a network on devices of one profile, in graph order."""

    profile: DeviceProfile
    tensors: Mapping[str, TensorPlacement]

    def nominal(self) -> dict[str, np.ndarray]:
        """Return the quantised weights by initializer name."""
        return {name: tensor.nominal for name, tensor in self.tensors.items()}
