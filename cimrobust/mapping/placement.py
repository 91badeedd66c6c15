"""Where every weight is stored.

Quantised value, devices, slices, tiles, and the box it may end up in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cimrobust.array_shapes import Float32, Float64, Int32
from cimrobust.device.distribution import excluded_probability
from cimrobust.device.intervals import tolerance_fraction
from cimrobust.device.profile import DeviceProfile
from cimrobust.errors import ModelNotCoveredError
from cimrobust.late_arrays import LateArrays
from cimrobust.mapping.made_weights import Stored, read

#: Smallest and largest deviation of every weight of a layer.
Limits = tuple[Float32[np.ndarray, "*weight"], Float32[np.ndarray, "*weight"]]


@dataclass(frozen=True)
class GivenLimits:
    """Smallest and largest deviations that are held.

    Attributes:
        lo: Smallest deviation of every weight.
        hi: Largest deviation.
    """

    lo: Float32[np.ndarray, "*weight"]
    hi: Float32[np.ndarray, "*weight"]

    def __call__(self) -> Limits:
        """Return both."""
        return self.lo, self.hi


@dataclass(frozen=True)
class TensorPlacement:
    """One crossbar layer on its devices.

    Attributes:
        initializer: Name of the initializer.
        profile: Its devices: the profile that the rules for layers leave it with.
        shape: Its own shape; the arrays below have it.
        stored: Quantised weights, see `nominal`; of a large network what makes them.
        limits: Gives `lo` and `hi`. Of a large network they are made anew where nobody holds them:
            they take twice what its weights do, and drawn chips do not need them.
        scale: Weight of one level, float64 [num_scales]; one entry, or one a column.
        scale_group: Index into `scale` of every element, int32; None when there is one scale.
        num_groups: Matrices of the layer.
        num_rows: Word lines of one matrix.
        num_cols: Bit lines of one matrix, one a weight column (before slices and pairs).
        num_slices: Bit slices of a weight.
        cells_per_weight: Devices of one weight: slices times 2 for differential pairs.
        num_reference_cells: Devices that belong to no weight (reference columns of the offset
            mapping).
        num_tiles: Physical arrays needed.
        levels_given: The file's integers were the levels, no rounding took place.
        drift_factor: What drift compensation multiplies the outputs of the layer by; 1 without.
    """

    initializer: str
    profile: DeviceProfile
    shape: tuple[int, ...]
    stored: Stored
    limits: Callable[[], Limits]
    scale: Float64[np.ndarray, "scales"]
    scale_group: Int32[np.ndarray, "*weight"] | None
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
    def nominal(self) -> Float32[np.ndarray, "..."]:
        """Quantised weights that the devices are programmed to, float32; perhaps made anew."""
        return read(self.stored)

    @property
    def num_weights(self) -> int:
        """Number of elements of the initializer."""
        return math.prod(self.shape)

    @property
    def lo(self) -> Float32[np.ndarray, "*weight"]:
        """Smallest deviation that the tolerance allows, never positive.

        Of weights without a stuck device.
        """
        return self.limits()[0]

    @property
    def hi(self) -> Float32[np.ndarray, "*weight"]:
        """Largest deviation, never negative."""
        return self.limits()[1]

    @property
    def num_devices(self) -> int:
        """Devices of the layer, reference cells included."""
        return self.num_weights * self.cells_per_weight + self.num_reference_cells

    @property
    def box_radius(self) -> float:
        """Largest absolute deviation of any weight of the layer."""
        lo, hi = self.limits()
        return float(max(hi.max(initial=0.0), -lo.min(initial=0.0)))


@dataclass(frozen=True)
class Placement:
    """All crossbar layers of a network on their devices, in graph order.

    Attributes:
        profile: The profile as stated, with its rules for layers. What all layers have in common is
            asked of it (converters, read noise, faults, drift); all else of the layer's own
            profile.
        tensors: The layers by initializer.
    """

    profile: DeviceProfile
    tensors: Mapping[str, TensorPlacement]

    @property
    def profiles(self) -> tuple[DeviceProfile, ...]:
        """Profiles of the layers, each once, in graph order; that of the first layer first."""
        return tuple(dict.fromkeys(tensor.profile for tensor in self.tensors.values()))

    @property
    def is_bounded(self) -> bool:
        """Whether no fault-free device can leave its interval, in any layer."""
        return all(profile.is_bounded for profile in self.profiles)

    @property
    def tolerance_fraction(self) -> float:
        """Largest absolute deviation of a device in any layer, as a fraction of the full range."""
        return max(tolerance_fraction(profile) for profile in self.profiles)

    @property
    def excluded_probability(self) -> float:
        """Probability that one fault-free device ends outside the tolerance box.

        It is the largest of any layer.
        """
        return max(excluded_probability(profile) for profile in self.profiles)

    def nominal(self) -> dict[str, Float32[np.ndarray, "..."]]:
        """Return the quantised weights by initializer name."""
        return {name: tensor.nominal for name, tensor in self.tensors.items()}

    def late_nominal(self) -> Mapping[str, Float32[np.ndarray, "..."]]:
        """Return them without holding those that nobody holds."""
        return LateArrays(self.tensors, lambda name: self.tensors[name].nominal)

    def array_profile(self, names: Sequence[str]) -> DeviceProfile:
        """Return the profile of the first of some layers whose weights meet in one array.

        Coding and tiles are those of all.

        Args:
            names: Their initializers.

        Raises:
            ModelNotCoveredError: They are coded in different ways.
        """
        tensors = [self.tensors[name] for name in names]
        forms = {
            (
                item.profile.weight,
                item.profile.device.bits,
                item.profile.tile,
                item.cells_per_weight,
            )
            for item in tensors
        }
        if len(forms) > 1:
            raise ModelNotCoveredError(
                "weights that one array holds must be coded alike, got different bits, mappings or"
                f" tiles for {', '.join(map(repr, names))}; give these layers the same devices"
            )
        return tensors[0].profile

    def with_exact_reads(self) -> Placement:
        """Return the placement without read noise."""
        tensors = {
            name: replace(tensor, profile=tensor.profile.with_effects(read_noise=False))
            for name, tensor in self.tensors.items()
        }
        return Placement(self.profile.with_effects(read_noise=False), tensors)
