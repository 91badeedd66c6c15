"""Devices that are verified more tightly than the others.

Their intervals, and the box that is left.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float32, Float64

from cimrobust.device.box_rounding import toward_zero
from cimrobust.device.intervals import largest_programming_error, level_bounds
from cimrobust.device.profile_changes import with_tolerance
from cimrobust.device_level.ranked_devices import DeviceSpace
from cimrobust.errors import UsageError
from cimrobust.mapping.box import Box, Pattern, box_of
from cimrobust.mapping.device_levels import level_weights, whole_levels

if TYPE_CHECKING:
    from cimrobust.device.profile import DeviceProfile
    from cimrobust.mapping.placement import TensorPlacement


@dataclass(frozen=True)
class Tightening:
    """A network whose devices may be verified to a tolerance `factor` times tighter.

    Verification bounds the programming error alone: relaxation and drift stay as the profile states
    them.

    Attributes:
        space: The devices.
        factor: How many times tighter, more than 1.
    """

    space: DeviceSpace
    factor: float

    def __post_init__(self) -> None:
        if not self.factor > 1:
            raise UsageError(
                f"tighter verification must be a factor above 1, got {self.factor:g} (--tighter);"
                " 10 divides the tolerance by ten"
            )

    @cached_property
    def profiles(self) -> dict[str, DeviceProfile]:
        """By initializer the profile of a device that is verified more tightly.

        Its layer's own, with a tolerance so many times smaller.
        """
        own = {name: tensor.profile for name, tensor in self.space.placement.tensors.items()}
        tight = {
            profile: with_tolerance(profile, largest_programming_error(profile) / self.factor)
            for profile in set(own.values())
        }
        return {name: tight[profile] for name, profile in own.items()}

    @cached_property
    def loose_ends(self) -> tuple[Float32[np.ndarray, "devices"], Float32[np.ndarray, "devices"]]:
        """What a device can take from its weight and add to it, float32 [devices].

        Not verified more tightly.
        """
        return self._ends(
            {name: tensor.profile for name, tensor in self.space.placement.tensors.items()}
        )

    @cached_property
    def tight_ends(self) -> tuple[Float32[np.ndarray, "devices"], Float32[np.ndarray, "devices"]]:
        """The same of devices that are verified more tightly."""
        return self._ends(self.profiles)

    @cached_property
    def saved_range(self) -> Float32[np.ndarray, "devices"]:
        """By how much a device's range in its weight shrinks, float32 [devices], not negative."""
        (low, high), (tight_low, tight_high) = self.loose_ends, self.tight_ends
        return np.asarray(np.maximum((high - low) - (tight_high - tight_low), np.float32(0)))

    @cached_property
    def tolerances(self) -> Float64[np.ndarray, "layers"]:
        """Largest programming error of a device of every layer, not verified more tightly.

        Fractions of the full range, float64 [layers].
        """
        return np.array(
            [
                largest_programming_error(tensor.profile)
                for tensor in self.space.placement.tensors.values()
            ]
        )

    def box(self, chosen: Bool[np.ndarray, "devices"]) -> Box:
        """Return the tolerance box with some devices verified more tightly.

        Args:
            chosen: Which, bool [devices].
        """
        full = box_of(self.space.placement)
        (low, high), (tight_low, tight_high) = self.loose_ends, self.tight_ends
        lows, highs = (
            self.space.split(np.where(chosen, tight, loose))
            for tight, loose in ((tight_low, low), (tight_high, high))
        )
        lo: Pattern = {
            name: toward_zero(lows[name].sum(axis=0, dtype=np.float64)).reshape(full.lo[name].shape)
            for name in full.names
        }
        hi: Pattern = {
            name: (
                toward_zero(highs[name].sum(axis=0, dtype=np.float64)).reshape(full.hi[name].shape)
            )
            for name in full.names
        }
        picked = {
            name: part.any(axis=0).reshape(full.lo[name].shape)
            for name, part in self.space.split(chosen).items()
        }
        return Box(
            full.nominal,
            {
                name: np.where(picked[name], np.maximum(lo[name], full.lo[name]), full.lo[name])
                for name in full.names
            },
            {
                name: np.where(picked[name], np.minimum(hi[name], full.hi[name]), full.hi[name])
                for name in full.names
            },
        )

    def _ends(
        self, profiles: Mapping[str, DeviceProfile]
    ) -> tuple[Float32[np.ndarray, "devices"], Float32[np.ndarray, "devices"]]:
        lows, highs = {}, {}
        for name, tensor in self.space.placement.tensors.items():
            lows[name], highs[name] = self._layer_ends(tensor, profiles[name])
        return self.space.join(lows), self.space.join(highs)

    def _layer_ends(
        self, tensor: TensorPlacement, profile: DeviceProfile
    ) -> tuple[Float32[np.ndarray, "cells weights"], Float32[np.ndarray, "cells weights"]]:
        index = whole_levels(tensor)
        low, high = (
            bound[index] for bound in level_bounds(profile, compensation=tensor.drift_factor)
        )
        weight = level_weights(tensor)
        ends = weight * low, weight * high
        return np.minimum(*ends).astype(np.float32), np.maximum(*ends).astype(np.float32)
