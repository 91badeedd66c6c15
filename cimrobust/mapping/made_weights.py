"""Quantised weights of a large network, made when somebody asks for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from weakref import ReferenceType, ref

import numpy as np

from cimrobust.array_shapes import Float32


@dataclass(frozen=True)
class MadeWeights:
    """Quantised weights of a layer; an array that somebody still has is given again.

    They follow from those of the file, which the network holds already.

    Attributes:
        make: Makes them, float32; the same each time.
    """

    make: Callable[[], Float32[np.ndarray, "*weight"]]
    _known: list[ReferenceType[Float32[np.ndarray, "*weight"]]] = field(
        default_factory=list, compare=False, repr=False
    )

    def __call__(self) -> Float32[np.ndarray, "..."]:
        """Return the weights, read-only."""
        known = self._known[0]() if self._known else None
        if known is None:
            known = self.make()
            known.setflags(write=False)
            self._known[:] = [ref(known)]
        return known


#: Weights that are held, or what makes them.
Stored = Float32[np.ndarray, "..."] | MadeWeights


def read(stored: Stored) -> Float32[np.ndarray, "..."]:
    """Return the weights of a layer, float32."""
    return stored() if isinstance(stored, MadeWeights) else stored
