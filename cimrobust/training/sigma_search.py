"""The authors' search for the scale of the noise, while the network is trained.

Three copies of the network are trained for one epoch each, at a quarter, the middle and three
quarters of an interval of scales, and compared by a low quantile of their scores on drawn chips.
The half of the interval around the best is kept, and all copies take over its weights; once the
interval is narrow, one copy goes on. Re-implemented from a description of the authors' code
(TRICE, see `methods.trice`); chips are drawn from the device profile, on the validation split.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from cimrobust.training.state import Copies, State
from cimrobust.training.training_job import Job, deployed, make_step
from cimrobust.training.validation import is_better, score_logits
from cimrobust.training.weight_update import make_optimiser

if TYPE_CHECKING:
    from cimrobust.training.parameters import Parameters

#: Mean loss and last learning rate of an epoch.
Result = tuple[float, float]
Epoch = Callable[[Job, State, int], Result]


def start_copies(job: Job, state: State) -> Copies | None:
    """Return three equal copies; None where the scale is given."""
    search = job.method.search
    if search is None:
        return None
    states = [replace(state, memory={}, rows=[])]
    for _ in range(2):
        own = state.parameters.copy()
        for tensor in own.leaves():
            tensor.requires_grad_()
        states.append(
            replace(
                state,
                parameters=own,
                averaged=own,
                optimiser=make_optimiser(job, own),
                memory={},
                rows=[],
            )
        )
    return Copies(search.low, search.high, 0.5 * (search.low + search.high), states)


def search_epoch(job: Job, state: State, copies: Copies, epoch: int, train: Epoch) -> Result:
    """Train every copy for one epoch, keep the best, and narrow the interval.

    Args:
        job: The job, of a method with a search.
        state: The training; its parameters and what is deployed become those of the best copy.
        copies: The copies; changed.
        epoch: Number of the epoch.
        train: Trains one copy.

    Returns:
        Mean loss of the best copy and the last learning rate.
    """
    search = job.method.search
    assert search is not None
    scales, scores, results = copies.scales(), [], []
    methods = [search.at(scale) for scale in scales]
    for method, copy in zip(methods, copies.states, strict=False):
        copy.skipped = state.skipped
        results.append(train(replace(job, method=method), copy, epoch))
        state.skipped = copy.skipped
        scores.append(_quantile(job, copy.parameters, method.deployed_mean))
    best = _best(job, scores)
    for copy in copies.states:
        copy.parameters.load(copies.states[best].parameters)
    copies.sigma, state.mean = scales[best], methods[best].deployed_mean
    if not copies.is_narrow:
        copies.narrow(best)
    return results[best]


def _best(job: Job, scores: list[float]) -> int:
    """Return which copy is best; of equal ones the middle, which says nothing about the scale."""
    order = [1, 0, 2] if len(scores) > 1 else [0]
    best = order[0]
    for index in order[1:]:
        if is_better(job.objective, scores[index], scores[best]):
            best = index
    return best


@torch.no_grad()
def _quantile(job: Job, parameters: Parameters, mean: float) -> float:
    """Return the low quantile of the scores of drawn chips, of an error the high one."""
    search = job.method.search
    assert search is not None
    shown = deployed(job, parameters, mean)
    step = make_step(
        job, shown, job.validation, progress=0.0, generator=torch.Generator(), memory={}
    ).fixed()
    chips = job.source.deviations(
        job.network.stored(shown), job.network.trainable.devices, step.chips, range(search.runs)
    )
    drawn = [score_logits(job.objective, step.logits(chip), step.samples.targets) for chip in chips]
    is_error = job.objective.kind == "value"
    return float(np.quantile(drawn, 1.0 - search.quantile if is_error else search.quantile))
