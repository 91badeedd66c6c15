"""An analysis that is open: what every stage is given."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from cimrobust.data.class_samples import check_safety_class
from cimrobust.engine.subject import Subject
from cimrobust.finished_parts import NOTHING_KEPT, FinishedParts
from cimrobust.montecarlo.worker_opening import recipe_of
from cimrobust.pipeline.inspection import Inspection
from cimrobust.pipeline.opened_subject import inspect_subject, open_subject
from cimrobust.pipeline.resolved_analysis import ResolvedAnalysis
from cimrobust.pipeline.resuming import open_parts
from cimrobust.pipeline.working_place import ForWorkers, executor_of

if TYPE_CHECKING:
    from cimrobust.cluster.executor import Executor
    from cimrobust.engine.open import Runtime
    from cimrobust.mapping.placement import Placement
    from cimrobust.run import Run


@dataclass(frozen=True)
class OpenedAnalysis:
    """An opened analysis: what every stage is given.

    Attributes:
        asked: What was asked for.
        inspection: The network and where its weights are stored.
        subject: The deployed network with its data, and its placement.
        parts: Where finished parts are kept and taken from.
        for_workers: How workers of a cluster open it; None: from the files that the user named.
    """

    asked: ResolvedAnalysis
    inspection: Inspection
    subject: Subject
    parts: FinishedParts = NOTHING_KEPT
    for_workers: ForWorkers | None = None

    @property
    def run(self) -> Run:
        """How to compute."""
        return self.asked.run

    @property
    def runtime(self) -> Runtime:
        """The deployed network and its data."""
        return self.subject.runtime

    @property
    def placement(self) -> Placement:
        """Where the weights are stored."""
        return self.subject.placement

    def executor(self) -> AbstractContextManager[Executor | None]:
        """Return where the chips and samples of one stage are worked on.

        Workers begin with the first item and end with the stage: until the next one they would
        hold memory that searches need.
        """
        opened_by = self.for_workers or partial(recipe_of, self.asked.subject)
        return executor_of(self.asked.cluster, opened_by, self.subject, self.run)


def open_analysis(asked: ResolvedAnalysis) -> OpenedAnalysis:
    """Load and check model, devices and data; nothing is written.

    Raises:
        CimrobustError: Something is wrong with one of them.
    """
    progress = asked.run.progress
    progress.start("Loading and checking", 2)
    inspection = inspect_subject(asked.subject)
    progress.advance()
    runtime = open_subject(asked.subject, inspection, workers=asked.run.workers)
    if asked.safety_class is not None:
        check_safety_class(runtime.task, asked.safety_class)
    progress.advance()
    progress.finish()
    return OpenedAnalysis(asked, inspection, Subject(runtime, inspection.placement))


def keeping_parts(opened: OpenedAnalysis) -> OpenedAnalysis:
    """Return an opened analysis that keeps its parts, and has what an interrupted one finished.

    Raises:
        UsageError: Their folder cannot be made.
    """
    asked = opened.asked
    parts = open_parts(opened.subject, asked.run, out=asked.out, resume=asked.settings.resume)
    return replace(opened, parts=parts)
