"""Chips as functions of standard normal numbers, one a device.

What methods need that move from one chip to a neighbouring one.

A trial draws a 32-bit word a device and looks its quantile up. Here the word is the normal
probability of a latent number, so that independent standard normal latents
give chips of the same distribution as the trials, and a small step of the latents is a small step
of every device.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Float32, Int32
from scipy.special import ndtr

from cimrobust.engine.kernel import needs_levels, tabulate_once
from cimrobust.engine.kernel_engine import DeviceLevels
from cimrobust.engine.reference import (
    device_factors,
    fold_deviations,
    quantiles,
    target_digits,
    unit_weights,
)
from cimrobust.errors import UsageError
from cimrobust.mapping.placement import Placement, TensorPlacement

if TYPE_CHECKING:
    from cimrobust.device.profile import DeviceProfile

# Beyond 6.4 standard deviations a word has no further values (2^-33); 2^14 segments are 0.0008
# wide, so that linear interpolation adds an error of 1e-7 sigma.
REACH = 6.4
SEGMENTS = 2**14


@dataclass(frozen=True)
class LatentLayer:
    """One layer's devices among the latents.

    Attributes:
        tensor: Its placement.
        begin: Its first latent.
        values: Deviation on the grid of latents, level units, float32 [num_tables * (segments +
            1)].
        offset: Where the table of every device begins, int32 [cells_per_weight, num_weights]; None:
            all have one table.
        targets: Level of every device without deviation, float32 [cells_per_weight, num_weights];
            None: not needed.
    """

    tensor: TensorPlacement
    begin: int
    values: Float32[np.ndarray, "grid"]
    offset: Int32[np.ndarray, "cells weights"] | None
    targets: Float32[np.ndarray, "cells weights"] | None

    @property
    def shape(self) -> tuple[int, int]:
        """Devices of a weight, and weights."""
        return self.tensor.cells_per_weight, self.tensor.num_weights

    def of(self, latents: Float32[np.ndarray, "devices"]) -> Float32[np.ndarray, "cells weights"]:
        """Return this layer's part of a vector of all devices.

        It is a view [cells_per_weight, num_weights].
        """
        return latents[self.begin : self.begin + self.shape[0] * self.shape[1]].reshape(self.shape)


class LatentChips:
    """Makes chips of one placement from latents; safe to use from many threads.

    Attributes:
        size: Latents of a chip: devices that belong to a weight.
        layers: Where every layer's devices are among the latents, in graph order.
    """

    def __init__(self, placement: Placement, *, as_levels: bool = False) -> None:
        """Tabulate the distribution of every device.

        Args:
            placement: Layers on their devices.
            as_levels: Chips are made as levels of devices, for networks with converters.

        Raises:
            UsageError: The profile has effects that are no function of one normal number a device.
        """
        check_profile(placement.profile)
        self._as_levels = as_levels
        self.layers: list[LatentLayer] = []
        self.size = 0
        for tensor in placement.tensors.values():
            self.layers.append(_open_layer(tensor, self.size, as_levels=as_levels))
            self.size += tensor.cells_per_weight * tensor.num_weights

    def program(
        self, latents: Float32[np.ndarray, "devices"]
    ) -> Mapping[str, Float32[np.ndarray, "..."]] | DeviceLevels:
        """Return the chip that latents stand for.

        Its weights by initializer, or the levels of its devices.

        Args:
            latents: float32 [size].
        """
        if not self._as_levels:
            return self.weights(latents)
        return DeviceLevels(
            {
                layer.tensor.initializer: layer.targets + _deviations(layer, layer.of(latents))
                for layer in self.layers
            }
        )

    def weights(
        self, latents: Float32[np.ndarray, "devices"]
    ) -> dict[str, Float32[np.ndarray, "..."]]:
        """Return the weights of the chip that latents stand for.

        They are by initializer, float32 in its shape.
        """
        return {
            layer.tensor.initializer: fold_deviations(
                layer.tensor, _deviations(layer, layer.of(latents))
            )
            for layer in self.layers
        }

    def deviations(self, latents: Float32[np.ndarray, "devices"]) -> Float32[np.ndarray, "devices"]:
        """Return the deviation of every device in level units, float32 [size]."""
        return np.concatenate(
            [_deviations(layer, layer.of(latents)).ravel() for layer in self.layers]
        )

    def pull_back(
        self, gradients: Mapping[str, Float[np.ndarray, "..."]]
    ) -> Float32[np.ndarray, "devices"]:
        """Return the gradient with respect to the deviation of every device.

        It is in level units, float32 [size].

        Args:
            gradients: Gradient with respect to every weight by initializer, own shape.
        """
        parts = [
            self.sensitivity(layer) * gradients[layer.tensor.initializer].reshape(1, -1)
            for layer in self.layers
        ]
        return np.concatenate([part.ravel() for part in parts], dtype=np.float32)

    def sensitivity(self, layer: LatentLayer) -> Float32[np.ndarray, "cells weights"]:
        """Return by how much a level of every device moves its weight.

        Float32 [cells_per_weight, num_weights].
        """
        return np.asarray(
            device_factors(layer.tensor)[:, None] * unit_weights(layer.tensor), dtype=np.float32
        )


def num_latents(placement: Placement) -> int:
    """Return the latents of a chip: devices that belong to a weight.

    Raises:
        UsageError: As `check_profile`.
    """
    check_profile(placement.profile)
    return sum(
        tensor.cells_per_weight * tensor.num_weights for tensor in placement.tensors.values()
    )


def check_profile(profile: DeviceProfile) -> None:
    """Refuse profiles whose chips are no function of one normal number a device.

    Raises:
        UsageError: Names the effects.
    """
    effects = [
        name
        for name, acts in (
            ("stuck devices", profile.has_faults),
            ("read noise", profile.read_noise is not None),
        )
        if acts
    ]
    if effects:
        raise UsageError(
            "device profile must draw every device from a continuous distribution, once, got"
            f" {' and '.join(effects)} (profile '{profile.name}'); rare events need a profile"
            " without them, ordinary trials do not"
        )


def _open_layer(tensor: TensorPlacement, begin: int, *, as_levels: bool) -> LatentLayer:
    table = tabulate_once(tensor.profile, compensation=tensor.drift_factor)
    words = np.minimum(
        ndtr(np.linspace(-REACH, REACH, SEGMENTS + 1)) * 2.0**32, 2.0**32 - 1
    ).astype(np.uint32)
    values = np.concatenate([quantiles(words, table, level) for level in range(table.num_tables)])
    digits, targets = (
        target_digits(tensor) if needs_levels(tensor.profile) or as_levels else (None, None)
    )
    offset = (
        None
        if digits is None or table.num_tables == 1
        else (digits * (SEGMENTS + 1)).astype(np.int32)
    )
    return LatentLayer(tensor, begin, values, offset, targets if as_levels else None)


def _deviations(
    layer: LatentLayer, latents: Float32[np.ndarray, "cells weights"]
) -> Float32[np.ndarray, "cells weights"]:
    """Return the deviation of every device in level units.

    Float32 [cells_per_weight, num_weights].
    """
    position = (np.clip(latents, -REACH, REACH) + np.float32(REACH)) * np.float32(
        SEGMENTS / (2 * REACH)
    )
    index = np.minimum(position.astype(np.int32), SEGMENTS - 1)
    place = position - index.astype(np.float32)
    if layer.offset is not None:
        index += layer.offset
    low = layer.values[index]
    return np.asarray(low + place * (layer.values[index + 1] - low), dtype=np.float32)
