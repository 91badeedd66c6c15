"""Which samples every chip of the box decides right, and up to which size of the box."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float64, Int64

from cimrobust.available_memory import is_about_memory
from cimrobust.certify.bound_batch import Batch, Effort, Method, bound_batch
from cimrobust.certify.bounded_network import BoundedNetwork, open_bounds
from cimrobust.certify.branch import BranchSettings
from cimrobust.certify.kept_samples import Bound, KeptSamples
from cimrobust.certify.refusal import Refusal
from cimrobust.engine.parallel import map_ordered
from cimrobust.engine.torch_threads import one_torch_thread
from cimrobust.errors import MemoryShortError
from cimrobust.finished_parts import NOTHING_KEPT, FinishedParts

if TYPE_CHECKING:
    from cimrobust.certify.interval import Interval
    from cimrobust.cluster.executor import Executor
    from cimrobust.engine.subject import Subject

DEFAULT_BRANCHING = BranchSettings()


@dataclass(frozen=True)
class Bounds:
    """What is proven of every sample for all chips of a box.

    Attributes:
        scale: Size of the box: every deviation interval times this.
        method: ``interval`` or ``linear``.
        certified: The decision is right on every chip, bool [samples]; for a regression: there is a
            bound of the error.
        margin: Lower bound of the smallest margin over all chips, float64 [samples]; for a
            regression the upper bound of the largest absolute error, negated.
        seconds: Time taken.
    """

    scale: float
    method: str
    certified: Bool[np.ndarray, "samples"]
    margin: Float64[np.ndarray, "samples"]
    seconds: float

    @property
    def count(self) -> int:
        """Certified samples."""
        return int(self.certified.sum())


def certify(
    network: BoundedNetwork,
    *,
    scale: float = 1.0,
    method: Method = "linear",
    samples: Int64[np.ndarray, "samples"] | None = None,
    effort: float = math.inf,
    branching: BranchSettings | None = DEFAULT_BRANCHING,
    workers: int = 1,
    executor: Executor | None = None,
    parts: FinishedParts = NOTHING_KEPT,
) -> Bounds:
    """Bound all decisions over the box.

    Args:
        network: From `open_bounds`.
        scale: Size of the box: 1 is that of the placement.
        method: ``interval``: forwards only; ``linear``: with backward passes.
        samples: Indices of the samples; None: all.
        effort: Multiplications that narrowing one layer may cost a sample.
        branching: How far chips are split for samples that linear bounds do not prove; None: not at
            all.
        workers: Threads; the result does not depend on it.
        executor: Where batches of samples are bounded, nor on it; None: in these threads. Its
            workers open the network of the same box at scale 1.
        parts: Where finished samples are kept and taken from; none changes the result.

    Returns:
        Bounds of the samples, in their order.
    """
    started = time.perf_counter()
    indices = np.arange(network.num_decisions) if samples is None else samples
    certified, margin = _bound_groups(
        network,
        {scale: indices},
        Effort(method, effort, branching),
        workers=workers,
        executor=executor,
        parts=parts,
    )[scale]
    return Bounds(scale, method, certified, margin, time.perf_counter() - started)


def _bound_groups(
    network: BoundedNetwork,
    groups: Mapping[float, Int64[np.ndarray, "samples"]],
    effort: Effort,
    *,
    workers: int,
    executor: Executor | None,
    parts: FinishedParts,
) -> dict[float, Bound]:
    """Bound groups of samples, each over a box of its own size.

    Their batches share the workers, since a group is often one batch alone.

    Args:
        network: As for `certify`.
        groups: Indices of samples by size of the box.
        effort: How hard they are tried.
        workers: As for `certify`.
        executor: As for `certify`.
        parts: As for `certify`.

    Returns:
        `Bounds.certified` and `Bounds.margin` of every group.
    """
    settings = (effort.method, effort.narrowing, effort.branching)
    kept = KeptSamples.of(parts, groups, batch=network.batch, settings=settings)
    left = _without(groups, kept.num_samples)
    if executor is None:
        made = _in_threads(network, left, effort, workers=workers)
    else:
        items = [
            NamedBatch(scale, some)
            for scale, indices in left.items()
            for some in network.in_batches(indices)
        ]
        made = executor.map_ordered(BoundBatches(effort), items)
    with closing(made) as bounds:
        for enough, worst in bounds:
            kept.add(enough, worst)
    return kept.by_box()


def _without(
    groups: Mapping[float, Int64[np.ndarray, "samples"]], done: int
) -> dict[float, Int64[np.ndarray, "samples"]]:
    """Return groups of samples without the first ones, which are done."""
    left = {}
    for scale, indices in groups.items():
        left[scale] = indices[done:]
        done = max(done - len(indices), 0)
    return left


def _in_threads(
    network: BoundedNetwork,
    groups: Mapping[float, Int64[np.ndarray, "samples"]],
    effort: Effort,
    *,
    workers: int,
) -> Generator[Bound, None, None]:
    """Yield the bounds of every batch, computed by threads of this process."""

    def batches() -> Iterator[Batch]:
        # One box after the other, and not before its turn: of a large network only few fit into
        # memory.
        for scale, indices in groups.items():
            if len(indices):
                weights = network.weights(scale)
                for samples, inputs in network.batches(indices):
                    yield Batch.of(network, scale, weights, samples, inputs)

    with one_torch_thread():
        yield from map_ordered(partial(bound_batch, network, effort), batches(), workers=workers)


def largest_certified_tolerance(
    network: BoundedNetwork,
    *,
    method: Method = "linear",
    samples: Int64[np.ndarray, "samples"] | None = None,
    octaves: tuple[int, int] = (-10, 4),
    steps: int = 16,
    known: Float64[np.ndarray, "samples"] | None = None,
    effort: float = math.inf,
    branching: BranchSettings | None = DEFAULT_BRANCHING,
    workers: int = 1,
    executor: Executor | None = None,
    on_round: Callable[[], None] | None = None,
    parts: FinishedParts = NOTHING_KEPT,
) -> Float64[np.ndarray, "samples"]:
    """Return the largest box size at which each sample is certified.

    Sizes lie on a grid of some steps an octave. A proof for one box holds for every smaller one, so
    what is returned is proven whatever bisection missed.

    Args:
        network: From `open_bounds`; not of a regression.
        method: As for `certify`.
        samples: Indices of the samples; None: all.
        octaves: The grid goes from 2 to the first power to 2 to the second.
        steps: Box sizes an octave.
        known: Sizes at which the samples are certified already, float64 [samples], 0 where none is
            known: a warm start.
        effort: As for `certify`.
        branching: As for `certify`.
        workers: As for `certify`.
        executor: As for `certify`.
        on_round: Called after each of at most `bisection_rounds` rounds.
        parts: As for `certify`.

    Returns:
        Float64 [samples], sizes relative to the placement's box; 0 where even the smallest is not
        certified.
    """
    indices = np.arange(network.num_decisions) if samples is None else samples
    first, last = steps * octaves[0], steps * octaves[1]
    held = np.full(len(indices), first - 1)
    broken = np.full(len(indices), last + 1)
    if known is not None:
        # A size a hair below a step of the grid is that step, computed in another way.
        held = np.maximum(
            held,
            np.floor(
                steps * np.log2(known, where=known > 0, out=np.full(len(indices), -np.inf)) + 1e-9
            )
            .clip(first - 1, last)
            .astype(int),
        )
    while ((broken - held) > 1).any():
        middle = (held + broken) // 2
        is_open = (broken - held) > 1
        groups = {
            int(step): np.flatnonzero((middle == step) & is_open)
            for step in np.unique(middle[is_open])
        }
        bounded = _bound_groups(
            network,
            {2.0 ** (step / steps): indices[here] for step, here in groups.items()},
            Effort(method, effort, branching),
            workers=workers,
            executor=executor,
            parts=parts,
        )
        for (step, here), (certified, _margins) in zip(
            groups.items(), bounded.values(), strict=True
        ):
            held[here[certified]], broken[here[~certified]] = step, step
        if on_round is not None:
            on_round()
    return np.where(held < first, 0.0, 2.0 ** (held / steps))


def bisection_rounds(octaves: tuple[int, int], steps: int) -> int:
    """Return how many rounds `largest_certified_tolerance` takes at most."""
    return (steps * (octaves[1] - octaves[0]) + 1).bit_length()


@dataclass(frozen=True)
class NamedBatch:
    """Samples that are bounded together, by number.

    Attributes:
        scale: Size of the box.
        samples: Indices, at most `BoundedNetwork.batch` of them.
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
