"""Which samples every chip of the box decides right, and up to which size of the box."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64, Shaped
from torch import Tensor

from cimrobust.certify.backward import State, lower_bounds
from cimrobust.certify.bounded_network import BATCH, BoundedNetwork
from cimrobust.certify.branch import BranchSettings, prove
from cimrobust.certify.interval import Interval, flat
from cimrobust.certify.kept_samples import KeptSamples
from cimrobust.certify.propagate import propagate
from cimrobust.certify.rules.rule import total
from cimrobust.engine.parallel import check_stopped, map_ordered
from cimrobust.engine.torch_threads import one_torch_thread
from cimrobust.finished_parts import NOTHING_KEPT, FinishedParts

Method = Literal["interval", "linear"]

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


@dataclass(frozen=True)
class _Batch:
    """Samples that are bounded together.

    Attributes:
        scale: Size of the box.
        weights: The box.
        samples: Indices.
        inputs: Inputs of the samples.
    """

    scale: float
    weights: Mapping[str, Interval]
    samples: Int64[np.ndarray, "samples"]
    inputs: Mapping[str, Shaped[Tensor, "samples ..."]]


def certify(
    network: BoundedNetwork,
    *,
    scale: float = 1.0,
    method: Method = "linear",
    samples: Int64[np.ndarray, "samples"] | None = None,
    effort: float = math.inf,
    branching: BranchSettings | None = DEFAULT_BRANCHING,
    workers: int = 1,
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
        parts: Where finished samples are kept and taken from; none changes the result.

    Returns:
        Bounds of the samples, in their order.
    """
    started = time.perf_counter()
    indices = np.arange(network.num_samples) if samples is None else samples
    certified, margin = _bound_groups(
        network,
        {scale: indices},
        method=method,
        effort=effort,
        branching=branching,
        workers=workers,
        parts=parts,
    )[scale]
    return Bounds(scale, method, certified, margin, time.perf_counter() - started)


def _bound_groups(
    network: BoundedNetwork,
    groups: Mapping[float, Int64[np.ndarray, "samples"]],
    *,
    method: Method,
    effort: float,
    branching: BranchSettings | None,
    workers: int,
    parts: FinishedParts,
) -> dict[float, tuple[Bool[np.ndarray, "samples"], Float64[np.ndarray, "samples"]]]:
    """Bound groups of samples, each over a box of its own size.

    Their batches share the workers, since a group is often one batch alone.

    Args:
        network: As for `certify`.
        groups: Indices of samples by size of the box.
        method: As for `certify`.
        effort: As for `certify`.
        branching: As for `certify`.
        workers: As for `certify`.
        parts: As for `certify`.

    Returns:
        `Bounds.certified` and `Bounds.margin` of every group.
    """
    kept = KeptSamples.of(parts, groups, batch=BATCH, settings=(method, effort, branching))

    def batches() -> Iterator[_Batch]:
        # One box after the other, and not before its turn: of a large network only few fit into
        # memory.
        left = kept.num_samples
        for scale, indices in groups.items():
            done, left = min(left, len(indices)), max(left - len(indices), 0)
            if done == len(indices):
                continue
            weights = network.weights(scale)
            for samples, inputs in network.batches(indices[done:]):
                yield _Batch(scale, weights, samples, inputs)

    def bounded(
        batch: _Batch,
    ) -> tuple[Bool[np.ndarray, "samples"], Float64[np.ndarray, "samples"]]:
        torch.set_num_threads(1)  # the setting belongs to a thread, and this may be a new one
        check_stopped()
        state = propagate(
            network.plan,
            batch.inputs,
            network.constants,
            batch.weights,
            effort=effort if method == "linear" else 0.0,
            forwards_only=method == "interval",
        )
        worst, enough = _decided(network, state, batch, method, branching)
        return enough.numpy(), worst.numpy()

    with one_torch_thread():
        for enough, worst in map_ordered(bounded, batches(), workers=workers):
            kept.add(enough, worst)
    return kept.by_box()


