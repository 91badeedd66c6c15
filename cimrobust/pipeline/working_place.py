"""Where the chips of an analysis are scored."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from cimrobust.cluster.executor import Executor
from cimrobust.cluster.worker import Site
from cimrobust.engine.subject import Subject
from cimrobust.montecarlo.trial_identity import identity_of
from cimrobust.montecarlo.worker_opening import recipe_of
from cimrobust.pipeline.resolved_analysis import ResolvedAnalysis
from cimrobust.run import Run


def executor_of(
    asked: ResolvedAnalysis, subject: Subject, run: Run
) -> AbstractContextManager[Executor | None]:
    """Return where chips are scored; nothing for the threads of this process.

    Args:
        asked: What was asked for.
        subject: The opened network, with its placement.
        run: How to compute.
    """
    if asked.cluster is None:
        return nullcontext()
    identity = identity_of(subject.runtime, subject.placement, run.seed)
    recipe = recipe_of(asked.subject, subject, run, identity)
    return asked.cluster.open(Site.of(recipe, identity.digest))
