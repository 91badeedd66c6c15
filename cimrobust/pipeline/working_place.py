"""Where the chips and samples of a run are worked on."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, TypeAlias

from cimrobust.cluster.worker import Recipe, Site
from cimrobust.engine.subject import Subject
from cimrobust.montecarlo.trial_identity import TrialIdentity, identity_of
from cimrobust.run import Run

if TYPE_CHECKING:
    from cimrobust.cluster.address import Address
    from cimrobust.cluster.executor import Executor

#: Says how a worker opens a subject: of the subject, how to compute, and what its trials depend on.
ForWorkers: TypeAlias = Callable[[Subject, Run, TrialIdentity], Recipe]


def executor_of(
    cluster: Address | None, for_workers: ForWorkers, subject: Subject, run: Run
) -> AbstractContextManager[Executor | None]:
    """Return where items are worked on; nothing for the threads of this process.

    Args:
        cluster: What was asked for.
        for_workers: How a worker opens what is examined.
        subject: The opened network, with its placement.
        run: How to compute.
    """
    if cluster is None:
        return nullcontext()
    identity = identity_of(subject.runtime, subject.placement, run.seed)
    return cluster.open(Site.of(for_workers(subject, run, identity), identity.digest))
