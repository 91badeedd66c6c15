"""Which samples are proven at a tolerance, with the effort that may be spent on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Int64

from cimrobust.certify.bounds import certify
from cimrobust.certify.branch import BranchSettings
from cimrobust.finished_parts import NOTHING_KEPT, FinishedParts

if TYPE_CHECKING:
    from cimrobust.certify.bound_batch import Method
    from cimrobust.certify.bounded_network import BoundedNetwork
    from cimrobust.cluster.executor import Executor

#: Multiplications that narrowing one layer may cost a sample.
NARROWING = {"quick": 3e8, "standard": 1e9, "thorough": 3e10}
#: How far chips are split.
BRANCHING = {
    "quick": BranchSettings(most_parts=16, passes=0),
    "standard": BranchSettings(most_parts=64, passes=4),
    "thorough": BranchSettings(most_parts=256, passes=8),
}
#: Samples that linear bounds are tried on at most; others count as not certified.
MOST_SAMPLES = {"quick": 500, "standard": 2000, "thorough": 10**9}
#: Samples that tell whether linear bounds have any hope.
_FIRST = 16


def proven(
    network: BoundedNetwork,
    samples: Int64[np.ndarray, "some"],
    *,
    effort: str,
    workers: int,
    executor: Executor | None = None,
    parts: FinishedParts = NOTHING_KEPT,
) -> Bool[np.ndarray, "some"]:
    """Return which samples no chip of the box can break, bool [number of samples of the network].

    Where linear bounds prove none of the first ones, intervals alone are tried on the others.

    Args:
        network: From `open_bounds`, at the tolerance.
        samples: Indices of the samples to try.
        effort: ``quick``, ``standard`` or ``thorough``.
        workers: Threads; the result does not depend on it.
        executor: Where samples are bounded; None: in these threads.
        parts: Where finished samples are kept and taken from.
    """
    held = np.zeros(network.num_decisions, dtype=bool)
    hopeful = True
    for part in (samples[:_FIRST], samples[_FIRST:]):
        if part.size:
            method: Method = "linear" if hopeful else "interval"
            bounds = certify(
                network,
                method=method,
                samples=part,
                effort=NARROWING[effort],
                branching=BRANCHING[effort],
                workers=workers,
                executor=executor,
                parts=parts,
            )
            held[part] = bounds.certified
            hopeful = bool(bounds.certified.any())
    return held
