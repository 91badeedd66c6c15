"""Which layers must stay digital, or be verified more tightly, for a network to meet a policy."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from cimrobust.attack.attack_context import AttackContext
from cimrobust.attack.attack_plan import FULL_ATTACK
from cimrobust.certificate.models import Timings
from cimrobust.certificate.models.item import Setting
from cimrobust.certificate.named_metric import require_named_metric
from cimrobust.certificate.policy import EFFORTS, Policy, read_policy
from cimrobust.certificate.suggested_record import (
    Confirmed,
    Outcome,
    SuggestEvidence,
    describe_suggestion,
    write_profile,
)
from cimrobust.certify.bound_summary import certify_run
from cimrobust.cluster.address import Address
from cimrobust.diagnose.protected_attacks import Chosen, Needs, ProtectedAttacks
from cimrobust.diagnose.protection import DIGITAL, TIGHTER, Protection, num_devices
from cimrobust.diagnose.smallest_set import Smallest, smallest_set
from cimrobust.engine.subject import Subject
from cimrobust.errors import UsageError
from cimrobust.mapping.box import Pattern
from cimrobust.montecarlo.anytime import Target
from cimrobust.montecarlo.trials import run_trials
from cimrobust.montecarlo.worker_opening import recipe_of
from cimrobust.pipeline.arguments import check_tolerance
from cimrobust.pipeline.clock import Clock
from cimrobust.pipeline.in_memory import given_path, takes_objects
from cimrobust.pipeline.inspection import Inspection, inspect_on
from cimrobust.pipeline.limits import keeps_limits
from cimrobust.pipeline.opened_subject import inspect_subject, open_subject
from cimrobust.pipeline.stated_settings import state
from cimrobust.pipeline.suggestion import Suggestion
from cimrobust.pipeline.working_place import executor_of
from cimrobust.search.ensemble import search
from cimrobust.search.search_results import SearchResult
from cimrobust.settings.command_settings import SuggestSettings
from cimrobust.settings.commands import SUGGEST
from cimrobust.settings.documented import takes_settings
from cimrobust.settings.gathered import gather
from cimrobust.settings.subject_settings import SubjectSettings

if TYPE_CHECKING:
    from cimrobust.cluster.executor import Executor
    from cimrobust.engine.open import Runtime
    from cimrobust.mapping.placement import Placement
    from cimrobust.run import Run
    from cimrobust.settings.python_inputs import DataLike, ModelLike, PolicyLike
    from cimrobust.settings.typed_options import SuggestOptions

KINDS = {"both": (DIGITAL, TIGHTER), DIGITAL: (DIGITAL,), TIGHTER: (TIGHTER,)}
_PLANS = {
    "quick": FULL_ATTACK.scaled(0.5),
    "standard": FULL_ATTACK,
    "thorough": FULL_ATTACK.scaled(3.0),
}
_MOST_ATTACKS = {"quick": 40, "standard": 120, "thorough": 400}
_LOOKED_AT = {"clean_accuracy", "worst_found_accuracy", "certified_accuracy", "kpp"}
# Known chips that the second search of a choice starts from.
_STARTS = 4


@dataclass(frozen=True)
class _Base:
    """The network without protection, searched: where every step starts."""

    named: SubjectSettings
    needs: Needs
    inspection: Inspection
    context: AttackContext
    found: SearchResult
    chips: list[Pattern]
    cluster: Address | None

    def executor(self, subject: Subject) -> AbstractContextManager[Executor | None]:
        """Return where chips and samples of a network are worked on, protected or not."""
        return executor_of(self.cluster, partial(recipe_of, self.named), subject, self.run)

    @property
    def run(self) -> Run:
        return self.context.run

    @property
    def runtime(self) -> Runtime:
        return self.context.subject.runtime

    @property
    def placement(self) -> Placement:
        return self.inspection.placement


@takes_settings(SUGGEST)
@takes_objects
@keeps_limits(SUGGEST)
def suggest(
    model: ModelLike,
    *,
    data: DataLike,
    policy: PolicyLike,
    example_input: Any = None,
    settings: SuggestSettings | SuggestOptions | None = None,
    run: Run | None = None,
    **options: Unpack[SuggestOptions],
) -> Suggestion:
    """Find the smallest set of layers to protect for a policy to be met, by devices.

    A protected layer stays digital or is verified more tightly. Every set is attacked; the one
    suggested is confirmed by full searches of the network in which these layers are protected, one
    of them the search that `analyze` makes with the same options.

    Args:
        model: ONNX file, or a model in memory: its bytes, an `onnx.ModelProto`, or a
            `torch.nn.Module` with `example_input`.
        data: As for `analyze`.
        policy: Policy file, or its tables; worst_found_accuracy, certified_accuracy and kpp of it
            are looked at.
        example_input: What a `torch.nn.Module` is exported with: a tensor or an array of samples,
            or a tuple of them.

    Raises:
        CimrobustError: See its subclasses for what can be wrong; nothing is written then.
    """
    given = gather(SUGGEST, settings, run, options)
    asked, computed = given.part(SuggestSettings), given.run()
    named = given.part(SubjectSettings, model=model, data=data)
    check_tolerance(named.tolerance)
    _check_protection(asked)
    cluster = None if asked.cluster is None else Address.parse(asked.cluster)
    stated, clock = read_policy(given_path(policy)), Clock()
    with clock.stage("load"):
        inspection = inspect_subject(named)
        runtime = open_subject(named, inspection, workers=computed.workers)
        needs = _needs(stated, runtime, computed.effort)
    with clock.stage("search"):
        base = _searched(named, needs, inspection, runtime, computed, cluster)
        missed = _missed_without(base, stated)
    outcomes = []
    for kind in KINDS[asked.protect] if missed else ():
        with clock.stage(kind):
            outcomes.append(_outcome(base, Protection(kind, asked.tighten), asked.most_share))
    computed.progress.finish()
    evidence = SuggestEvidence(
        inspection=inspection,
        runtime=runtime,
        policy=stated,
        base=base.found,
        missed=missed,
        outcomes=tuple(outcomes),
        settings=state(
            SUGGEST,
            (named, asked, computed),
            instead=(Setting(key="policy", value=given_path(policy).name, is_default=False),),
        ),
        effort=computed.effort,
        device_argument=str(named.device),
        data_argument=str(data),
        out=None if asked.out is None else Path(asked.out),
        timings=Timings.of(computed.workers, clock.stages),
    )
    described = describe_suggestion(evidence)
    if asked.out is not None:
        write_profile(evidence, Path(asked.out))
    return Suggestion(described, not missed or any(outcome.confirmed for outcome in outcomes))


def _check_protection(asked: SuggestSettings) -> None:
    if asked.tighten is not None and not 0 <= asked.tighten <= 1:
        raise UsageError(
            f"tighter tolerance must be in [0, 1], got {asked.tighten} (--tighten); give it as a"
            " fraction of the conductance range"
        )
    if not 0 < asked.most_share <= 1:
        raise UsageError(
            "share of protected devices must be above 0 and at most 1, got"
            f" {asked.most_share} (--most-share); give a fraction"
        )
    out = asked.out
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
    task = runtime.task
    require_named_metric(policy, task.metric, higher_is_better=task.higher_is_better)
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
            Target(float(asked.k), asked.confidence, asked.accuracy) for asked in policy.percentiles
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
    named: SubjectSettings,
    needs: Needs,
    inspection: Inspection,
    runtime: Runtime,
    run: Run,
    cluster: Address | None,
) -> _Base:
    """Search the network without any protection; what is found is where all else starts."""
    context = AttackContext(Subject(runtime, inspection.placement), run)
    found = search(context.subject, run)
    return _Base(named, needs, inspection, context, found, [dict(found.deviations)], cluster)


def _missed_without(base: _Base, policy: Policy) -> str:
    """Return what the network misses without any protection, in words.

    Nothing where there is nothing to do.
    """
    needs, clean = base.needs, base.runtime.nominal.value
    asked = policy.strictest("clean_accuracy", higher_is_better=needs.higher_is_better)
    if asked is not None and not needs.met(clean, asked):
        raise UsageError(
            f"clean score must reach what the policy asks before devices matter, got {clean:.4g} in"
            f" place of {asked:g} with quantised weights (--policy); no protection of layers can"
            " help"
        )
    if needs.least is not None and not needs.met(base.found.score.value, needs.least):
        return f"a chip scores {base.found.score.value:.4g}"
    return _missed_by_rest(base, base.runtime, base.placement, base.found)[0]


def _missed_by_rest(
    base: _Base, runtime: Runtime, placement: Placement, found: SearchResult
) -> tuple[str, float | None]:
    """Return what drawn chips or the certified bound miss, and the certified score."""
    needs, subject = base.needs, Subject(runtime, placement)
    with base.executor(subject) as executor:
        if needs.percentiles:
            table = run_trials(subject, base.run, num_trials=needs.trials, executor=executor)
            missed = needs.missed_by_chips(table)
            if missed:
                return missed, None
        if needs.certified is None:
            return "", None
        output = runtime.outputs(subject.box.weights(found.deviations), threads=base.run.workers)
        proof = certify_run(subject, base.run, worst_output=output, executor=executor)
    return needs.missed_by_proof(proof), None if proof.score is None else proof.score.value


def _outcome(base: _Base, protection: Protection, most_share: float) -> Outcome:
    """Look for the smallest set of one kind of protection."""
    with base.executor(base.context.subject) as executor:
        return _smallest(base, protection, most_share, executor)


def _smallest(
    base: _Base, protection: Protection, most_share: float, executor: Executor | None
) -> Outcome:
    names = [name for name, tensor in base.placement.tensors.items() if protection.helps(tensor)]
    title, steps = f"Layers to protect ({protection.kind})", 4 * len(names) + 2
    base.run.progress.start(title, steps)
    attacks = ProtectedAttacks(
        context=base.context,
        protection=protection,
        needs=base.needs,
        plan=_PLANS[base.run.effort],
        chips=base.chips,
        executor=executor,
    )
    attacks.refute(
        frozenset(), base.found.score, f"search, {base.found.member}", base.found.deviations
    )
    confirmations: dict[Chosen, Confirmed] = {}

    def confirm(chosen: Chosen) -> bool:
        made = _confirm(base, protection, attacks, chosen)
        if made is None:
            base.run.progress.start(title, steps)
            return False
        confirmations[chosen] = made
        return True

    total = num_devices(base.placement, list(base.placement.tensors))
    found = smallest_set(
        attacks,
        confirm,
        most_devices=int(most_share * total),
        most_attacks=_MOST_ATTACKS[base.run.effort],
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
    base: _Base, protection: Protection, attacks: ProtectedAttacks, chosen: Chosen
) -> Confirmed | None:
    """Search the network in which layers are protected, opened anew as `analyze` opens it.

    None where it misses what is asked, which is taken down.
    """
    profile = base.placement.profile
    protected = replace(profile, rules=(*profile.rules, *protection.rules(base.placement, chosen)))
    inspection = inspect_on(base.named.model, protected)
    runtime = open_subject(base.named, inspection, workers=base.run.workers)
    scores: list[float] = []
    starts: dict[str, Pattern] = {}
    # The search of `analyze`, then one of another seed that goes on from all that is known.
    for number in range(2):
        again = replace(base.run, seed=base.run.seed + number)
        found = search(Subject(runtime, inspection.placement), again, starts=starts)
        scores.append(found.score.value)
        if base.needs.least is not None and not base.needs.met(found.score.value, base.needs.least):
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
    missed, certified = _missed_by_rest(base, runtime, inspection.placement, found)
    if missed:
        attacks.refute(chosen, found.score, missed, None)
        return None
    pick = np.min if base.needs.higher_is_better else np.max
    return Confirmed(
        inspection,
        runtime.nominal,
        float(pick(scores)),
        tuple(scores),
        certified,
        base.needs.trials if base.needs.percentiles else 0,
    )
