"""The certified bound of a run.

One score for all samples at the stated tolerance, and a curve over smaller ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float64, Int64, Num

from cimrobust.available_memory import is_about_memory
from cimrobust.certify.bounded_network import BoundedNetwork, open_bounds
from cimrobust.certify.bounds import (
    Bounds,
    bisection_rounds,
    certify,
    largest_certified_tolerance,
)
from cimrobust.certify.branch import BranchSettings
from cimrobust.certify.counted_decisions import CountedDecisions
from cimrobust.certify.octaves import OCTAVES, STEPS
from cimrobust.certify.refusal import Refusal
from cimrobust.cluster.executor import Executor
from cimrobust.data.decision import Score
from cimrobust.errors import MemoryShortError, SelfCheckError
from cimrobust.finished_parts import NOTHING_KEPT, FinishedParts
from cimrobust.run import Run

if TYPE_CHECKING:
    from cimrobust.certify.bound_batch import Method
    from cimrobust.engine.subject import Subject

METHOD = (
    "Interval propagation, then linear bounds propagated backwards (CROWN) with weights as"
    " intervals and inputs as points, one device for all positions of a convolution kernel;"
    " float64, every rounding of the deployed float32 network charged."
)
#: Box sizes of the curve, smallest first; the last is the stated tolerance.
CURVE = tuple(2.0**power for power in range(-8, 1))
#: Samples of the curve, by effort.
CURVE_SAMPLES = {"quick": 16, "standard": 48, "thorough": 256}
#: Samples that are tried at the smallest box first; where none of them is certified, the network is
#: taken for hopeless.
_PROBED = 3
#: Samples beside those of the curve that linear bounds are tried on at most; others count as not
#: certified.
_MOST_SAMPLES = {"quick": 500, "standard": 2000, "thorough": 10**9}
#: Samples of a regression that linear bounds are taken of at most, for the curve and in all; with
#: more, all errors are bounded by intervals alone, as one loose bound would spoil the metric of
#: all.
_ERROR_CURVE = {"quick": 8, "standard": 16, "thorough": 64}
_MOST_ERRORS = {"quick": 64, "standard": 512, "thorough": 10**9}
_INTERVALS_ALONE = (
    "Interval propagation alone for the score of all samples; the curve has linear bounds too."
    " {method}"
)
#: Multiplications that linear bounds of one sample may take in one box.
_MOST_COST = {"quick": 3e10, "standard": 3e11, "thorough": 3e12}
_TOO_COSTLY = (
    "Interval propagation alone, in float64, every rounding of the deployed float32 network"
    " charged: linear bounds would take about {cost:.1e} multiplications a sample in every box, and"
    " effort {effort} has {most:.0e}."
)
_NOT_TRIED = "{method} {count} {units} were not tried at this effort and count as not certified."
#: Multiplications that narrowing one layer may cost a sample, and how far samples are branched on,
#: by effort.
EFFORTS = {
    "quick": (3e8, BranchSettings(most_parts=16, passes=0)),
    "standard": (1e9, BranchSettings(most_parts=64, passes=4)),
    "thorough": (3e10, BranchSettings(most_parts=256, passes=8)),
}


@dataclass(frozen=True)
class CurvePoint:
    """What is proven at one box size.

    Attributes:
        scale: Size of the box; 1 is the stated tolerance.
        score: Certified score over the samples of the curve.
    """

    scale: float
    score: Score


@dataclass(frozen=True)
class Certification:
    """Certified bound of a run.

    Attributes:
        score: Lower bound of the score (upper bound of an error) that holds for every chip of the
            box; None: see `refusal`.
        certified: Samples that no chip of the box can break, bool [samples]; None for a regression
            or without a bound.
        refusal: Why there is no bound.
        operators: Operators that are bounded, and how often they occur.
        curve: Certified scores up to the stated tolerance, smallest box first, over the first
            `curve_samples` samples; empty without a bound.
        curve_samples: Samples of the curve.
        tried: Samples that were tried, or that a chip of the box is known to break, bool [samples];
            None where `certified` is.
        largest: Largest box size at which each of the curve's samples is certified, on a grid of
            `steps` an octave from the first to the second power of two in
            `OCTAVES`, 0 where there is none, float64 [curve_samples]; None for a regression or
            without a bound.
        steps: See `largest`.
        method: How the bound was found, in words.
    """

    score: Score | None
    certified: Bool[np.ndarray, "samples"] | None
    refusal: Refusal | None
    operators: Mapping[str, int]
    curve: tuple[CurvePoint, ...] = ()
    curve_samples: int = 0
    method: str = METHOD
    tried: Bool[np.ndarray, "samples"] | None = None
    largest: Float64[np.ndarray, "curve_samples"] | None = None
    steps: int = 0


def certify_run(
    subject: Subject,
    run: Run,
    *,
    worst_output: Num[np.ndarray, "samples *outputs"] | None = None,
    parts: FinishedParts = NOTHING_KEPT,
    executor: Executor | None = None,
) -> Certification:
    """Return the certified bound of a deployed network, or why there is none.

    Args:
        subject: The deployed network with its data, and its placement, which gives the box.
        run: How to compute.
        worst_output: Decision output of a chip of the box on all samples; those that it breaks are
            not tried.
        parts: Where finished samples are kept and taken from; none changes the result.
        executor: Where samples are bounded; None: in the threads of this process.

    Raises:
        SelfCheckError: That chip breaks a certified sample.
    """
    most_cost = _MOST_COST[run.effort]
    network = open_bounds(subject.runtime, subject.placement, most_cost=most_cost)
    if isinstance(network, Refusal):
        return Certification(None, None, network, {})
    try:
        return _certified(
            _Work(network, run, parts.within("certify"), executor), subject, worst_output
        )
    except (MemoryError, MemoryShortError, RuntimeError) as err:
        if not is_about_memory(err):
            raise
        # A bound that does not fit costs itself, never what the search found.
        return Certification(
            None, None, Refusal(f"the bound needs more memory than there is: {err}"), {}
        )


def _certified(
    work: _Work,
    subject: Subject,
    worst_output: Num[np.ndarray, "samples *outputs"] | None,
) -> Certification:
    """Return the certified bound of a network that is ready to be bounded.

    Arguments as for `certify_run`.
    """
    network, run, runtime = work.network, work.run, subject.runtime
    effort, progress = run.effort, run.progress
    count = min(CURVE_SAMPLES[effort], network.num_decisions)
    if network.task.is_regression:
        return work.regression()
    progress.start("Certifying", bisection_rounds(OCTAVES, STEPS[effort]) + 2)
    right = (
        np.ones(network.num_decisions, dtype=bool)
        if worst_output is None
        else network.decisions.part_of(runtime.task.right(worst_output))
    )
    few = int(network.decisions.samples[count - 1]) + 1
    first = replace(runtime.task, labels=runtime.task.labels[:few])
    undisturbed = CountedDecisions.of(first).part_of(
        first.right(
            runtime.outputs(subject.placement.nominal(), subset=np.arange(few), threads=run.workers)
        )
    )[:count]
    largest, asked = work.largest(undisturbed)
    curve = tuple(CurvePoint(scale, _share(largest >= scale)) for scale in CURVE)
    held = largest >= 1.0
    others = np.arange(count, network.num_decisions)[right[count:]]
    hopeful = bool(held.any())
    tried = others[: _MOST_SAMPLES[effort]] if hopeful else others
    held = np.concatenate([held, work.rest(tried, hopeful=hopeful)[count:]])
    progress.finish()
    if (held & ~right).any():
        sample = int(np.flatnonzero(held & ~right)[0])
        raise SelfCheckError(
            "no chip of the box may break a certified sample, got sample"
            f" {int(network.decisions.samples[sample])} broken by the worst chip found; report this"
        )
    untried = len(others) - len(tried) + int((~asked).sum())
    method = (
        work.words
        if not untried
        else _NOT_TRIED.format(method=work.words, count=untried, units=network.decisions.units)
    )
    known = ~right | np.isin(np.arange(network.num_decisions), [*np.flatnonzero(asked), *tried])
    return Certification(
        _share(held),
        held,
        None,
        network.plan.operators,
        curve,
        count,
        method,
        known,
        largest,
        STEPS[effort],
    )


@dataclass(frozen=True)
class _Work:
    """What bounding needs over and over."""

    network: BoundedNetwork
    run: Run
    parts: FinishedParts
    executor: Executor | None

    @property
    def is_too_costly(self) -> bool:
        """Whether linear bounds of one sample cost more than this effort has."""
        return self.network.cost > _MOST_COST[self.run.effort]

    @property
    def words(self) -> str:
        """How samples are bounded, in words."""
        if not self.is_too_costly:
            return METHOD
        return _TOO_COSTLY.format(
            cost=self.network.cost, most=_MOST_COST[self.run.effort], effort=self.run.effort
        )

    def certify(
        self, samples: Int64[np.ndarray, "samples"], scale: float, method: Method = "linear"
    ) -> Bounds:
        """Bound some samples; by intervals alone where linear bounds cost too much."""
        method = "interval" if self.is_too_costly else method
        narrowing, branching = EFFORTS[self.run.effort]
        return certify(
            self.network,
            scale=scale,
            method=method,
            samples=samples,
            effort=narrowing,
            branching=branching,
            workers=self.run.workers,
            executor=self.executor,
            parts=self.parts,
        )

    def largest(
        self, right: Bool[np.ndarray, "samples"]
    ) -> tuple[Float64[np.ndarray, "samples"], Bool[np.ndarray, "samples"]]:
        """Return the largest boxes at which the first samples are certified.

        Also return which samples were decided on, bool. Samples that are wrong without deviation
        are not tried; those that fail at the smallest box are not tried at others; where the first
        few all do, the others are not tried at all, and count as not certified.

        Args:
            right: Which of the first samples are right without deviation.
        """
        narrowing, branching = EFFORTS[self.run.effort]
        smallest = 2.0 ** OCTAVES[0]
        found, asked, candidates = np.zeros(len(right)), ~right, np.flatnonzero(right)
        left = np.empty(0, dtype=np.intp)
        for group in (candidates[:_PROBED], candidates[_PROBED:]):
            if len(group) and (len(left) or group[0] == candidates[0]):
                left = np.concatenate([left, group[self.certify(group, smallest).certified]])
                asked[group] = True
        self.run.progress.advance()
        if len(left):
            found[left] = largest_certified_tolerance(
                self.network,
                method="interval" if self.is_too_costly else "linear",
                samples=left,
                octaves=OCTAVES,
                steps=STEPS[self.run.effort],
                known=np.full(len(left), smallest),
                effort=narrowing,
                branching=branching,
                workers=self.run.workers,
                executor=self.executor,
                on_round=self.run.progress.advance,
                parts=self.parts,
            )
        return found, asked

    def rest(
        self, samples: Int64[np.ndarray, "some"], *, hopeful: bool
    ) -> Bool[np.ndarray, "samples"]:
        """Return which of some samples are certified at the stated tolerance, bool for all samples.

        Without hope, because none of the curve's samples is, intervals alone are tried.
        """
        held = np.zeros(self.network.num_decisions, dtype=bool)
        if len(samples):
            method: Method = "linear" if hopeful else "interval"
            held[samples] = self.certify(samples, 1.0, method).certified
        self.run.progress.advance()
        return held

    def regression(self) -> Certification:
        """Bound the metric of the errors of all samples, and of a few in ever larger boxes."""
        self.run.progress.start("Certifying", len(CURVE))
        count = min(_ERROR_CURVE[self.run.effort], self.network.num_decisions)
        curve = self.error_curve(count)
        linear = self.network.num_decisions <= _MOST_ERRORS[self.run.effort]
        score = self.error_score(
            np.arange(self.network.num_decisions), 1.0, "linear" if linear else "interval"
        )
        self.run.progress.finish()
        method = self.words if linear else _INTERVALS_ALONE.format(method=self.words)
        return Certification(score, None, None, self.network.plan.operators, curve, count, method)

    def error_curve(self, count: int) -> tuple[CurvePoint, ...]:
        """Bound the error of the first samples at larger and larger boxes."""
        points = []
        for scale in CURVE:
            points.append(CurvePoint(scale, self.error_score(np.arange(count), scale)))
            self.run.progress.advance()
        return tuple(points)

    def error_score(
        self, samples: Int64[np.ndarray, "samples"], scale: float, method: Method = "linear"
    ) -> Score:
        """Return the metric of errors that no chip of a box exceeds."""
        return _error_score(self.network, -self.certify(samples, scale, method).margin)


def _share(held: Bool[np.ndarray, "samples"]) -> Score:
    return Score(float(held.sum()) / len(held), int(held.sum()), len(held))


def _error_score(network: BoundedNetwork, errors: Float64[np.ndarray, "samples"]) -> Score:
    """Return the metric of errors that no chip exceeds."""
    if not np.isfinite(errors).all():
        return Score(float("inf"), None, len(errors))
    metric = network.task.metric
    value = {
        "mae": lambda: float(errors.mean()),
        "mse": lambda: float((errors**2).mean()),
        "rmse": lambda: float(np.sqrt((errors**2).mean())),
    }.get(metric, lambda: float(errors.max()))()
    # A mean of n squares is off by at most gamma(n + 2) = (n + 2) 2^-53 (Higham, 3.5): less than
    # 1e-9 for 9 million samples.
    return Score(value * (1.0 + 1e-9), None, len(errors))
