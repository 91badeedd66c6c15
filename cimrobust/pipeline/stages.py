"""The stages of an analysis.

Each takes the opened run and what stages before it found, and returns what it found itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cimrobust.attack.diagnosis_protocol import Diagnosis
from cimrobust.certificate.certificate_files import WITNESS
from cimrobust.certificate.policy import stop_rule
from cimrobust.certify.bound_summary import Certification, certify_run
from cimrobust.diagnose.run_diagnostics import diagnose
from cimrobust.diagnose.safety_class import check_safety_class
from cimrobust.engine.kernel import program_chip
from cimrobust.engine.open import Runtime
from cimrobust.errors import SelfCheckError
from cimrobust.mapping.box import Pattern, box_of
from cimrobust.mapping.placement import Placement
from cimrobust.montecarlo.effect_costs import add_effects
from cimrobust.montecarlo.failing import RareFailures, rare_failures
from cimrobust.montecarlo.montecarlo_records import Effect
from cimrobust.montecarlo.trial_table import TrialTable
from cimrobust.montecarlo.trials import run_trials
from cimrobust.pipeline.analysis_settings import Request, Settings
from cimrobust.pipeline.arguments import resume_folder
from cimrobust.pipeline.diagnosing import check_unbroken, diagnose_settings
from cimrobust.pipeline.inspection import Inspection
from cimrobust.pipeline.rare_chips import splitting
from cimrobust.progress import Progress
from cimrobust.reliability.likely_chip import LikelySearch
from cimrobust.reliability.most_probable import most_probable
from cimrobust.search.carried_witness import transferred_pattern
from cimrobust.search.ensemble import search
from cimrobust.search.search_results import SearchResult

#: Chips for every row of the table of effects.
EFFECT_CHIPS = {"quick": 20, "standard": 50, "thorough": 200}
CHECKPOINTS = ".resume"


@dataclass(frozen=True)
class Run:
    """An opened run: what every stage is given.

    Attributes:
        settings: How it is to be done.
        inspection: The network and where its weights are stored.
        runtime: The deployed network and its data.
        progress: Told how far the work is.
    """

    settings: Settings
    inspection: Inspection
    runtime: Runtime
    progress: Progress

    @property
    def request(self) -> Request:
        """What was asked for."""
        return self.settings.request

    @property
    def placement(self) -> Placement:
        """Where the weights are stored."""
        return self.inspection.placement


def open_run(settings: Settings, progress: Progress) -> Run:
    """Load and check model, devices and data.

    Raises:
        CimrobustError: Something is wrong with one of them.
    """
    progress.start("Loading and checking", 2)
    item = settings.request.item
    inspection = item.inspect()
    progress.advance()
    runtime = item.open(inspection, workers=settings.workers)
    if settings.safety_class is not None:
        check_safety_class(runtime.task, settings.safety_class)
    progress.finish()
    return Run(settings, inspection, runtime, progress)


def draw_chips(run: Run) -> TrialTable:
    """Draw chips and score them."""
    settings, runtime = run.settings, run.runtime
    checkpoint = resume_folder(run.request.out, CHECKPOINTS, resume=run.request.resume) / "trials"
    stop = None
    if run.request.stop_early and settings.policy is not None:
        stop = stop_rule(settings.policy, higher_is_better=runtime.task.higher_is_better)
    return run_trials(
        runtime,
        run.placement,
        num_trials=settings.num_trials,
        seed=run.request.seed,
        workers=settings.workers,
        checkpoint=checkpoint,
        stop=stop,
        progress=run.progress,
    )


def estimate_rare(run: Run, below: float) -> RareFailures:
    """Estimate how likely a chip is that misses a score."""
    return rare_failures(
        run.runtime,
        run.placement,
        below=below,
        settings=splitting(run.request.rare_budget),
        seed=run.request.seed,
        workers=run.settings.workers,
        progress=run.progress,
    )


def search_box(run: Run, trials: TrialTable) -> SearchResult:
    """Search the tolerance box.

    The worst chip drawn and a witness to be transferred are known from the start.
    """
    known = {
        "worst_drawn_chip": _drawn_pattern(
            run.placement, seed=run.request.seed, trial=trials.worst_trial
        )
    }
    if run.request.transfer is not None:
        known["transferred_witness"] = transferred_pattern(
            Path(run.request.transfer) / WITNESS, run.placement
        )
    return search(
        run.runtime,
        run.placement,
        effort=run.request.effort,
        seed=run.request.seed,
        workers=run.settings.workers,
        progress=run.progress,
        known=known,
        device_type=run.request.device_type,
    )


def explain(run: Run, found: SearchResult) -> Diagnosis:
    """Run the diagnostics that were chosen.

    What they find that is worse takes the place of what the search found.
    """
    asked = diagnose_settings(run.settings, run.progress)
    return diagnose(
        run.runtime, run.inspection.scan, run.placement, found, run.settings.diagnostics, asked
    )


def search_most_probable(run: Run, found: SearchResult, below: float) -> LikelySearch:
    """Search for the most probable chip that misses a score."""
    return most_probable(
        run.runtime,
        run.placement,
        below=below,
        effort=run.request.effort,
        seed=run.request.seed,
        workers=run.settings.workers,
        known={"worst chip found": found.deviations},
        device_type=run.request.device_type,
        progress=run.progress,
    )


def certify(run: Run, trials: TrialTable, diagnosis: Diagnosis) -> Certification:
    """Certify samples for all chips of the box.

    Raises:
        SelfCheckError: A chip that was drawn or found contradicts what is certified.
    """
    found = diagnosis.found
    worst = run.runtime.outputs(
        box_of(run.placement).weights(found.deviations), threads=run.settings.workers
    )
    certification = certify_run(
        run.runtime,
        run.placement,
        effort=run.request.effort,
        worst_output=worst,
        workers=run.settings.workers,
        progress=run.progress,
    )
    _check_certified(certification, trials, found)
    check_unbroken(certification, diagnosis)
    return certification


def tabulate_effects(run: Run) -> tuple[Effect, ...]:
    """Score chips with every effect added in turn."""
    return add_effects(
        run.runtime,
        run.inspection.scan,
        run.placement,
        num_chips=min(EFFECT_CHIPS[run.request.effort], run.settings.num_trials),
        seed=run.request.seed,
        workers=run.settings.workers,
        progress=run.progress,
    )


def _drawn_pattern(placement: Placement, *, seed: int, trial: int) -> Pattern:
    """Return the deviations of a drawn chip."""
    chip = program_chip(placement, seed=seed, trial=trial)
    return {name: chip[name] - tensor.nominal for name, tensor in placement.tensors.items()}


def _check_certified(certification: Certification, table: TrialTable, found: SearchResult) -> None:
    """Raise SelfCheckError if a chip of the box scores worse than what is certified for all of them."""
    if certification.score is None:
        return
    pick = min if table.higher_is_better else max
    worst = pick(table.worst_value, found.score.value)
    if pick(worst, certification.score.value) != certification.score.value:
        raise SelfCheckError(
            f"no chip of the box may score worse than the certified {certification.score.value},"
            f" got {worst}; report this"
        )
