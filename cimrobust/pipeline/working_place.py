"""Where the chips and samples of a run are worked on."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from cimrobust.cluster.address import Address
from cimrobust.cluster.executor import Executor
from cimrobust.cluster.worker import Site
from cimrobust.engine.subject import Subject
from cimrobust.montecarlo.trial_identity import identity_of
from cimrobust.montecarlo.worker_opening import recipe_of
from cimrobust.run import Run
from cimrobust.settings.subject_settings import SubjectSettings


def executor_of(
    cluster: Address | None, named: SubjectSettings, subject: Subject, run: Run
) -> AbstractContextManager[Executor | None]:
    """Return where items are worked on; nothing for the threads of this process.

    Args:
        cluster: What was asked for.
        named: What is examined, as the user named it.
        subject: The opened network, with its placement.
        run: How to compute.
    """
    if cluster is None:
        return nullcontext()
    identity = identity_of(subject.runtime, subject.placement, run.seed)
    recipe = recipe_of(named, subject, run, identity)
    return cluster.open(Site.of(recipe, identity.digest))
