"""Chips with some stuck devices.

What sticking does to a device's weight, and the chip that a choice of devices makes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32, Int64

from cimrobust.engine.kernel import stuck_high_level
from cimrobust.engine.kernel_engine import DeviceLevels, Weights
from cimrobust.mapping.device_levels import spread_deviation

if TYPE_CHECKING:
    from cimrobust.device.profile import DeviceProfile
    from cimrobust.device_level.ranked_devices import DeviceSpace
    from cimrobust.mapping.box import Pattern

LOW, HIGH = 0, 1


@dataclass(frozen=True)
class Choice:
    """Stuck devices.

    Attributes:
        device: Numbers in the device space, int64, each once.
        kind: `LOW` or `HIGH` of each, int64.
    """

    device: Int64[np.ndarray, "stuck"]
    kind: Int64[np.ndarray, "stuck"]

    @property
    def size(self) -> int:
        """Number of stuck devices."""
        return int(self.device.size)

    def with_more(self, other: Choice) -> Choice:
        """Return both."""
        return Choice(
            np.concatenate([self.device, other.device]), np.concatenate([self.kind, other.kind])
        )

    def part(self, index: Int64[np.ndarray, "some"]) -> Choice:
        """Return some of them."""
        return Choice(self.device[index], self.kind[index])


def nothing_stuck() -> Choice:
    """Return no stuck device."""
    return Choice(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))


def kinds_of(profile: DeviceProfile) -> tuple[int, ...]:
    """Return how devices may stick: both ways, unless the profile states a rate for one alone."""
    faults = profile.faults
    if faults is None or (faults.stuck_low > 0) == (faults.stuck_high > 0):
        return (LOW, HIGH)
    return (LOW,) if faults.stuck_low > 0 else (HIGH,)


class StuckChips:
    """Makes chips whose other devices are as a base pattern has them.

    A stuck device neither deviates nor drifts: low is level 0, high the highest level, both as they
    are read after drift compensation.

    Attributes:
        space: The devices.
        base: Deviations of the weights without stuck devices.
        change: What sticking changes in the device's weight, float32 [2, devices]; low first.
    """

    def __init__(self, space: DeviceSpace, base: Pattern) -> None:
        """Work out what every device would change.

        Args:
            space: The devices.
            base: Deviations inside the tolerance box; zero: all devices at their targets.
        """
        self.space = space
        self.base = base
        placement = space.placement
        self._levels = {
            name: spread_deviation(tensor, base[name]) for name, tensor in placement.tensors.items()
        }
        self._top = {name: stuck_high_level(tensor) for name, tensor in placement.tensors.items()}
        held = space.join(self._levels).astype(np.float64)
        top = space.per_layer(self._top)
        self.change = (space.level_weight * np.stack([0.0 - held, top - held])).astype(np.float32)

    def pattern(self, choice: Choice) -> Pattern:
        """Return the deviations of a chip's weights; those with stuck devices leave the box."""
        layer, weight = self.space.weights_of(choice.device)
        change = self.change[choice.kind, choice.device].astype(np.float64)
        pattern = dict(self.base)
        for index in np.unique(layer):
            here = layer == index
            moved = np.zeros(self.base[self.space.names[index]].size)
            np.add.at(moved, weight[here], change[here])
            deviation = self.base[self.space.names[index]]
            pattern[self.space.names[index]] = (deviation + moved.reshape(deviation.shape)).astype(
                np.float32
            )
        return pattern

    def weights(self, choice: Choice) -> dict[str, Float32[np.ndarray, "..."]]:
        """Return the weights of a chip."""
        pattern, tensors = self.pattern(choice), self.space.placement.tensors
        return {
            name: np.ascontiguousarray(tensors[name].nominal + pattern[name], dtype=np.float32)
            for name in self.space.names
        }

    def chip(self, choice: Choice, *, as_levels: bool) -> Weights:
        """Return a chip as the engine takes it.

        As levels of devices where there are converters, else as weights.
        """
        return DeviceLevels(self._stuck_levels(choice)) if as_levels else self.weights(choice)

    def _stuck_levels(self, choice: Choice) -> Mapping[str, Float32[np.ndarray, "_cells _weights"]]:
        levels = self.space.join(self._levels)
        layer, _ = self.space.weights_of(choice.device)
        top = np.array([self._top[name] for name in self.space.names])
        levels[choice.device] = np.where(choice.kind == HIGH, top[layer], 0.0)
        return self.space.split(levels)


def random_choice(
    size: int, count: int, kinds: Sequence[int], generator: np.random.Generator
) -> Choice:
    """Return some devices drawn uniformly, each stuck in one of the ways that are allowed."""
    device = generator.choice(size, size=min(count, size), replace=False).astype(np.int64)
    return Choice(
        device, np.asarray(kinds, dtype=np.int64)[generator.integers(len(kinds), size=device.size)]
    )
