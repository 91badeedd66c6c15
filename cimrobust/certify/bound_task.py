"""Batches of samples bounded by workers elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int64

from cimrobust.available_memory import is_about_memory
from cimrobust.certify.bound_batch import Batch, Effort, bound_batch
from cimrobust.certify.bounded_network import BoundedNetwork, open_bounds
from cimrobust.certify.refusal import Refusal
from cimrobust.errors import MemoryShortError

if TYPE_CHECKING:
    from cimrobust.certify.interval import Interval
    from cimrobust.certify.kept_samples import Bound
    from cimrobust.engine.subject import Subject


@dataclass(frozen=True)
class NamedBatch:
    """Samples that are bounded together, by number.

    Attributes:
        scale: Size of the box.
        samples: Indices, at most `bounded_network.BATCH` of them.
    """

    scale: float
    samples: Int64[np.ndarray, "samples"]


@dataclass(frozen=True)
class BoundBatches:
    """The task of bounding batches of samples; its items are `NamedBatch`.

    Attributes:
        effort: How hard they are tried.
    """

    effort: Effort

    def on(self, subject: Subject) -> Callable[[NamedBatch], Bound]:
        """Return what bounds one batch.

        The coordinator has made the same network ready, so that memory alone can refuse here.

        Raises:
            MemoryShortError: This worker has not enough for a batch.
        """
        network = open_bounds(subject.runtime, subject.placement)
        if isinstance(network, Refusal):
            raise _short(network)
        boxes = _LastBox(network)

        def bounded(named: NamedBatch) -> Bound:
            try:
                weights = boxes.at(named.scale)
                samples, inputs = next(network.batches(named.samples))
                return bound_batch(
                    network, self.effort, Batch.of(network, named.scale, weights, samples, inputs)
                )
            except (MemoryError, RuntimeError) as err:
                if not is_about_memory(err):
                    raise
                raise _short(err) from err

        return bounded


def _short(reason: object) -> MemoryShortError:
    return MemoryShortError(
        f"a batch of samples must fit into the memory of a worker, got: {reason} (--cluster); start"
        " fewer workers on a machine, and give --resume"
    )


class _LastBox:
    """The box that was asked for last: batches come box by box, and a box is as large as a chip."""

    def __init__(self, network: BoundedNetwork) -> None:
        self._network, self._lock = network, Lock()
        self._scale: float | None = None
        self._weights: Mapping[str, Interval] = {}

    def at(self, scale: float) -> Mapping[str, Interval]:
        """Return the box of a size."""
        with self._lock:
            if self._scale != scale:
                self._weights = {}
                self._scale, self._weights = scale, self._network.weights(scale)
            return self._weights