def _decided(
    network: BoundedNetwork,
    state: State,
    batch: _Batch,
    method: Method,
    branching: BranchSettings | None,
) -> tuple[Float64[Tensor, "samples"], Bool[Tensor, "samples"]]:
    """Return the lower bound of the margins of a batch, and whether the decisions are proven."""
    reading, tensor = network.reading, network.plan.tensor
    scores = state.interval(tensor)
    labels = torch.from_numpy(np.ascontiguousarray(network.task.labels[batch.samples]))
    if reading.kind == "value":
        return _error(state, tensor, labels.reshape(scores.lo.shape), method)
    form, offset = reading.forms(labels.reshape(-1), scores.lo.shape)
    bound = (
        _interval_bound(state, tensor, form)
        if method == "interval"
        else lower_bounds(state, tensor, form)
    )
    needed = (reading.needed + reading.needed_share * flat(scores.magnitude).amax(1))[None] - offset
    # Offsets are added in float64: 2^-48 is gamma(32), where three sums round.
    needed = needed + 2.0**-48 * (1e-30 + bound.abs().nan_to_num(0.0, 0.0, 0.0) + offset.abs())
    finite = flat(torch.isfinite(scores.lo)).all(1) & flat(torch.isfinite(scores.hi)).all(1)
    # Where some classes may be ahead, the same ones may be so on every chip: those whose bound is
    # worst. All others must stay behind.
    excepted = _worst_forms(bound - needed, reading.most_ahead)
    proven = ((bound > needed) | excepted) & finite
    if method == "linear" and branching is not None:
        proven = (
            _branched(network, state, batch, form, bound, needed, proven | ~finite, branching)
            & finite
        )
    return torch.where(
        finite, (bound + offset).masked_fill(excepted, math.inf).amin(0), -math.inf
    ), proven.all(0)


def _worst_forms(
    excess: Float64[Tensor, "forms samples"], count: int
) -> Bool[Tensor, "forms samples"]:
    """Return the forms with the smallest excess of every sample, bool [forms, samples]."""
    worst = torch.zeros_like(excess, dtype=torch.bool)
    if count == 0:
        return worst
    return worst.scatter(
        0, excess.nan_to_num(nan=-math.inf).argsort(dim=0, stable=True)[:count], True
    )


def _branched(
    network: BoundedNetwork,
    state: State,
    batch: _Batch,
    form: Float64[Tensor, "forms samples *units"],
    bound: Float64[Tensor, "forms samples"],
    needed: Float64[Tensor, "forms samples"],
    proven: Bool[Tensor, "forms samples"],
    settings: BranchSettings,
) -> Bool[Tensor, "forms samples"]:
    """Prove what linear bounds leave open by branching.

    The worst form of every sample first, the others only where that succeeds.
    """
    proven = proven.clone()
    worst = (bound - needed).masked_fill(proven, math.inf).argmin(0, keepdim=True)
    for only_worst in (True, False):
        is_worst = torch.zeros_like(proven).scatter_(0, worst, True)
        tasks = (~proven & (is_worst if only_worst else proven.gather(0, worst))).nonzero()
        if len(tasks):
            which, sample = tasks[:, 0], tasks[:, 1]
            proven[which, sample] = prove(
                state,
                batch.inputs,
                network.constants,
                batch.weights,
                tensor=network.plan.tensor,
                form=form[which, sample],
                samples=sample,
                needed=needed[which, sample],
                settings=settings,
            )
    return proven


def _interval_bound(
    state: State, tensor: str, form: Float64[Tensor, "forms samples *units"]
) -> Float64[Tensor, "forms samples"]:
    scores = state.interval(tensor)
    bound = total(form, scores.middle) - total(form.abs(), scores.radius)
    # float64 rounding of these sums; the scores' own rounding is in their interval. 2^-40 is
    # gamma(2^13) (Higham, 3.5), and a form has at most two elements that are not 0.
    return torch.nan_to_num(bound - 2.0**-40 * total(form.abs(), scores.magnitude), nan=-math.inf)


def _error(
    state: State, tensor: str, targets: Float64[Tensor, "samples *outputs"], method: Method
) -> tuple[Float64[Tensor, "samples"], Bool[Tensor, "samples"]]:
    """Return the largest absolute error of a batch, negated, and whether it is finite."""
    scores = state.interval(tensor)
    lo, hi = scores.lo, scores.hi
    if method == "linear":
        count, size = len(targets), math.prod(lo.shape[1:])
        form = (
            torch.eye(size, dtype=lo.dtype)[:, None]
            .expand(size, count, size)
            .reshape(size, *lo.shape)
        )
        lo = torch.maximum(lo, lower_bounds(state, tensor, form).T.reshape(lo.shape))
        hi = torch.minimum(hi, -lower_bounds(state, tensor, -form).T.reshape(lo.shape))
    error = flat(torch.maximum((hi - targets).abs(), (lo - targets).abs())).amax(1)
    # |y - t| is convex in y, so it is largest at an end of the interval; 2^-48 as in `_decided`.
    error = error + 2.0**-48 * (error + flat(targets.abs()).amax(1))
    return -error, torch.isfinite(error)


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
        on_round: Called after each of at most `bisection_rounds` rounds.
        parts: As for `certify`.

    Returns:
        Float64 [samples], sizes relative to the placement's box; 0 where even the smallest is not
        certified.
    """
    indices = np.arange(network.num_samples) if samples is None else samples
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
            method=method,
            effort=effort,
            branching=branching,
            workers=workers,
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
