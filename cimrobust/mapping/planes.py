"""What the converters of a crossbar see of its devices.

Planes of cells, each read and converted on its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cimrobust.mapping.coding import level_offset, num_slices
from cimrobust.mapping.device_levels import whole_levels

if TYPE_CHECKING:
    from cimrobust.array_shapes import Float32
    from cimrobust.device.profile import DeviceProfile
    from cimrobust.mapping.placement import TensorPlacement


@dataclass(frozen=True)
class Plane:
    """One plane of cells.

    Attributes:
        slice_index: Its bit slice.
        sign: 1, or -1 for the negative side of pairs that are subtracted digitally.
        low: Smallest nominal level of a cell.
        high: Largest nominal level.
        reference: Level of the reference column that is subtracted before the converter.
    """

    slice_index: int
    sign: int
    low: int
    high: int
    reference: int = 0


@dataclass(frozen=True)
class PlaneSet:
    """The planes of every layer of a profile.

    Attributes:
        planes: In the order in which they are read.
        bits_per_device: Slice j counts ``2^(bits_per_device j)``.
        input_sum_gain: Level of a reference column that is subtracted behind the converters; 0:
            none.
    """

    planes: tuple[Plane, ...]
    bits_per_device: int
    input_sum_gain: int

    def weight(self, index: int) -> float:
        """Return what a level of a plane counts in levels of the weight."""
        plane = self.planes[index]
        return float(plane.sign * 2 ** (self.bits_per_device * plane.slice_index))


def plane_set(profile: DeviceProfile) -> PlaneSet:
    """Return the planes that a profile's mapping and converters make of a weight."""
    digital = profile.adc is not None and profile.adc.subtract == "digital"
    bits, slices = profile.device.bits, range(num_slices(profile))
    top = 2**bits - 1
    if profile.weight.mapping == "offset":
        middle = level_offset(profile)
        if digital:
            return PlaneSet(tuple(Plane(j, 1, 0, top) for j in slices), bits, middle)
        levels = [(middle >> (bits * j)) & top for j in slices]
        return PlaneSet(
            tuple(
                Plane(j, 1, -level, top - level, level)
                for j, level in zip(slices, levels, strict=True)
            ),
            bits,
            0,
        )
    if digital:
        return PlaneSet(tuple(Plane(j, sign, 0, top) for sign in (1, -1) for j in slices), bits, 0)
    return PlaneSet(tuple(Plane(j, 1, -top, top) for j in slices), bits, 0)


def cells_of(
    tensor: TensorPlacement, levels: Float32[np.ndarray, "cells weights"]
) -> list[Float32[np.ndarray, "weights"]]:
    """Return the cells of every plane.

    Args:
        tensor: The layer; the signs of its weights tell which side of a sign-magnitude pair is on.
        levels: Device levels, float32 [cells_per_weight, num_weights], slices of the positive
            device first.

    Returns:
        One float32 array [num_weights] a plane.
    """
    profile = tensor.profile
    planes = plane_set(profile)
    slices = num_slices(profile)
    if profile.weight.mapping == "sign_magnitude":
        negative = np.signbit(tensor.nominal).reshape(-1)
        if planes.planes[-1].sign < 0:
            zero = np.float32(0)
            return [
                np.where(negative == (plane.sign < 0), levels[plane.slice_index], zero)
                for plane in planes.planes
            ]
        return [
            np.where(negative, -levels[plane.slice_index], levels[plane.slice_index])
            for plane in planes.planes
        ]
    if profile.weight.mapping == "differential":
        if planes.planes[-1].sign < 0:
            return [
                levels[plane.slice_index + (slices if plane.sign < 0 else 0)]
                for plane in planes.planes
            ]
        return [levels[j] - levels[slices + j] for j in range(slices)]
    return [levels[plane.slice_index] - np.float32(plane.reference) for plane in planes.planes]


def read_variances(tensor: TensorPlacement) -> list[Float32[np.ndarray, "weights"]]:
    """Return the variance of a read of the cells of every plane.

    Each is in squared level units, float32 [num_weights]; two devices of a cell add up.
    """
    profile = tensor.profile
    variance = np.square(profile.read_sigma_levels())[whole_levels(tensor)].astype(np.float32)
    planes, slices = plane_set(profile).planes, num_slices(profile)
    digital = planes[-1].sign < 0
    if profile.weight.mapping == "differential":
        if digital:
            return [
                variance[plane.slice_index + (slices if plane.sign < 0 else 0)] for plane in planes
            ]
        return [variance[j] + variance[slices + j] for j in range(slices)]
    if digital:
        negative = np.signbit(tensor.nominal).reshape(-1)
        return [
            np.where(negative == (plane.sign < 0), variance[plane.slice_index], np.float32(0))
            for plane in planes
        ]
    return [variance[plane.slice_index] for plane in planes]
