"""An analysis as it is to be run: what was asked for, checked, and what follows elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cimrobust.certificate.models.item import Setting
from cimrobust.certificate.named_digest import NamedDigest
from cimrobust.certificate.policy import Policy, read_policy, stop_rule
from cimrobust.certificate.wording import left_out
from cimrobust.cluster.address import Address
from cimrobust.counts import MAX_TRIALS
from cimrobust.diagnose.diagnostic_names import chosen
from cimrobust.engine.torch_device import open_device
from cimrobust.errors import UsageError
from cimrobust.files import sha256_of
from cimrobust.montecarlo.shards import Shards, find_shards
from cimrobust.pipeline.arguments import check_day, check_tolerance
from cimrobust.pipeline.stated_settings import state
from cimrobust.planning.time_span import seconds_of
from cimrobust.run import Run
from cimrobust.search.search_budget import budget_for
from cimrobust.settings.analysis_settings import AnalysisSettings
from cimrobust.settings.commands import ANALYZE
from cimrobust.settings.subject_settings import SubjectSettings

DEFAULT_TRIALS: Mapping[str, int] = {"quick": 300, "standard": 1000, "thorough": 10_000}


@dataclass(frozen=True, kw_only=True)
class ResolvedAnalysis:
    """Settings that were checked, and what they leave to the tool.

    Attributes:
        subject: What is examined, as it was named.
        settings: What else was asked for.
        run: How to compute.
        out: Folder of the certificate.
        num_trials: Chips to draw; with early stopping the most.
        policy: What the verdict is given against; None: nothing.
        policy_file: Its file; None: there is none.
        diagnostics: Names of the diagnostics to run.
        safety_class: Class whose recall must not fall; None: no class is special.
        shards: Where the trials come from; None: they are drawn.
        cluster: Where they are drawn; None: in the threads of this process.
    """

    subject: SubjectSettings
    settings: AnalysisSettings
    run: Run
    out: Path
    num_trials: int
    policy: Policy | None
    policy_file: NamedDigest | None
    diagnostics: tuple[str, ...]
    safety_class: int | None
    shards: Shards | None = None
    cluster: Address | None = None

    @property
    def most_probable_below(self) -> float | None:
        """Score that the most probable failing chip is searched for; None: it is not."""
        return None if self.settings.skip_most_probable else self.settings.rare_below

    def left_out(self, stage: str) -> str:
        """Return why a stage does not run; nothing where it does."""
        return left_out(stage) if stage in self.settings.skip else ""

    def stated(self) -> tuple[Setting, ...]:
        """Return what the certificate says of how it was made."""
        return state(
            ANALYZE,
            (self.subject, self.settings, self.run),
            instead=(
                Setting(
                    key="trials", value=self.num_trials, is_default=self.settings.trials is None
                ),
                Setting(
                    key="safety-class",
                    value=self.safety_class,
                    is_default=self.safety_class is None,
                ),
            ),
        )


def resolve(
    subject: SubjectSettings, settings: AnalysisSettings, run: Run, *, out: Path
) -> ResolvedAnalysis:
    """Check settings beyond their own ranges, and fill in what they leave open.

    Raises:
        UsageError: A setting names nothing, is out of range, or asks for another that is missing;
            the policy is wrong; or shards are missing.
    """
    check_tolerance(subject.tolerance)
    check_day("--issued", settings.issued)
    open_device(run.device_type)
    budget_for(run)
    if settings.time is not None:
        seconds_of(settings.time)
    _check_trials_on(settings)
    cluster = None if settings.cluster is None else Address.parse(settings.cluster)
    policy = None if settings.policy is None else read_policy(Path(settings.policy))
    num_trials = settings.trials or DEFAULT_TRIALS[run.effort]
    if settings.stop_early:
        num_trials = _most_trials(policy, settings.trials, run.effort)
    if settings.rare_budget is not None and settings.rare_below is None:
        raise UsageError(
            "budget for rare failures needs a score that chips may miss, got none (--rare-budget);"
            " give --rare-below too"
        )
    return ResolvedAnalysis(
        subject=subject,
        settings=settings,
        run=run,
        out=out,
        num_trials=num_trials,
        policy=policy,
        policy_file=(
            None
            if settings.policy is None
            else NamedDigest(Path(settings.policy).name, sha256_of(Path(settings.policy)))
        ),
        diagnostics=chosen(settings.diagnostics, effort=run.effort),
        safety_class=_safety_class(policy, settings.safety_class),
        shards=(
            None if settings.shards is None else find_shards(Path(settings.shards), num_trials)
        ),
        cluster=cluster,
    )


def _check_trials_on(settings: AnalysisSettings) -> None:
    """Raise UsageError where chips are to be scored on a device and elsewhere too."""
    if settings.trials_on == "processor":
        return
    others = {
        "--stop-early": (settings.stop_early, "whose rule looks at every score when it is drawn"),
        "--shards": (settings.shards is not None, "which were scored on processors"),
        "--cluster": (settings.cluster is not None, "whose workers score on processors"),
    }
    for option, (is_given, why) in others.items():
        if is_given:
            raise UsageError(
                "chips scored on a device must be scored in this process, as many as were asked"
                f" for, got {option}, {why} (--trials-on device); give one of the two"
            )


def _most_trials(policy: Policy | None, trials: int | None, effort: str) -> int:
    """Return the most trials of a run that may stop early."""
    if policy is None:
        raise UsageError(
            "a run that may stop early needs a policy to decide, got none (--stop-early); give"
            " --policy with a kpp requirement"
        )
    rule = stop_rule(policy, higher_is_better=True)
    if trials is None:
        trials = min(max(DEFAULT_TRIALS[effort], 10 * rule.needed_trials), MAX_TRIALS)
    rule.check(trials)
    return trials


def _safety_class(policy: Policy | None, asked: int | None) -> int | None:
    """Return the safety class; the policy says which it is if the user does not."""
    if asked is None and policy is not None and policy.safety_class is not None:
        return policy.safety_class.label
    return asked
