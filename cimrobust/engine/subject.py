"""What is examined: an open network, and where its weights are stored."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from cimrobust.mapping.box import box_of

if TYPE_CHECKING:
    from cimrobust.engine.open import Runtime
    from cimrobust.mapping.box import Box
    from cimrobust.mapping.placement import Placement
    from cimrobust.onnx_io.layers import LayerScan


@dataclass(frozen=True)
class Subject:
    """What is examined.

    Attributes:
        runtime: The network with its data.
        placement: Quantised weights on devices, with the interval of every deviation.
    """

    runtime: Runtime
    placement: Placement

    @property
    def scan(self) -> LayerScan:
        """Crossbar layers of the network."""
        return self.runtime.scan

    @cached_property
    def box(self) -> Box:
        """All deviation patterns that the placement allows."""
        return box_of(self.placement)
