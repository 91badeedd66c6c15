"""The tolerance box: every deviation pattern that write-verify lets through.

One interval per weight.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cimrobust.array_shapes import Float, Float32, Shaped
from cimrobust.errors import SelfCheckError

if TYPE_CHECKING:
    from cimrobust.mapping.placement import Placement

#: Deviations by initializer name; every initializer has a shape of its own.
Pattern = dict[str, Float32[np.ndarray, "..."]]


@dataclass(frozen=True)
class Box:
    """Nominal weights and the interval that each deviation may lie in.

    All float32, initializers' own shapes.

    Attributes:
        nominal: Quantised weights by initializer name.
        lo: Smallest deviations, never positive.
        hi: Largest deviations, never negative.
    """

    nominal: Mapping[str, Float32[np.ndarray, "..."]]
    lo: Mapping[str, Float32[np.ndarray, "..."]]
    hi: Mapping[str, Float32[np.ndarray, "..."]]

    @property
    def names(self) -> tuple[str, ...]:
        """Initializers, in graph order."""
        return tuple(self.nominal)

    @property
    def num_weights(self) -> int:
        """Weights in the box."""
        return sum(array.size for array in self.nominal.values())

    def zero(self) -> Pattern:
        """Return the pattern without any deviation."""
        return {name: np.zeros_like(array) for name, array in self.nominal.items()}

    def clip(self, pattern: Mapping[str, Float32[np.ndarray, "..."]]) -> Pattern:
        """Return the nearest pattern inside the box; deviations that are no number become 0."""
        return {name: _clip(pattern[name], self.lo[name], self.hi[name]) for name in self.nominal}

    def corner(self, pattern: Mapping[str, Float32[np.ndarray, "..."]]) -> Pattern:
        """Return the corner a pattern points to.

        ``sign(d)`` times the bound on that side, 0 where d is 0.
        """
        return {
            name: np.where(
                pattern[name] > 0,
                self.hi[name],
                np.where(pattern[name] < 0, self.lo[name], np.float32(0)),
            )
            for name in self.nominal
        }

    def random_corner(self, generator: np.random.Generator) -> Pattern:
        """Return a corner drawn uniformly: every weight at one of its two bounds."""
        draws = {
            name: generator.random(array.shape, dtype=np.float32)
            for name, array in self.nominal.items()
        }
        return {
            name: np.where(draw < 0.5, self.lo[name], self.hi[name]) for name, draw in draws.items()
        }

    def random_interior(self, generator: np.random.Generator) -> Pattern:
        """Return a pattern drawn uniformly from the box."""
        draws = {
            name: generator.random(array.shape, dtype=np.float32)
            for name, array in self.nominal.items()
        }
        return self.clip(
            {
                name: self.lo[name] + draw * (self.hi[name] - self.lo[name])
                for name, draw in draws.items()
            }
        )

    def weights(
        self, pattern: Mapping[str, Float32[np.ndarray, "..."]]
    ) -> dict[str, Float32[np.ndarray, "..."]]:
        """Return the weights of a chip with this pattern: nominal + deviation, added in float32."""
        return {
            name: np.ascontiguousarray(self.nominal[name] + pattern[name], dtype=np.float32)
            for name in self.nominal
        }

    def check(self, pattern: Mapping[str, Shaped[np.ndarray, "..."]], *, origin: str) -> None:
        """Check that a pattern is one of this box.

        Args:
            pattern: Deviations by initializer name.
            origin: Who made it, for the message.

        Raises:
            SelfCheckError: A tensor is missing, of another shape or type, or leaves its interval.
        """
        if set(pattern) != set(self.nominal):
            raise SelfCheckError(
                f"pattern must deviate exactly {sorted(self.nominal)}, got {sorted(pattern)}"
                f" ({origin}); report this"
            )
        for name, deviation in pattern.items():
            if deviation.shape != self.nominal[name].shape or deviation.dtype != np.float32:
                raise SelfCheckError(
                    f"deviation of '{name}' must be float32 of shape {self.nominal[name].shape}, "
                    f"got {deviation.dtype} of shape {deviation.shape} ({origin}); report this"
                )
            inside = (self.lo[name] <= deviation) & (deviation <= self.hi[name])
            if not inside.all():
                first = tuple(int(index) for index in np.argwhere(~inside)[0])
                raise SelfCheckError(
                    f"deviation of '{name}' must lie in its tolerance interval, got"
                    f" {float(deviation[first]):g} outside [{float(self.lo[name][first]):g},"
                    f" {float(self.hi[name][first]):g}] at {list(first)} ({origin}); report this"
                )


def box_of(placement: Placement) -> Box:
    """Return the tolerance box of a placement."""
    tensors = placement.tensors
    # First, since limits are made of those that are held.
    nominal = {
        name: np.asarray(tensor.nominal, dtype=np.float32) for name, tensor in tensors.items()
    }
    limits = {name: tensor.limits() for name, tensor in tensors.items()}
    return Box(
        nominal=nominal,
        lo={name: np.asarray(lo, dtype=np.float32) for name, (lo, _) in limits.items()},
        hi={name: np.asarray(hi, dtype=np.float32) for name, (_, hi) in limits.items()},
    )


def _clip(
    deviation: Float[np.ndarray, "*weight"],
    lo: Float32[np.ndarray, "*weight"],
    hi: Float32[np.ndarray, "*weight"],
) -> Float32[np.ndarray, "*weight"]:
    number = np.where(np.isnan(deviation), np.float32(0), deviation).astype(np.float32)
    return np.asarray(np.clip(number, lo, hi), dtype=np.float32)
