"""Which samples patterns are made on: a part of the evaluation set that has all classes and fits the budget. All samples are scored."""

from __future__ import annotations

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from cimrobust.engine.open import Runtime
from cimrobust.graph.to_torch import Twin
from cimrobust.search.box import tensor_of
from cimrobust.search.budget import Budget
from cimrobust.seeds import stream

# Fewer samples say too little about a data set, whatever they cost.
_FEWEST = 100
# A backward run costs about two forward runs.
_RUNS_PER_PASS = 3


def crafting_subset(labels: np.ndarray, *, count: int, seed: int, is_regression: bool) -> np.ndarray:
    """Return sorted indices of at most `count` samples.

    With one label a sample, classes are taken in turn, so that each has its share as far as it has samples; otherwise samples are drawn.

    Args:
        labels: Labels or targets, samples first.
        count: Most samples.
        seed: Seed of the run.
        is_regression: Labels are targets.
    """
    num_samples = labels.shape[0]
    if num_samples <= count:
        return np.arange(num_samples)
    order = stream(seed, "search", "crafting").permutation(num_samples)
    if is_regression or labels.ndim > 1:
        return np.sort(order[:count])
    shuffled = labels[order]
    turn = np.empty(num_samples, dtype=np.int64)
    for label in np.unique(labels):
        where = np.flatnonzero(shuffled == label)
        turn[where] = np.arange(len(where))
    return np.sort(order[np.argsort(turn, kind="stable")[:count]])


def affordable_samples(budget: Budget, twin: Twin, runtime: Runtime) -> int:
    """Return how many crafting samples the arithmetic of the network leaves room for, a function of network and budget alone."""
    operations = _operations_per_sample(twin, runtime)
    if operations == 0:
        return budget.max_samples
    affordable = int(budget.max_operations / (_RUNS_PER_PASS * budget.num_passes * operations))
    return min(max(affordable, _FEWEST), budget.max_samples)


def _operations_per_sample(twin: Twin, runtime: Runtime) -> float:
    """Return the floating-point operations of one sample's forward run, matrix products and convolutions only."""
    feeding, dataset = runtime.engine.feeding, runtime.dataset
    count = feeding.size if feeding.mode == "fixed" else 1
    taken = np.arange(count) % dataset.num_samples
    feed = {name: tensor_of(array[0] if feeding.mode == "none" else array[taken]) for name, array in dataset.inputs.items()}
    constants = {name: tensor_of(array) for name, array in dataset.constants.items()}
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        twin({**feed, **constants}, twin.weights, [runtime.engine.output])
    return float(counter.get_total_flops()) / count
