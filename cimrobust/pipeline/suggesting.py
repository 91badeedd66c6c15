"""Which layers must stay digital, or be verified more tightly, for a network to meet a policy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cimrobust.attack.box_attack import AttackPlan
from cimrobust.certificate.models import Timings
from cimrobust.certificate.policy import EFFORTS, Policy, read_policy
from cimrobust.certify.bound_summary import certify_run
from cimrobust.diagnose.protected_attacks import Chosen, Needs, Percentile, ProtectedAttacks
from cimrobust.diagnose.protection import DIGITAL, TIGHTER, Protection, num_devices
from cimrobust.diagnose.smallest_set import Smallest, smallest_set
from cimrobust.engine.open import Runtime
from cimrobust.engine.torch_device import open_device
from cimrobust.errors import UsageError
from cimrobust.mapping.box import Pattern, box_of
from cimrobust.mapping.placement import Placement
from cimrobust.montecarlo.trials import run_trials
from cimrobust.pipeline.arguments import (
    available_processors,
    check_counts,
    check_effort,
    check_tolerance,
    stored,
    stored_each,
    stored_file,
)
from cimrobust.pipeline.clock import Clock
from cimrobust.pipeline.inspection import Inspection, inspect_on
from cimrobust.pipeline.opened_item import Item
from cimrobust.pipeline.suggested_record import (
    Confirmed,
    Outcome,
    SuggestEvidence,
    describe_suggestion,
    write_profile,
)
from cimrobust.progress import NullProgress, Progress
from cimrobust.search.ensemble import search
from cimrobust.search.gradients import Opened, open_gradients
from cimrobust.search.search_budget import budget_of
from cimrobust.search.search_results import SearchResult

KINDS = {"both": (DIGITAL, TIGHTER), DIGITAL: (DIGITAL,), TIGHTER: (TIGHTER,)}
DEFAULT_EFFORT = "standard"
_PLANS = {
    "quick": AttackPlan().scaled(0.5),
    "standard": AttackPlan(),
    "thorough": AttackPlan().scaled(3.0),
}
_MOST_ATTACKS = {"quick": 40, "standard": 120, "thorough": 400}
_LOOKED_AT = {"clean_accuracy", "worst_found_accuracy", "certified_accuracy", "kpp"}
# Known chips that the second search of a choice starts from.
_STARTS = 4


@dataclass(frozen=True)
class Suggestion:
    """What was found.

    Attributes:
        data: As its published schema says.
        found: Whether some set of layers, perhaps none at all, meets the policy.
    """

    data: dict[str, Any]
    found: bool

    @property
    def exit_code(self) -> int:
        """0: the policy can be met; 3: no set that was tried meets it."""
        return 0 if self.found else 3


@dataclass(frozen=True)
class _Run:
    """One run: what every step needs."""

    item: Item
    needs: Needs
    inspection: Inspection
    runtime: Runtime
    opened: Opened
    base: SearchResult
    chips: list[Pattern]
    effort: str
    seed: int
    workers: int
    device_type: str
    progress: Progress

    @property
    def placement(self) -> Placement:
        return self.inspection.placement


def suggest(
    model: str | Path,
    *,
    data: str | Path,
    policy: str | Path,
    device: str | Path = "rram-write-verify-3pct",
    tolerance: float | None = None,
    digital: Sequence[str] = (),
    protect: str = "both",
    tighten: float | None = None,
    most_share: float = 1.0,
    effort: str = DEFAULT_EFFORT,
    seed: int = 0,
    workers: int | None = None,
    limit: int | None = None,
    calibration: str | Path | None = None,
    device_type: str = "cpu",
    out: str | Path | None = None,
    progress: Progress | None = None,
) -> Suggestion:
    """Find the smallest set of layers, by devices, that must stay digital or be verified more tightly for a policy to be met.

    Every set is attacked; the one suggested is confirmed by full searches of the network in which
    these
    layers are protected, one of them the search that `analyze` makes with the same options.

    Args:
        model: ONNX file.
        data: As for `analyze`.
        policy: Policy file; worst_found_accuracy, certified_accuracy and kpp of it are looked at.
        device: Name of a shipped device profile, or a TOML file.
        tolerance: Write-verify tolerance in place of the profile's.
        digital: Patterns of initializer or node names whose layers stay digital in any case.
        protect: ``digital``, ``tighter`` or ``both``: how layers may be protected.
        tighten: Tolerance of devices that are verified more tightly, fraction of the conductance
            range;
            None: a tenth of what their layer has.
        most_share: Share of all devices that may be protected.
        effort: ``quick``, ``standard`` or ``thorough``.
        seed: Seed of every random number.
        workers: Threads; no result depends on it. None: all processors.
        limit: Use the first so many samples.
        calibration: As for `analyze`.
        device_type: Where gradients are computed, ``cpu`` or ``cuda``.
        out: Profile file (TOML) to write, with the rules of the best set; None: none.
        progress: Told of every set that is tried.

    Raises:
        CimrobustError: See its subclasses for what can be wrong; nothing is written then.
    """
    check_effort(effort)
    check_tolerance(tolerance)
    check_counts(workers=workers, limit=limit)
    check_counts(seed=seed, least=0)
    _check_protection(protect, tighten, most_share, out)
    stated = read_policy(Path(policy))
    clock, threads, told = Clock(), workers or available_processors(), progress or NullProgress()
    item = Item(
        model,
        data,
        device,
        tolerance=tolerance,
        digital=digital,
        limit=limit,
        calibration=calibration,
    )
    with clock.stage("load"):
        inspection = item.inspect()
        runtime = item.open(inspection, workers=threads)
        needs = _needs(stated, runtime, effort)
    with clock.stage("search"):
        run = _searched(item, needs, inspection, runtime, effort, seed, threads, device_type, told)
        missed = _missed_without(run, stated)
    outcomes = []
    if missed:
        for kind in KINDS[protect]:
            with clock.stage(kind):
                outcomes.append(_outcome(run, Protection(kind, tighten), most_share))
    told.finish()
    settings = (
        stored("effort", effort, default=DEFAULT_EFFORT),
        stored("seed", seed, default=0),
        stored("limit", limit),
        stored("tolerance", tolerance),
        *stored_each("digital", digital),
        stored("protect", protect, default="both"),
        stored("tighten", tighten),
        stored("most-share", most_share, default=1.0),
        stored_file("calibration", calibration),
        stored_file("policy", policy),
        stored("device-type", device_type, default="cpu"),
    )
    evidence = SuggestEvidence(
        inspection=inspection,
        runtime=runtime,
        policy=stated,
        base=run.base,
        missed=missed,
        outcomes=tuple(outcomes),
        settings=settings,
        effort=effort,
        device_argument=str(device),
        data_argument=str(data),
        out=None if out is None else Path(out),
        timings=Timings.of(threads, clock.stages),
    )
    described = describe_suggestion(evidence)
    if out is not None:
        write_profile(evidence, Path(out))
    return Suggestion(described, not missed or any(outcome.confirmed for outcome in outcomes))


def _check_protection(
    protect: str, tighten: float | None, most_share: float, out: str | Path | None
) -> None:
    if protect not in KINDS:
        raise UsageError(
            f"protection must be one of {', '.join(KINDS)}, got '{protect}' (--protect); choose one"
            " of them"
        )
    if tighten is not None and not 0 <= tighten <= 1:
        raise UsageError(
            f"tighter tolerance must be in [0, 1], got {tighten} (--tighten); give it as a fraction"
            " of the conductance range"
        )
    if not 0 < most_share <= 1:
        raise UsageError(
            f"share of protected devices must be above 0 and at most 1, got {most_share}"
            " (--most-share); give a fraction"
        )
    if out is not None and (Path(out).suffix != ".toml" or not Path(out).parent.is_dir()):
        raise UsageError(
            f"profile must be written to a .toml file in a folder that exists, got '{out}' (--out);"
            " choose another place"
        )


def _needs(policy: Policy, runtime: Runtime, effort: str) -> Needs:
    """Return what a policy asks that protecting layers can give.

    Raises:
        UsageError: It asks for nothing of the kind, or for what is not looked at here.
    """
    other = [row.id for row in policy.rows if row.kind not in _LOOKED_AT or row.samples != "these"]
    if other:
        raise UsageError(
            f"policy must ask for what is looked at here, got {', '.join(other)} (--policy); leave"
            " it out, and give it to analyze"
        )
    if policy.least_effort is not None and EFFORTS.index(policy.least_effort) > EFFORTS.index(
        effort
    ):
        raise UsageError(
            f"effort must be at least that of the policy, got {effort} in place of"
            f" {policy.least_effort} (--effort); give it"
        )
    better = runtime.task.higher_is_better
    needs = Needs(
        worst_found=policy.strictest("worst_found_accuracy", higher_is_better=better),
        percentiles=tuple(
            Percentile(float(asked.k), asked.confidence, asked.accuracy)
            for asked in policy.percentiles
        ),
        certified=policy.strictest("certified_accuracy", higher_is_better=better),
        higher_is_better=better,
    )
    if needs.least is None and not needs.percentiles:
        raise UsageError(
            "policy must ask for a score of chips, got none of worst_found_accuracy,"
            " certified_accuracy and kpp (--policy); add one"
        )
    return needs


def _searched(
    item: Item,
    needs: Needs,
    inspection: Inspection,
    runtime: Runtime,
    effort: str,
    seed: int,
    workers: int,
    device_type: str,
    told: Progress,
) -> _Run:
    """Search the network without any protection; what is found is where all else starts."""
    base = search(
        runtime,
        inspection.placement,
        effort=effort,
        seed=seed,
        workers=workers,
        progress=told,
        device_type=device_type,
    )
    opened = open_gradients(
        runtime,
        inspection.placement,
        budget_of(effort),
        seed=seed,
        workers=workers,
        device=open_device(device_type),
    )
    return _Run(
        item,
        needs,
        inspection,
        runtime,
        opened,
        base,
        [dict(base.deviations)],
        effort,
        seed,
        workers,
        device_type,
        told,
    )


def _missed_without(run: _Run, policy: Policy) -> str:
    """Return what the network misses without any protection, in words.

    Nothing where there is nothing to do.
    """
    needs, clean = run.needs, run.runtime.nominal.value
    asked = policy.strictest("clean_accuracy", higher_is_better=needs.higher_is_better)
    if asked is not None and not needs.met(clean, asked):
        raise UsageError(
            f"clean score must reach what the policy asks before devices matter, got {clean:.4g} in"
            f" place of {asked:g} with quantised weights (--policy); no protection of layers can"
            " help"
        )
    if needs.least is not None and not needs.met(run.base.score.value, needs.least):
        return f"a chip scores {run.base.score.value:.4g}"
    return _missed_by_rest(run, run.runtime, run.placement, run.base)[0]


def _missed_by_rest(
    run: _Run, runtime: Runtime, placement: Placement, found: SearchResult
) -> tuple[str, float | None]:
    """Return what drawn chips or the certified bound miss, and the certified score."""
    needs = run.needs
    if needs.percentiles:
        table = run_trials(
            runtime,
            placement,
            num_trials=needs.trials,
            seed=run.seed,
            workers=run.workers,
            progress=run.progress,
        )
        missed = needs.missed_by_chips(table)
        if missed:
            return missed, None
    if needs.certified is None:
        return "", None
    output = runtime.outputs(box_of(placement).weights(found.deviations), threads=run.workers)
    proof = certify_run(
        runtime,
        placement,
        effort=run.effort,
        worst_output=output,
        workers=run.workers,
        progress=run.progress,
    )
    return needs.missed_by_proof(proof), None if proof.score is None else proof.score.value


def _outcome(run: _Run, protection: Protection, most_share: float) -> Outcome:
    """Look for the smallest set of one kind of protection."""
    names = [name for name, tensor in run.placement.tensors.items() if protection.helps(tensor)]
    title, steps = f"Layers to protect ({protection.kind})", 4 * len(names) + 2
    run.progress.start(title, steps)
    attacks = ProtectedAttacks(
        runtime=run.runtime,
        placement=run.placement,
        scan=run.inspection.scan,
        opened=run.opened,
        protection=protection,
        needs=run.needs,
        plan=_PLANS[run.effort],
        seed=run.seed,
        workers=run.workers,
        progress=run.progress,
        chips=run.chips,
    )
    attacks.refute(frozenset(), run.base.score, f"search, {run.base.member}", run.base.deviations)
    confirmations: dict[Chosen, Confirmed] = {}

    def confirm(chosen: Chosen) -> bool:
        made = _confirm(run, protection, attacks, chosen)
        if made is None:
            run.progress.start(title, steps)
            return False
        confirmations[chosen] = made
        return True

    total = num_devices(run.placement, list(run.placement.tensors))
    found = smallest_set(
        attacks,
        confirm,
        most_devices=int(most_share * total),
        most_attacks=_MOST_ATTACKS[run.effort],
    )
    confirmed = None if found.chosen is None else confirmations[found.chosen]
    return Outcome(
        protection,
        found,
        confirmed,
        tuple(attacks.tried),
        attacks.attacks,
        attacks.passes,
        _reason(found, most_share),
    )


def _reason(found: Smallest, most_share: float) -> str | None:
    if found.chosen is not None:
        return None
    limit = "" if most_share == 1.0 else f" within {100 * most_share:.4g} % of the devices"
    return f"no set of layers that was tried{limit} meets the policy"


def _confirm(
    run: _Run, protection: Protection, attacks: ProtectedAttacks, chosen: Chosen
) -> Confirmed | None:
    """Search the network in which layers are protected, opened anew as `analyze` opens it.

    None where it misses what is asked, which is taken down.
    """
    profile = run.placement.profile
    protected = replace(profile, rules=(*profile.rules, *protection.rules(run.placement, chosen)))
    inspection = inspect_on(run.item.model, protected)
    runtime = run.item.open(inspection, workers=run.workers)
    scores: list[float] = []
    starts: dict[str, Pattern] = {}
    # The search of `analyze`, then one of another seed that goes on from all that is known.
    for number in range(2):
        found = search(
            runtime,
            inspection.placement,
            effort=run.effort,
            seed=run.seed + number,
            workers=run.workers,
            progress=run.progress,
            starts=starts,
            device_type=run.device_type,
        )
        scores.append(found.score.value)
        if run.needs.least is not None and not run.needs.met(found.score.value, run.needs.least):
            attacks.refute(
                chosen, found.score, f"{found.member}, search {number + 1}", found.deviations
            )
            return None
        names = inspection.placement.tensors
        starts = {
            f"known chip {index}": {name: chip[name] for name in names}
            for index, chip in enumerate(attacks.chips[:_STARTS])
        }
        starts["first search"] = dict(found.deviations)
    missed, certified = _missed_by_rest(run, runtime, inspection.placement, found)
    if missed:
        attacks.refute(chosen, found.score, missed, None)
        return None
    pick = np.min if run.needs.higher_is_better else np.max
    return Confirmed(
        inspection,
        runtime.nominal,
        float(pick(scores)),
        tuple(scores),
        certified,
        run.needs.trials if run.needs.percentiles else 0,
    )
