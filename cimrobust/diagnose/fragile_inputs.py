"""Diagnostic: which inputs break first.

For every input the smallest share of a known pattern that breaks it, and a chip made for it alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64, Shaped

from cimrobust.attack.bisection import bisect
from cimrobust.attack.diagnosis_protocol import DiagnosisRequest, Diagnostic, Finding
from cimrobust.attack.proofs import BRANCHING, NARROWING
from cimrobust.certify.bounded_network import open_bounds
from cimrobust.certify.bounds import largest_certified_tolerance
from cimrobust.certify.refusal import Refusal
from cimrobust.device.intervals import tolerance_fraction
from cimrobust.diagnose.classes import WORST, decided_in, known_patterns
from cimrobust.diagnose.diagnose_records import (
    MOST_FRAGILE,
    OWN_CHIP,
    FragileInput,
    FragileInputs,
)
from cimrobust.errors import SelfCheckError
from cimrobust.search.losses import margins
from cimrobust.search.readout import counted_logits, task_readout

if TYPE_CHECKING:
    from cimrobust.mapping.box import Pattern

NAME = "fragile_inputs"
#: Shares of a pattern that are tried, smallest first, two an octave, until enough inputs are
#: broken; then `_FINER` between each and the one before.
_SHARES = tuple(2.0 ** (-step / 2) for step in range(16, -1, -1))
_FINER = 4
#: Patterns whose rays are followed at most.
_RAYS = {"quick": 6, "standard": 12, "thorough": 24}
_STEPS, _RESOLUTION = 10, 0.02
# A share of a deviation is rounded to float32.
_ROUNDING = 1 + 1e-6
_LOOKS = 3


@dataclass
class _Search:
    """Smallest share known to break every sample, by which pattern, and what the sample becomes."""

    request: DiagnosisRequest
    share: Float64[np.ndarray, "samples"]
    becomes: Int64[np.ndarray, "samples"]
    by: list[str]
    evaluations: int = 0
    passes: int = 0

    def try_share(
        self,
        origin: str,
        pattern: Mapping[str, Float32[np.ndarray, "..."]],
        share: float,
        samples: Int64[np.ndarray, "some"],
    ) -> Bool[np.ndarray, "some"]:
        """Run some samples, which may be none, on the chip with this share of a pattern.

        Note which it breaks, and return them as a mask, bool [samples].
        """
        if not samples.size:
            return np.zeros(0, dtype=bool)
        runtime, box = self.request.runtime, self.request.box
        scaled = box.clip(
            {name: np.float32(share) * deviation for name, deviation in pattern.items()}
        )
        output = runtime.outputs(
            box.weights(scaled), subset=samples, threads=self.request.run.workers
        )
        self.evaluations += 1
        decided = decided_in(runtime.task, output, samples)
        broken = np.asarray(decided != runtime.task.labels[samples], dtype=bool)
        for place in np.flatnonzero(broken & (share < self.share[samples])):
            sample = int(samples[place])
            self.share[sample], self.becomes[sample], self.by[sample] = (
                share,
                decided[place],
                origin,
            )
        return broken


def _run(request: DiagnosisRequest) -> Finding:
    runtime, box, run = request.runtime, request.box, request.run
    nominal = runtime.outputs(box.weights(box.zero()), threads=run.workers)
    correct = np.flatnonzero(runtime.task.right(nominal))
    count = len(runtime.task.labels)
    search = _Search(
        request,
        np.full(count, np.inf),
        np.full(count, -1, dtype=np.int64),
        [""] * count,
        evaluations=1,
    )
    rays = _rays(request, _RAYS[request.run.effort])
    request.run.progress.start(FRAGILE_INPUTS.title, 3)
    _follow(search, rays, correct)
    request.run.progress.advance()
    margin = _margins(request, nominal)
    broken = int(np.isfinite(search.share).sum())
    candidates = (
        _candidates(search, correct, margin)
        if request.context.has_gradient
        else np.empty(0, dtype=np.int64)
    )
    _own_chips(search, candidates)
    request.run.progress.advance()
    order = [
        sample
        for sample in np.argsort(search.share, kind="stable")
        if np.isfinite(search.share[sample])
    ][:MOST_FRAGILE]
    proven, reason = _certified(request, np.array(order, dtype=np.int64))
    rows = [
        _row(search, int(sample), margin, None if proven is None else float(proven[place]))
        for place, sample in enumerate(order)
    ]
    request.run.progress.advance()
    return Finding(
        FragileInputs(
            rows=rows,
            right=len(correct),
            broken=broken,
            patterns=list(rays),
            own_chips=len(candidates),
            bound_reason=reason or None,
        ),
        search.passes,
        search.evaluations,
        broken=np.isfinite(search.share),
    )


def _rays(request: DiagnosisRequest, most: int) -> dict[str, Pattern]:
    """Return patterns to follow: the worst one, those of single classes, then others."""
    known = known_patterns(request)
    order = sorted(known, key=lambda origin: (origin != WORST, not origin.startswith("class ")))
    return {origin: known[origin] for origin in order[:most]}


def _follow(
    search: _Search, rays: Mapping[str, Pattern], correct: Int64[np.ndarray, "correct"]
) -> None:
    """Follow rays from small shares to large ones until enough inputs are broken.

    Then look closer at those.
    """
    stop = len(_SHARES) - 1
    for position, share in enumerate(_SHARES):
        for origin, pattern in rays.items():
            search.try_share(origin, pattern, share, correct)
        if np.isfinite(search.share).sum() >= MOST_FRAGILE:
            stop = position
            break
    if stop < len(_SHARES) - 1:  # how many break in all, for the record
        for origin, pattern in rays.items():
            search.try_share(origin, pattern, 1.0, correct[~np.isfinite(search.share[correct])])
    early = np.flatnonzero(search.share <= _SHARES[stop])
    _closer(search, rays, early)


def _closer(
    search: _Search, rays: Mapping[str, Pattern], samples: Int64[np.ndarray, "some"]
) -> None:
    """Try shares between the smallest that breaks a sample and the one before it on the grid."""
    for share in np.unique(search.share[samples]):
        some = samples[search.share[samples] == share]
        for step in range(1, _FINER + 1):
            for origin, pattern in rays.items():
                search.try_share(
                    origin, pattern, float(share * 2.0 ** (-step / (2 * _FINER + 2))), some
                )


def _own_chips(search: _Search, candidates: Int64[np.ndarray, "candidates"]) -> None:
    """Make chips for every candidate alone, and find the smallest share of them that breaks it.

    The corner of the box that lowers its margin fastest, seen from no deviation, then seen from
    where that chip breaks it; one layer needs no second look.
    """
    context, box = search.request.context, search.request.box
    for sample in candidates.tolist():
        seen_from = box.zero()
        for _ in range(_LOOKS):
            corner = context.steepest(seen_from, sample)
            search.passes += 1
            share = _breaking_share(search, corner, np.array([sample]))
            if share is None:
                break
            seen_from = box.clip(
                {name: np.float32(share) * deviation for name, deviation in corner.items()}
            )


def _breaking_share(
    search: _Search, pattern: Pattern, sample: Int64[np.ndarray, "1"]
) -> float | None:
    """Return the smallest share of a pattern found to break a sample.

    None: not even the whole of it does.
    """

    def holds(share: float) -> bool:
        return not search.try_share(OWN_CHIP, pattern, share, sample)[0]

    return (
        None
        if holds(1.0)
        else bisect(holds, low=0.0, high=1.0, steps=_STEPS, resolution=_RESOLUTION)[1]
    )


def _candidates(
    search: _Search,
    correct: Int64[np.ndarray, "correct"],
    margin: Float64[np.ndarray, "samples"] | None,
) -> Int64[np.ndarray, "candidates"]:
    """Return the inputs that get a chip of their own.

    Those that break first, and those with the smallest margins.
    """
    first = [
        sample
        for sample in np.argsort(search.share, kind="stable")[:MOST_FRAGILE]
        if np.isfinite(search.share[sample])
    ]
    close = (
        []
        if margin is None
        else correct[np.argsort(margin[correct], kind="stable")[:MOST_FRAGILE]].tolist()
    )
    return np.array(list(dict.fromkeys([*map(int, first), *map(int, close)])), dtype=np.int64)


def _margins(
    request: DiagnosisRequest, output: Shaped[np.ndarray, "samples ..."]
) -> Float64[np.ndarray, "samples"] | None:
    """Return score of the label minus score of the runner-up, float64 [samples].

    None where the output is a decision.
    """
    task = request.runtime.task
    readout = task_readout(task, "")
    if readout is None or not np.issubdtype(output.dtype, np.floating):
        return None
    return np.asarray(
        margins(*counted_logits(task, readout, output, double=True)).numpy(), dtype=np.float64
    )


def _certified(
    request: DiagnosisRequest, samples: Int64[np.ndarray, "listed"]
) -> tuple[Float64[np.ndarray, "listed"] | None, str]:
    """Return the largest share of the box that is proven for samples, and why there is none."""
    if request.without_bounds:
        return None, request.without_bounds
    network = open_bounds(request.runtime, request.subject.placement)
    if isinstance(network, Refusal):
        return None, str(network)
    proven = largest_certified_tolerance(
        network,
        samples=samples,
        octaves=(-10, 0),
        effort=NARROWING[request.run.effort],
        branching=BRANCHING[request.run.effort],
        workers=request.run.workers,
        parts=request.context.parts.within("bounds"),
    )
    return proven, ""


def _row(
    search: _Search,
    sample: int,
    margin: Float64[np.ndarray, "samples"] | None,
    proven: float | None,
) -> FragileInput:
    share = float(search.share[sample])
    if proven is not None and proven > share * _ROUNDING:
        raise SelfCheckError(
            f"an input must not break inside the box it is certified for, got sample {sample}"
            f" certified to {proven:g} of the box and broken at {share:g}; report this"
        )
    tolerance = tolerance_fraction(search.request.subject.placement.profile)
    return FragileInput(
        sample=sample,
        label=int(search.request.runtime.task.labels[sample]),
        margin=None if margin is None or not np.isfinite(margin[sample]) else float(margin[sample]),
        breaks_at=share * tolerance,
        becomes=int(search.becomes[sample]),
        pattern=search.by[sample],
        certified_to=None if proven is None else proven * tolerance,
    )


def _applies(request: DiagnosisRequest) -> str:
    task = request.runtime.task
    if task.is_regression:
        return "a regression has no decisions that break"
    return (
        ""
        if task.labels.ndim == 1
        else "every sample has several decisions, so it does not break at one tolerance"
    )


FRAGILE_INPUTS = Diagnostic(NAME, "Fragile inputs", _run, applies=_applies, gives=FragileInputs)
