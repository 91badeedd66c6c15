"""How an analysis is to be run: what was asked for, checked, and what follows where nothing was."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cimrobust.certificate.evidence import NamedDigest
from cimrobust.certificate.models import Setting
from cimrobust.certificate.policy import Policy, read_policy, stop_rule
from cimrobust.counts import MAX_TRIALS, check_number
from cimrobust.diagnose.diagnostic_catalogue import chosen
from cimrobust.engine.torch_device import open_device
from cimrobust.errors import UsageError
from cimrobust.files import sha256_of
from cimrobust.pipeline.arguments import (
    available_processors,
    check_counts,
    check_day,
    check_effort,
    check_tolerance,
    stored,
    stored_each,
    stored_file,
)
from cimrobust.pipeline.opened_item import Item

DEFAULT_EFFORT = "standard"
DEFAULT_TRIALS = {"quick": 300, "standard": 1000, "thorough": 10_000}


@dataclass(frozen=True, kw_only=True)
class Request:
    """What an analysis was asked for; attributes as the arguments of `cimrobust.analyze`."""

    item: Item
    out: Path
    effort: str
    trials: int | None
    seed: int
    workers: int | None
    policy: str | Path | None
    stop_early: bool
    rare_below: float | None
    rare_budget: int | None
    skip_most_probable: bool
    diagnostics: str | None
    safety_class: int | None
    transfer: str | Path | None
    issued: str | None
    resume: bool
    device_type: str


@dataclass(frozen=True)
class Settings:
    """A request that was checked, and what it leaves to the tool.

    Attributes:
        request: What was asked for.
        workers: Threads; no result depends on it.
        num_trials: Chips to draw; with early stopping the most.
        policy: What the verdict is given against; None: nothing.
        policy_file: Its file; None: there is none.
        diagnostics: Names of the diagnostics to run.
        safety_class: Class whose recall must not fall; None: no class is special.
    """

    request: Request
    workers: int
    num_trials: int
    policy: Policy | None
    policy_file: NamedDigest | None
    diagnostics: tuple[str, ...]
    safety_class: int | None

    @property
    def most_probable_below(self) -> float | None:
        """Score that the most probable failing chip is searched for; None: it is not."""
        return None if self.request.skip_most_probable else self.request.rare_below

    def stated(self) -> tuple[Setting, ...]:
        """Return what the certificate says of how it was made."""
        asked, item = self.request, self.request.item
        return (
            stored("effort", asked.effort, default=DEFAULT_EFFORT),
            Setting(key="trials", value=self.num_trials, is_default=asked.trials is None),
            stored("seed", asked.seed, default=0),
            stored("limit", item.limit),
            stored("tolerance", item.tolerance),
            *stored_each("digital", item.digital),
            stored_file("calibration", item.calibration),
            stored("diagnostics", asked.diagnostics),
            stored("safety-class", self.safety_class),
            stored("rare-below", asked.rare_below),
            stored("rare-budget", asked.rare_budget),
            stored("skip-most-probable", asked.skip_most_probable, default=False),
            stored("stop-early", asked.stop_early, default=False),
            stored("device-type", asked.device_type, default="cpu"),
            stored_file("labels-of", item.labels_of),
            stored_file("transfer", asked.transfer),
            stored_file("policy", asked.policy),
            stored("issued", asked.issued),
        )


def resolve(request: Request) -> Settings:
    """Check a request and fill in what it leaves open.

    Raises:
        UsageError: An argument is out of range, names nothing, or asks for another that is missing;
            or the policy is wrong.
    """
    check_effort(request.effort)
    check_tolerance(request.item.tolerance)
    check_counts(trials=request.trials)
    check_counts(seed=request.seed, least=0)
    check_counts(workers=request.workers, limit=request.item.limit, rare_budget=request.rare_budget)
    check_counts(safety_class=request.safety_class, least=0)
    check_number("rare-below", request.rare_below)
    check_day("--issued", request.issued)
    open_device(request.device_type)
    policy = None if request.policy is None else read_policy(Path(request.policy))
    num_trials = request.trials or DEFAULT_TRIALS[request.effort]
    if request.stop_early:
        num_trials = _most_trials(policy, request.trials, request.effort)
    if request.rare_budget is not None and request.rare_below is None:
        raise UsageError(
            "budget for rare failures needs a score that chips may miss, got none (--rare-budget);"
            " give --rare-below too"
        )
    return Settings(
        request=request,
        workers=request.workers or available_processors(),
        num_trials=num_trials,
        policy=policy,
        policy_file=(
            None
            if request.policy is None
            else NamedDigest(Path(request.policy).name, sha256_of(Path(request.policy)))
        ),
        diagnostics=chosen(request.diagnostics, effort=request.effort),
        safety_class=_safety_class(policy, request.safety_class),
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
