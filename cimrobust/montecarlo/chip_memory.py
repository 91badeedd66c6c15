"""How many chips may be in memory at once."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from cimrobust.available_memory import fitting_workers

if TYPE_CHECKING:
    from cimrobust.mapping.placement import Placement
    from cimrobust.run import Run

# Bytes a stored weight: the chip that is drawn, float32, and the session that is opened on it,
# which copies and packs it.
_CHIP_BYTES = 16


def within_memory(run: Run, placement: Placement) -> Run:
    """Return how to compute with as many threads as chips fit into the memory; at least one.

    Results do not depend on it.

    Args:
        run: How to compute.
        placement: Where the weights are stored.
    """
    weights = sum(tensor.num_weights for tensor in placement.tensors.values())
    return replace(run, workers=fitting_workers(run.workers, _CHIP_BYTES * weights))
