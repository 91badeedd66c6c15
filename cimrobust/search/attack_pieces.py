"""How large the pieces are that the attack set is cut into.

A function of the network and the device; those that do not fit into memory are made smaller.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from cimrobust.engine.batches import automatic_batch_size

if TYPE_CHECKING:
    from cimrobust.engine.batches import Feeding
    from cimrobust.engine.open import Runtime

#: Samples of one piece; pieces are spread over workers, so a set of 500 should have a few of them.
_PIECE = 64
# An accelerator is fed by one thread, with as many samples as keep it busy.
_ACCELERATOR_PIECE = 512


def most_runs(runtime: Runtime, piece: int) -> int:
    """Return how many runs of a network may share a pass.

    A piece, and on a processor few enough for its cache.
    """
    return max(min(piece, automatic_batch_size(runtime.deployed)) // runtime.engine.feeding.size, 1)


def piece_size(feeding: Feeding, device: torch.device) -> int:
    """Return the samples of one piece.

    Whole runs, and small enough for a core's cache where the engine chose to be careful.
    """
    if device.type != "cpu":
        return (
            max(_ACCELERATOR_PIECE // feeding.size, 1) * feeding.size
            if feeding.mode == "fixed"
            else _ACCELERATOR_PIECE
        )
    if feeding.mode == "fixed":
        return max(_PIECE // feeding.size, 1) * feeding.size
    return _PIECE if feeding.mode == "none" else min(_PIECE, feeding.size)
