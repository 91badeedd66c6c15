"""The stages of an analysis, and their order.

Each takes the opened run and what stages before it found, and returns what it found itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cimrobust.certificate.blocks.drawn_chips import percentages
from cimrobust.certificate.policy import stop_rule
from cimrobust.certificate.result_names import WITNESS
from cimrobust.certify.counted_decisions import CountedDecisions
from cimrobust.diagnose.run_diagnostics import diagnose
from cimrobust.engine.kernel import program_chip
from cimrobust.errors import SelfCheckError
from cimrobust.montecarlo.failing import RareFailures, rare_failures
from cimrobust.montecarlo.splitting import splitting
from cimrobust.montecarlo.trial_identity import identity_of
from cimrobust.montecarlo.trials import run_trials
from cimrobust.pipeline.derived_stages import bound, tabulate_effects
from cimrobust.pipeline.in_memory import given_folder
from cimrobust.pipeline.writing import Findings
from cimrobust.reliability.most_probable import most_probable
from cimrobust.search.ensemble import search_opened
from cimrobust.search.given_patterns import transferred_pattern
from cimrobust.search.gradients import TwinStatus, open_gradients
from cimrobust.twin_trials.confirmed_trials import run_trials_on_device

if TYPE_CHECKING:
    from cimrobust.attack.diagnosis_protocol import Diagnosis
    from cimrobust.certificate.policy import Policy
    from cimrobust.certify.bound_summary import Certification
    from cimrobust.data.task import Task
    from cimrobust.mapping.box import Pattern
    from cimrobust.mapping.placement import Placement
    from cimrobust.montecarlo.trial_table import TrialTable
    from cimrobust.pipeline.clock import Clock
    from cimrobust.pipeline.opened_analysis import OpenedAnalysis
    from cimrobust.reliability.likely_chip import LikelySearch
    from cimrobust.search.search_results import SearchResult


def run_stages(opened: OpenedAnalysis, clock: Clock) -> Findings:
    """Run the stages of an opened analysis in their order.

    What one finds, later ones start from or are checked against.
    """
    rare, likely = None, None
    rare_below, likely_below = opened.asked.settings.rare_below, opened.asked.most_probable_below
    with clock.stage("monte_carlo"):
        trials = draw_chips(opened)
    if rare_below is not None:
        with clock.stage("rare_failures"):
            rare = estimate_rare(opened, rare_below)
    with clock.stage("search"):
        found = search_box(opened, open_twin(opened), trials)
    with clock.stage("diagnostics"):
        diagnosis = explain(opened, found)
    if likely_below is not None:
        with clock.stage("most_probable"):
            likely = search_most_probable(opened, diagnosis.found, likely_below)
    with clock.stage("certify"):
        certification = certify(opened, trials, diagnosis)
    with clock.stage("effects"):
        effects = tabulate_effects(opened)
    return Findings(trials, diagnosis, certification, effects, rare, likely)


def draw_chips(opened: OpenedAnalysis) -> TrialTable:
    """Draw chips and score them, here, on a device or on a cluster, or take them from shards.

    Raises:
        UsageError: Shards are of another run, or a device cannot score chips of this network.
        InputRefusedError: The trials of a shard are damaged.
        CimrobustError: A worker refuses to work, or the cluster is gone.
    """
    asked, runtime, folder = opened.asked, opened.runtime, opened.parts.folder
    if asked.settings.trials_on == "device":
        return run_trials_on_device(
            opened.subject,
            opened.run,
            num_trials=asked.num_trials,
            percentages=percentages(asked.policy),
            parts=opened.parts,
        )
    known = {}
    if asked.shards is not None:
        identity = identity_of(runtime, opened.placement, opened.run.seed)
        known = asked.shards.scores(identity)
    stop = None
    if opened.asked.settings.stop_early and asked.policy is not None:
        stop = stop_rule(asked.policy, higher_is_better=runtime.task.higher_is_better)
    with opened.executor() as executor:
        return run_trials(
            opened.subject,
            opened.run,
            num_trials=asked.num_trials,
            checkpoint=None if folder is None else folder / "trials",
            stop=stop,
            known=known,
            executor=executor,
        )


def estimate_rare(opened: OpenedAnalysis, below: float) -> RareFailures:
    """Estimate how likely a chip is that misses a score."""
    with opened.executor() as executor:
        return rare_failures(
            opened.subject,
            opened.run,
            below=below,
            settings=splitting(opened.asked.settings.rare_budget),
            parts=opened.parts,
            executor=executor,
        )


def open_twin(opened: OpenedAnalysis) -> TwinStatus:
    """Open the torch twin that the search takes its gradients from."""
    return open_gradients(opened.subject, opened.run, with_bit_lines=True)


def search_box(opened: OpenedAnalysis, twin: TwinStatus, trials: TrialTable) -> SearchResult:
    """Search the tolerance box with the gradients of an opened twin.

    The worst chip drawn and a witness to be transferred are known from the start.
    """
    known = {
        "worst_drawn_chip": _drawn_pattern(
            opened.placement, seed=opened.run.seed, trial=trials.worst_trial
        )
    }
    if opened.asked.settings.transfer is not None:
        known["transferred_witness"] = transferred_pattern(
            given_folder(opened.asked.settings.transfer) / WITNESS, opened.placement
        )
    return search_opened(opened.subject, opened.run, twin, known=known, parts=opened.parts)


def explain(opened: OpenedAnalysis, found: SearchResult) -> Diagnosis:
    """Run the diagnostics that were chosen.

    What they find that is worse takes the place of what the search found.
    """
    return diagnose(
        opened.subject,
        opened.run,
        found,
        opened.asked.diagnostics,
        required=_worst_required(opened.asked.policy),
        safety_class=opened.asked.safety_class,
        left_out=opened.asked.left_out("diagnostics"),
        without_bounds=opened.asked.left_out("certify"),
        parts=opened.parts,
    )


def search_most_probable(opened: OpenedAnalysis, found: SearchResult, below: float) -> LikelySearch:
    """Search for the most probable chip that misses a score."""
    known = {"worst chip found": found.deviations}
    return most_probable(opened.subject, opened.run, below=below, known=known, parts=opened.parts)


def certify(opened: OpenedAnalysis, trials: TrialTable, diagnosis: Diagnosis) -> Certification:
    """Certify samples for all chips of the box.

    Raises:
        SelfCheckError: A chip that was drawn or found contradicts what is certified.
    """
    found = diagnosis.found
    worst = opened.runtime.outputs(
        opened.subject.box.weights(found.deviations), threads=opened.run.workers
    )
    certification = bound(opened, worst)
    _check_certified(certification, trials, found)
    check_unbroken(opened.runtime.task, certification, diagnosis)
    return certification


def _drawn_pattern(placement: Placement, *, seed: int, trial: int) -> Pattern:
    """Return the deviations of a drawn chip."""
    chip = program_chip(placement, seed=seed, trial=trial)
    return {name: chip[name] - tensor.nominal for name, tensor in placement.tensors.items()}


def _check_certified(certification: Certification, table: TrialTable, found: SearchResult) -> None:
    """Raise SelfCheckError if a chip of the box scores worse than what is certified for all."""
    if certification.score is None:
        return
    pick = min if table.higher_is_better else max
    worst = pick(table.worst_value, found.score.value)
    if pick(worst, certification.score.value) != certification.score.value:
        raise SelfCheckError(
            f"no chip of the box may score worse than the certified {certification.score.value},"
            f" got {worst}; report this"
        )


def check_unbroken(task: Task, certification: Certification, diagnosis: Diagnosis) -> None:
    """Raise SelfCheckError if a diagnostic breaks a decision that is certified for the whole box.

    Args:
        task: The decisions.
        certification: What is certified of those that are counted.
        diagnosis: What diagnostics break, in the shape of the labels.
    """
    if certification.certified is None or diagnosis.broken is None:
        return
    decisions = CountedDecisions.of(task)
    both = certification.certified & decisions.part_of(diagnosis.broken)
    if both.any():
        raise SelfCheckError(
            "no chip of the box may break a certified sample, got sample"
            f" {decisions.samples[both][0]} broken by a diagnostic; report this"
        )


def _worst_required(policy: Policy | None) -> float | None:
    """Return the score that a policy asks of the worst chip; None: it asks nothing."""
    return None if policy is None else next(policy.thresholds("worst_found_accuracy"), None)
