"""Samples that a chip breaks are not bounded, and nothing that is proven changes by it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from cimrobust.certify.bound_batch import Batch, Effort, bound_batch
from cimrobust.certify.bounded_network import BoundedNetwork, open_bounds
from cimrobust.certify.branch import BranchSettings
from cimrobust.certify.breaking_chip import broken_samples
from tests.unit.certify.conftest import NETWORKS, Maker
from tests.unit.certify.test_top_k import opened

EFFORT = Effort("linear", 1e9, BranchSettings(most_parts=8, passes=0))


def network_of(make: Maker, name: str) -> BoundedNetwork:
    network = open_bounds(*make(name, seed=3))
    assert isinstance(network, BoundedNetwork), network
    return network


def batch_of(network: BoundedNetwork, scale: float) -> Batch:
    samples, inputs = next(network.batches(np.arange(min(16, network.num_decisions))))
    return Batch.of(network, scale, network.weights(scale), samples, inputs)


def broken(network: BoundedNetwork, batch: Batch) -> np.ndarray:
    assert network.twin is not None
    labels = torch.from_numpy(np.ascontiguousarray(network.task.labels[batch.samples]))
    return broken_samples(
        network.twin,
        network.reading,
        batch.inputs,
        network.constants,
        batch.weights,
        labels,
        torch.zeros_like(labels),
        batch.rows,
    ).numpy()


def without_chips(network: BoundedNetwork) -> BoundedNetwork:
    return BoundedNetwork(**{**vars(network), "twin": None})


@pytest.mark.parametrize("name", NETWORKS)
def test_what_a_chip_breaks_no_bound_certifies(make: Maker, name: str) -> None:
    network = network_of(make, name)
    counts = []
    for scale in (0.0, 1.0, 8.0):
        batch = batch_of(network, scale)
        certified, _margin = bound_batch(without_chips(network), EFFORT, batch)
        found = broken(network, batch)
        assert not (found & certified).any()
        counts.append(int(found.sum()))
    assert counts[0] <= counts[1] <= counts[2]
    assert counts[2] > counts[0]


@pytest.mark.parametrize("name", ["mlp", "cnn", "residual", "transformer"])
def test_the_same_samples_are_certified_as_by_bounds_alone(make: Maker, name: str) -> None:
    network = network_of(make, name)
    counts = []
    for scale in (0.1, 0.5, 1.0, 2.0, 4.0):
        batch = batch_of(network, scale)
        alone, _margin = bound_batch(without_chips(network), EFFORT, batch)
        certified, margin = bound_batch(network, EFFORT, batch)
        assert (certified == alone).all()
        assert (margin[certified] > 0).any() or not certified.any()
        counts.append(int(certified.sum()))
    assert max(counts) > min(counts)


def test_of_the_best_few_one_ahead_breaks_nothing(tmp_path: Path) -> None:
    # The second best label is behind the best one on every chip near the nominal one.
    counts = []
    for k in (1, 2):
        _runtime, network = opened(tmp_path, k, 0.004)
        batch = batch_of(network, 1.0)
        counts.append(int(broken(network, batch).sum()))
    assert counts[0] == 16
    assert counts[1] < 8
