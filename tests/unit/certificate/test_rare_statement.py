"""What is said of a failure that splitting did not reach."""

from __future__ import annotations

import numpy as np

from cimrobust.certificate.blocks.rare_block import rare_event
from cimrobust.engine.subject import Subject
from cimrobust.montecarlo.failing import rare_failures
from cimrobust.montecarlo.splitting import Splitting
from cimrobust.run import Run
from tests.unit.search.conftest import MLP, Opener, mlp_weights, opened, samples  # noqa: F401


def test_nothing_is_called_rarer_than_certain(opened: Opener) -> None:  # noqa: F811
    # A last layer of zeros has no box: every chip scores the same, and no level can be reached.
    weights = mlp_weights() | {"w2": np.zeros((12, 4), np.float32)}
    runtime, placement = opened(MLP, weights, {"x": samples(20, 6)}, np.arange(20) % 4)
    rare = rare_failures(
        Subject(runtime, placement),
        Run(),
        below=0.2,
        settings=Splitting(particles=20, budget=200),
    )
    statement = rare_event(rare, higher_is_better=True).statement
    assert statement.startswith(
        "How likely a chip below 0.2 is, is not known: not reached with 40 chips"
    )
