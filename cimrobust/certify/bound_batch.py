"""One batch of samples bounded over one box."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64, Shaped
from torch import Tensor

from cimrobust.certify.backward import State, lower_bounds
from cimrobust.certify.branch import BranchSettings, prove
from cimrobust.certify.breaking_chip import broken_samples
from cimrobust.certify.interval import Interval, flat
from cimrobust.certify.propagate import propagate
from cimrobust.certify.rules.rule import total
from cimrobust.engine.parallel import check_stopped

if TYPE_CHECKING:
    from cimrobust.certify.bounded_network import BoundedNetwork
    from cimrobust.certify.kept_samples import Bound

Method = Literal["interval", "linear"]


@dataclass(frozen=True)
class Effort:
    """How hard samples are tried.

    Attributes:
        method: ``interval``: forwards only; ``linear``: with backward passes.
        narrowing: Multiplications that narrowing one layer may cost a sample.
        branching: How far chips are split for samples that linear bounds do not prove; None: not at
            all.
    """

    method: Method
    narrowing: float
    branching: BranchSettings | None


#: Steps in time above which nothing is narrowed or split: a pass goes back over all of them for
#: each, so that the work grows with their square.
MOST_NARROWED = 200

#: Linear bounds and nothing else.
_CHEAPEST = Effort("linear", 0.0, None)


@dataclass(frozen=True)
class Batch:
    """Samples that are bounded together.

    Attributes:
        scale: Size of the box.
        weights: The box.
        samples: Indices of the decisions; of a regression: of samples.
        inputs: Inputs of their samples, each once.
        rows: Which of these each decision is of, int64 [decisions].
    """

    scale: float
    weights: Mapping[str, Interval]
    samples: Int64[np.ndarray, "decisions"]
    inputs: Mapping[str, Shaped[Tensor, "samples ..."]]
    rows: Int64[Tensor, "decisions"]

    @staticmethod
    def of(
        network: BoundedNetwork,
        scale: float,
        weights: Mapping[str, Interval],
        samples: Int64[np.ndarray, "decisions"],
        inputs: Mapping[str, Shaped[Tensor, "samples ..."]],
    ) -> Batch:
        """Return a batch that `BoundedNetwork.batches` gave."""
        rows = torch.from_numpy(network.decisions.together(samples)[1])
        return Batch(scale, weights, samples, inputs, rows)

    def part(self, places: Int64[Tensor, "some"]) -> Batch:
        """Return some of the decisions, by their places in the batch."""
        kept, rows = torch.unique(self.rows[places], return_inverse=True)
        return replace(
            self,
            samples=self.samples[places.numpy()],
            inputs={name: tensor[kept] for name, tensor in self.inputs.items()},
            rows=rows,
        )


def bound_batch(network: BoundedNetwork, effort: Effort, batch: Batch) -> Bound:
    """Return which samples of a batch are certified, and the bounds of their margins.

    See `Bounds.certified` and `Bounds.margin`; margins are as tight as the decision needed. A
    function of its arguments alone: sums are taken by one thread.
    """
    torch.set_num_threads(1)  # the setting belongs to a thread, and this may be a new one
    check_stopped()
    if effort.method == "linear" and network.plan.num_in_time > MOST_NARROWED:
        effort = _CHEAPEST
    if effort.method == "interval" or effort == _CHEAPEST or network.twin is None:
        worst, enough = _bounded(network, effort, batch)
        return enough.numpy(), worst.numpy()
    # What costs least decides most samples: forms without narrowing prove, a chip disproves.
    worst, enough = _bounded(network, _CHEAPEST, batch)
    left = (~enough).nonzero()[:, 0]
    left = left[~_broken(network, batch.part(left))]
    if len(left):
        worst_left, enough[left] = _bounded(network, effort, batch.part(left))
        worst[left] = torch.maximum(worst[left], worst_left)
    return enough.numpy(), worst.numpy()


def _bounded(
    network: BoundedNetwork, effort: Effort, batch: Batch
) -> tuple[Float64[Tensor, "samples"], Bool[Tensor, "samples"]]:
    """Return the lower bound of the margins of a batch, and whether the decisions are proven."""
    state = propagate(
        network.plan,
        batch.inputs,
        network.constants,
        batch.weights,
        effort=effort.narrowing if effort.method == "linear" else 0.0,
        forwards_only=effort.method == "interval",
    )
    return _decided(network, state, batch, effort.method, effort.branching)


def _broken(network: BoundedNetwork, batch: Batch) -> Bool[Tensor, "samples"]:
    """Return which samples of a batch a chip of the box decides wrong."""
    assert network.twin is not None
    labels, positions = _labels(network, batch)
    return broken_samples(
        network.twin,
        network.reading,
        batch.inputs,
        network.constants,
        batch.weights,
        labels,
        positions,
        batch.rows,
    )


def _labels(
    network: BoundedNetwork, batch: Batch
) -> tuple[
    Int64[Tensor, "decisions"] | Float64[Tensor, "decisions *outputs"], Int64[Tensor, "decisions"]
]:
    """Return the labels of a batch of decisions, and which of its sample each is.

    Targets of a regression have the shape of its output.
    """
    decisions = network.decisions
    return (
        torch.from_numpy(np.ascontiguousarray(decisions.labels[batch.samples])),
        torch.from_numpy(decisions.positions[batch.samples]),
    )


def _decided(
    network: BoundedNetwork,
    state: State,
    batch: Batch,
    method: Method,
    branching: BranchSettings | None,
) -> tuple[Float64[Tensor, "samples"], Bool[Tensor, "samples"]]:
    """Return the lower bound of the margins of a batch, and whether the decisions are proven."""
    reading, tensor = network.reading, network.plan.tensor
    scores = state.interval(tensor)
    labels, positions = _labels(network, batch)
    if reading.kind == "value":
        return _error(state, tensor, labels.reshape(scores.lo.shape), method)
    rows = batch.rows
    form, offset = reading.forms(labels, torch.Size((len(rows), *scores.lo.shape[1:])), positions)
    spread = _Spread(rows)
    of_samples = spread.out(form)
    bound = spread.back(
        _interval_bound(state, tensor, of_samples)
        if method == "interval"
        else lower_bounds(state, tensor, of_samples)
    )
    largest = flat(scores.magnitude).amax(1)[rows]
    needed = (reading.needed + reading.needed_share * largest)[None] - offset
    # Offsets are added in float64: 2^-48 is gamma(32), where three sums round.
    needed = needed + 2.0**-48 * (1e-30 + bound.abs().nan_to_num(0.0, 0.0, 0.0) + offset.abs())
    ends = flat(torch.isfinite(scores.lo)).all(1) & flat(torch.isfinite(scores.hi)).all(1)
    near = flat(scores.hi).amax(1) - flat(scores.lo).amin(1) <= reading.most_apart
    finite = (ends & near)[rows]
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


class _Spread:
    """Forms of decisions as forms of their samples, several for a sample of several decisions.

    A sample of fewer decisions than another has forms of zero beside its own.
    """

    def __init__(self, rows: Int64[Tensor, "decisions"]) -> None:
        """Give every decision of a sample a place of its own."""
        self._rows, self._samples = rows, int(rows.max()) + 1
        same = rows[:, None] == rows[None]
        self._places = same.tril(-1).sum(1)
        self._most = int(self._places.max()) + 1
        self._in_order = torch.equal(rows, torch.arange(len(rows)))

    def out(
        self, form: Float64[Tensor, "forms decisions *units"]
    ) -> Float64[Tensor, "more_forms samples *units"]:
        """Return the forms on the samples."""
        if self._in_order:
            return form
        made = form.new_zeros(len(form), self._most, self._samples, *form.shape[2:])
        made[:, self._places, self._rows] = form
        return made.flatten(0, 1)

    def back(
        self, bound: Float64[Tensor, "more_forms samples"]
    ) -> Float64[Tensor, "forms decisions"]:
        """Return the bounds of the decisions."""
        if self._in_order:
            return bound
        return bound.reshape(-1, self._most, self._samples)[:, self._places, self._rows]


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
    batch: Batch,
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
                samples=batch.rows[sample],
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
