"""What every engine does: run a network with given programmed weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Shaped

if TYPE_CHECKING:
    from cimrobust.engine.batches import Feeding
    from cimrobust.mapping.placement import Placement
    from cimrobust.onnx_io.deployed import Deployed


@runtime_checkable
class Engine(Protocol):
    """Runs one network; safe to use from many threads.

    A chip is what `draw` gives, or weights by initializer.

    Attributes:
        deployed: The network.
        output: Output that decisions are read from.
        feeding: How samples are fed.
    """

    deployed: Deployed
    output: str
    feeding: Feeding

    @property
    def batch_size(self) -> int:
        """Samples of one run."""

    def buffers(self, placement: Placement) -> dict[str, Float32[np.ndarray, "..."]]:
        """Return arrays that one chip after the other can be drawn into."""

    def draw(
        self,
        placement: Placement,
        *,
        seed: int,
        trial: int,
        out: Mapping[str, Float32[np.ndarray, "..."]] | None = None,
    ) -> Any:
        """Draw one chip."""

    def run(
        self,
        weights: Any,
        inputs: Mapping[str, Shaped[np.ndarray, "samples ..."]],
        constants: Mapping[str, Shaped[np.ndarray, "..."]],
        *,
        threads: int,
    ) -> Shaped[np.ndarray, "samples ..."]:
        """Return the decision output of all samples on one chip, samples along the first axis."""
