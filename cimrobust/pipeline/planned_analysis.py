"""What an analysis will take before it is run, and an analysis that fits into a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from cimrobust.available_memory import available_memory, held_memory
from cimrobust.montecarlo.montecarlo_records import EFFECT_CHIPS
from cimrobust.montecarlo.splitting import splitting
from cimrobust.pipeline.in_memory import takes_objects
from cimrobust.pipeline.limits import keeps_limits
from cimrobust.pipeline.opened_analysis import OpenedAnalysis, open_analysis
from cimrobust.pipeline.resolved_analysis import ResolvedAnalysis, resolve
from cimrobust.planning.fitted_work import Amounts, fitted
from cimrobust.planning.measured_speed import Speed, measure, measure_chip
from cimrobust.planning.planning_records import PlannedRun
from cimrobust.planning.stage_costs import expected_passes, planned_stages
from cimrobust.planning.time_span import seconds_of
from cimrobust.planning.workload import Workload, num_effects
from cimrobust.search.search_budget import RUNS_PER_PASS, budget_for, least_passes
from cimrobust.settings.analysis_settings import AnalysisSettings
from cimrobust.settings.commands import PLAN
from cimrobust.settings.documented import takes_settings
from cimrobust.settings.gathered import gather
from cimrobust.settings.subject_settings import SubjectSettings

if TYPE_CHECKING:
    from cimrobust.run import Run
    from cimrobust.settings.python_inputs import DataLike, ModelLike
    from cimrobust.settings.typed_options import PlanOptions

# Seconds from which a run is worth a plan at its head, and from which it is looked at closer.
_LONG, _SUSPECT = 60.0, 30.0


@dataclass(frozen=True)
class Told:
    """Who is told of a plan, and when.

    Attributes:
        show: Takes the plan.
        always: Of short runs too; False: only where a run is long or has a time.
    """

    show: Callable[[PlannedRun], None]
    always: bool = False


@takes_settings(PLAN)
@takes_objects
@keeps_limits(PLAN)
def plan(
    model: ModelLike,
    *,
    data: DataLike,
    example_input: Any = None,
    settings: AnalysisSettings | PlanOptions | None = None,
    run: Run | None = None,
    **options: Unpack[PlanOptions],
) -> PlannedRun:
    """Tell what an analysis with the same settings would take: time and memory, stage by stage.

    The network is opened, and its speed on this machine measured for about a second; nothing is
    written. An estimate, good to a factor of about two.

    Args:
        model: As for `analyze`.
        data: As for `analyze`.
        example_input: As for `analyze`.

    Raises:
        CimrobustError: As for `analyze`; also where a time is too short.
    """
    given = gather(PLAN, settings, run, options)
    asked = resolve(
        given.part(SubjectSettings, model=model, data=data),
        given.part(AnalysisSettings),
        given.run(),
        out=Path(),
    )
    begin = time.perf_counter()
    opened = open_analysis(asked)
    measured = measured_analysis(opened, loading=time.perf_counter() - begin)
    return measured.plan(asked if asked.settings.time is None else measured.fitted())


def planned(opened: OpenedAnalysis, *, loading: float, told: Told | None) -> OpenedAnalysis:
    """Return an opened analysis that fits into its time, if it has one, and show what it takes.

    Args:
        opened: The analysis as it was asked for.
        loading: Seconds that opening it took.
        told: Who is told of the plan; None: nobody is.

    Raises:
        UsageError: The time is too short for the least meaningful run.
    """
    asked = opened.asked
    wanted = asked.settings.time is not None or (told is not None and told.always)
    if not wanted and (told is None or not _may_be_long(opened)):
        return opened
    measured = measured_analysis(opened, loading=loading)
    fitting = asked if asked.settings.time is None else measured.fitted()
    if told is not None:
        found = measured.plan(fitting)
        if wanted or found.expected_seconds > _LONG:
            told.show(found)
    if fitting == asked:
        return opened
    return open_analysis(fitting)


@dataclass(frozen=True)
class MeasuredAnalysis:
    """An opened analysis, and how fast this machine is at it.

    Attributes:
        opened: The analysis.
        speed: How fast this machine is at its network.
        loading: Seconds that opening it took.
        held_bytes: Memory of the process then.
    """

    opened: OpenedAnalysis
    speed: Speed
    loading: float
    held_bytes: int

    def plan(self, asked: ResolvedAnalysis) -> PlannedRun:
        """Return what an analysis of the same network takes."""
        work = self._work(asked)
        stages = planned_stages(work, self.speed, loading=self.loading, held_bytes=self.held_bytes)
        return PlannedRun(
            model=Path(asked.subject.model).name,
            effort=work.effort,
            workers=work.workers,
            samples=work.samples,
            attack_samples=work.attack_samples,
            passes=0 if self.speed.search.reason else work.budget.num_passes,
            expected_passes=expected_passes(work, self.speed),
            trials=work.trials,
            operations_per_sample=self.speed.search.operations,
            stages=stages,
            expected_seconds=sum(stage.seconds for stage in stages),
            most_seconds=sum(stage.most_seconds for stage in stages),
            memory_bytes=max(stage.memory_bytes or 0 for stage in stages),
            free_bytes=available_memory(),
            options=_options(asked, work),
        )

    def fitted(self) -> ResolvedAnalysis:
        """Return the most of the analysis that fits into its time.

        Raises:
            UsageError: Not even the least does.
        """
        asked = self.opened.asked
        settings, run = asked.settings, asked.run
        given = {
            "trials": settings.trials,
            "samples": asked.subject.limit,
            "attack_samples": run.attack_samples,
            "passes": run.passes,
            "diagnostics": settings.diagnostics,
        }
        amounts = fitted(
            self._whole,
            least_passes,
            self._seconds,
            effort=run.effort,
            time=seconds_of(str(settings.time)),
            given=frozenset(name for name, value in given.items() if value is not None),
        )
        return self._with(amounts)

    def _seconds(self, amounts: Amounts) -> float:
        """Return what amounts are expected to take; other samples are opened once more."""
        is_opened = amounts.samples == self.opened.runtime.dataset.num_samples
        again = 0.0 if is_opened else self.loading
        return again + self.plan(self._with(amounts)).expected_seconds

    def _whole(self, effort: str) -> Amounts:
        """Return what an effort does if nothing is shortened."""
        asked = self.opened.asked
        whole = resolve(asked.subject, asked.settings, asked.run.at_effort(effort), out=asked.out)
        work = self._work(whole)
        return Amounts(
            effort=effort,
            trials=work.trials,
            samples=work.samples,
            attack_samples=work.attack_samples,
            passes=work.budget.num_passes,
            diagnostics=",".join(work.diagnostics) or "none",
        )

    def _with(self, amounts: Amounts) -> ResolvedAnalysis:
        """Return the analysis with other amounts.

        What is that of the effort stays unstated: it is a function of the network, and only a
        search that is shorter than its effort says so.
        """
        asked, whole = self.opened.asked, self._whole(amounts.effort)
        is_limited = amounts.samples != whole.samples
        automatic = min(whole.attack_samples, amounts.samples)
        own, run = amounts.diagnostics == whole.diagnostics, asked.run.at_effort(amounts.effort)
        return resolve(
            replace(asked.subject, limit=amounts.samples if is_limited else asked.subject.limit),
            replace(
                asked.settings,
                trials=amounts.trials,
                diagnostics=asked.settings.diagnostics if own else amounts.diagnostics,
                time=None,
            ),
            replace(
                run,
                passes=run.passes if amounts.passes == whole.passes else amounts.passes,
                attack_samples=(
                    run.attack_samples
                    if amounts.attack_samples == automatic
                    else amounts.attack_samples
                ),
            ),
            out=asked.out,
        )

    def _work(self, asked: ResolvedAnalysis) -> Workload:
        runtime, placement = self.opened.runtime, self.opened.placement
        budget, task = budget_for(asked.run), runtime.task
        samples = min(asked.subject.limit or 2**62, runtime.dataset.num_samples)
        affordable = budget.affordable(self.speed.search.operations)
        rare = asked.settings.rare_below is not None
        return Workload(
            effort=asked.run.effort,
            budget=budget,
            workers=asked.run.workers,
            samples=samples,
            attack_samples=min(affordable, samples),
            trials=asked.num_trials,
            effect_chips=min(EFFECT_CHIPS[asked.run.effort], asked.num_trials),
            diagnostics=asked.diagnostics,
            layers=len(placement.tensors),
            weights=sum(tensor.num_weights for tensor in placement.tensors.values()),
            effects=num_effects(self.opened.subject),
            classes=0 if task.is_regression else len(np.unique(task.labels)),
            rare_chips=2 * splitting(asked.settings.rare_budget).budget if rare else 0,
            skipped=tuple(asked.settings.skip),
        )


def measured_analysis(opened: OpenedAnalysis, *, loading: float) -> MeasuredAnalysis:
    """Measure how fast this machine is at an opened analysis.

    Args:
        opened: The analysis.
        loading: Seconds that opening it took.
    """
    held = held_memory()
    return MeasuredAnalysis(opened, measure(opened.subject, opened.run), loading, held)


def _may_be_long(opened: OpenedAnalysis) -> bool:
    """Tell from one chip alone whether a run may be worth a plan."""
    asked, count = opened.asked, opened.runtime.dataset.num_samples
    chip, budget = measure_chip(opened.subject, opened.run), budget_for(asked.run)
    search = budget.num_passes * RUNS_PER_PASS * min(budget.max_samples, count) * chip.sample
    diagnostics = search if asked.diagnostics else 0.0
    drawn = asked.num_trials * chip.seconds(count)
    return (drawn + search + diagnostics) / asked.run.workers > _SUSPECT


def _options(asked: ResolvedAnalysis, work: Workload) -> tuple[str, ...]:
    """Return the options that reproduce a run: nothing is left to the machine."""
    run, settings = asked.run, asked.settings
    found: dict[str, object] = {
        "limit": asked.subject.limit,
        "effort": run.effort,
        "trials": work.trials,
        "passes": run.passes,
        "attack-samples": run.attack_samples,
        "diagnostics": settings.diagnostics,
    }
    return tuple(f"--{name} {value}" for name, value in found.items() if value is not None)
