"""What a search for layers to protect found, written down.

As JSON, as options of `analyze`, as a profile.
"""

from __future__ import annotations

import shlex
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import tomli_w

from cimrobust.certificate.blocks import item_block as item
from cimrobust.certificate.certificate_files import atomic_text, check_own
from cimrobust.certificate.models import Setting, Timings
from cimrobust.certificate.models.suggested import (
    SuggestedLayer,
    SuggestedSet,
    SuggestModel,
    TightenedLayer,
    TriedSet,
)
from cimrobust.certificate.models.swept import CleanScores
from cimrobust.certificate.policy import Policy
from cimrobust.data.decision import Score
from cimrobust.device.intervals import largest_programming_error
from cimrobust.device.load_profile import profile_of
from cimrobust.diagnose.protected_attacks import Tried
from cimrobust.diagnose.protection import DIGITAL, TIGHTER, Protection, num_devices
from cimrobust.diagnose.smallest_set import Smallest
from cimrobust.engine.open import Runtime
from cimrobust.errors import SelfCheckError
from cimrobust.files import stated_place
from cimrobust.search.search_results import SearchResult

if TYPE_CHECKING:
    from cimrobust.device.profile import DeviceProfile
    from cimrobust.mapping.placement import Placement
    from cimrobust.onnx_io.layers import LayerScan
    from cimrobust.onnx_io.network import Network

#: Where the profile of a set is said to be if it was not written.
DEFAULT_FILE = "protected.toml"
_NAME_END = "@protected"
_MOST_NAME = 100


class Stored(Protocol):
    """A network and where its layers are stored."""

    @property
    def network(self) -> Network:
        """The network."""

    @property
    def scan(self) -> LayerScan:
        """Its crossbar layers."""

    @property
    def placement(self) -> Placement:
        """Where they are stored."""


@dataclass(frozen=True)
class Confirmed:
    """A network with protected layers, searched in full.

    Attributes:
        inspection: The network and where the layers are stored that are left.
        nominal: Its score without deviation.
        score: The worst score of its searches.
        searches: Scores of all of them, that of `analyze` first.
        certified: Certified score; None: not asked.
        trials: Chips drawn; 0: not asked.
    """

    inspection: Stored
    nominal: Score
    score: float
    searches: tuple[float, ...]
    certified: float | None
    trials: int


@dataclass(frozen=True)
class Outcome:
    """What came of one kind of protection.

    Attributes:
        protection: The kind.
        found: The set, if any.
        confirmed: The network with it; None where there is none.
        tried: All sets tried.
        attacks: Attacks made.
        passes: Forward-backward passes of them.
        reason: Why there is no set; None where there is one.
    """

    protection: Protection
    found: Smallest
    confirmed: Confirmed | None
    tried: tuple[Tried, ...]
    attacks: int
    passes: int
    reason: str | None


@dataclass(frozen=True)
class SuggestEvidence:
    """Everything a suggestion is made of.

    Attributes:
        inspection: The network without any protection.
        runtime: The same, deployed, with its data.
        policy: What is asked.
        base: The search without any protection.
        missed: What is missed without any, in words; empty: nothing has to be protected.
        outcomes: What came of every kind of protection.
        settings: Resolved configuration.
        effort: Level of effort.
        device_argument: Device profile as the user named it.
        data_argument: Data set as the user named it.
        out: File that the profile goes to; None: none.
        timings: Where the time went.
    """

    inspection: Stored
    runtime: Runtime
    policy: Policy
    base: SearchResult
    missed: str
    outcomes: tuple[Outcome, ...]
    settings: tuple[Setting, ...]
    effort: str
    device_argument: str
    data_argument: str
    out: Path | None
    timings: Timings

    @property
    def network(self) -> Network:
        """The network as loaded."""
        return self.inspection.network

    @property
    def placement(self) -> Placement:
        """Where its layers are stored without any protection."""
        return self.inspection.placement

    @property
    def best(self) -> Outcome | None:
        """The outcome with the fewest devices; on a tie, the one that needs no digital hardware."""
        found = [outcome for outcome in self.outcomes if outcome.confirmed is not None]
        order = {TIGHTER: 0, DIGITAL: 1}
        return min(
            found,
            key=lambda outcome: (_devices(self, outcome), order[outcome.protection.kind]),
            default=None,
        )

    def outcome(self, kind: str) -> Outcome | None:
        """Return what came of a kind of protection; None: it was not asked for."""
        return next((outcome for outcome in self.outcomes if outcome.protection.kind == kind), None)


def describe_suggestion(evidence: SuggestEvidence) -> dict[str, Any]:
    """Return a suggestion as plain values that follow the published schema.

    Raises:
        SelfCheckError: They do not.
    """
    runtime, timings, best = evidence.runtime, evidence.timings, evidence.best
    made = SuggestModel(
        schema_version="1.0",
        tool=item.tool(),
        metric=item.metric(runtime.task),
        model=item.model(evidence),
        data=item.data(evidence),
        device=item.device(evidence.placement),
        settings=list(evidence.settings),
        policy=evidence.policy.to_dict(),
        effort=evidence.effort,  # type: ignore[arg-type]  # checked by pydantic
        clean=CleanScores(
            score=runtime.clean.value,
            quantised_score=runtime.nominal.value,
            samples=runtime.clean.num_samples,
        ),
        unprotected_score=evidence.base.score.value,
        unprotected_missed=evidence.missed or None,
        total_devices=_total(evidence),
        layers=_layers(evidence),
        digital=_set(evidence, DIGITAL),
        digital_reason=_reason(evidence, DIGITAL),
        tighter=_set(evidence, TIGHTER),
        tighter_reason=_reason(evidence, TIGHTER),
        best=None if best is None else best.protection.kind,  # type: ignore[arg-type]  # checked by pydantic
        tried=[
            _tried(evidence, outcome, tried)
            for outcome in evidence.outcomes
            for tried in outcome.tried
        ],
        attacks=sum(outcome.attacks for outcome in evidence.outcomes),
        passes=evidence.base.passes + sum(outcome.passes for outcome in evidence.outcomes),
        command=None if best is None else _command(evidence, best),
        warnings=[
            *runtime.warnings,
            *(f"{warned.code}: {warned.text}" for warned in evidence.base.warnings),
        ],
        timings=timings,
    )
    check_own(made)
    return made.model_dump()


def write_profile(evidence: SuggestEvidence, path: Path) -> None:
    """Write the profile with the rules of the best set, whole or not at all.

    Nothing where there is no set.

    Raises:
        SelfCheckError: The file does not say what was found.
        UsageError: It cannot be written.
    """
    best = evidence.best
    if best is None:
        return
    profile = _protected(evidence, best)
    text = tomli_w.dumps(_without_nothing(profile.to_dict()))
    if profile_of(tomllib.loads(text), shown=path.name).rules != profile.rules:
        raise SelfCheckError(
            f"profile must be read as it was written, got other rules ({path.name}); report this"
        )
    layers = ", ".join(
        name for name in evidence.placement.tensors if name in (best.found.chosen or ())
    )
    atomic_text(
        path,
        f"# Rules by `cimrobust suggest`: {best.protection.kind} protection of {layers}.\n{text}",
    )


def _layers(evidence: SuggestEvidence) -> list[SuggestedLayer]:
    tensors, total = evidence.placement.tensors, _total(evidence)
    return [
        SuggestedLayer(
            initializer=layer.initializer,
            operators=list(dict.fromkeys(use.op for use in layer.uses)),
            devices=tensors[layer.initializer].num_devices,
            share=tensors[layer.initializer].num_devices / total,
        )
        for layer in evidence.inspection.scan.layers
    ]


def _set(evidence: SuggestEvidence, kind: str) -> SuggestedSet | None:
    outcome = evidence.outcome(kind)
    if outcome is None or outcome.confirmed is None:
        return None
    confirmed, names = outcome.confirmed, outcome.found.chosen or frozenset()
    known = len(evidence.placement.profile.rules)
    rules = _protected(evidence, outcome).to_dict()["layer"][known:]
    return SuggestedSet(
        protection=kind,  # type: ignore[arg-type]  # checked by pydantic
        layers=[name for name in evidence.placement.tensors if name in names],
        devices=_devices(evidence, outcome),
        share=_devices(evidence, outcome) / _total(evidence),
        tightened=_tightened(evidence, outcome) if kind == TIGHTER else [],
        score=confirmed.score,
        quantised_score=confirmed.nominal.value,
        searches=list(confirmed.searches),
        certified=confirmed.certified,
        trials=confirmed.trials,
        is_smallest=outcome.found.is_smallest,
        options=_options(evidence, outcome),
        rules=tomli_w.dumps(_without_nothing({"layer": rules})),
    )


def _tightened(evidence: SuggestEvidence, outcome: Outcome) -> list[TightenedLayer]:
    assert outcome.confirmed is not None
    after = outcome.confirmed.inspection.placement.tensors
    return [
        TightenedLayer(
            initializer=name,
            tolerance=largest_programming_error(after[name].profile),
            before=largest_programming_error(tensor.profile),
        )
        for name, tensor in evidence.placement.tensors.items()
        if name in (outcome.found.chosen or ())
    ]


def _tried(evidence: SuggestEvidence, outcome: Outcome, tried: Tried) -> TriedSet:
    return TriedSet(
        protection=outcome.protection.kind,  # type: ignore[arg-type]  # checked by pydantic
        layers=list(tried.chosen),
        devices=tried.devices,
        share=tried.devices / _total(evidence),
        score=None if tried.score is None else tried.score.value,
        met=tried.met,
        how=tried.how,  # type: ignore[arg-type]  # checked by pydantic
        note=tried.note,
    )


def _reason(evidence: SuggestEvidence, kind: str) -> str | None:
    if not evidence.missed:
        return "the policy is met without any protection"
    outcome = evidence.outcome(kind)
    return "not asked for (--protect)" if outcome is None else outcome.reason


def _protected(evidence: SuggestEvidence, outcome: Outcome) -> DeviceProfile:
    """Return the profile with the rules of a set."""
    assert outcome.confirmed is not None
    profile = outcome.confirmed.inspection.placement.profile
    return replace(profile, name=f"{profile.name[: _MOST_NAME - len(_NAME_END)]}{_NAME_END}")


def _options(evidence: SuggestEvidence, outcome: Outcome) -> list[str]:
    """Return the options of `analyze` that protect a set, in place of those of this run."""
    if outcome.protection.kind == TIGHTER:
        written = evidence.out if outcome is evidence.best else None
        return ["--device", str(written or DEFAULT_FILE)]
    given = {setting.key: setting.value for setting in evidence.settings if not setting.is_default}
    options = ["--device", stated_place(evidence.device_argument)]
    options += ["--tolerance", str(given["tolerance"])] if "tolerance" in given else []
    earlier = [
        str(setting.value)
        for setting in evidence.settings
        if setting.key == "digital" and not setting.is_default
    ]
    rules = outcome.protection.rules(evidence.placement, outcome.found.chosen or ())
    return [
        *options,
        *(
            part
            for pattern in (*earlier, *(rule.match or "" for rule in rules))
            for part in ("--digital", pattern)
        ),
    ]


def _command(evidence: SuggestEvidence, outcome: Outcome) -> str:
    """Return the command that confirms a set."""
    parts = [
        "cimrobust",
        "analyze",
        stated_place(evidence.network.path),
        "--data",
        stated_place(evidence.data_argument),
        *_options(evidence, outcome),
    ]
    for setting in evidence.settings:
        if setting.key in ("seed", "limit") and not setting.is_default:
            parts += [f"--{setting.key}", str(setting.value)]
    return shlex.join([*parts, "--effort", evidence.effort, "--out", "out"])


def _devices(evidence: SuggestEvidence, outcome: Outcome) -> int:
    return num_devices(evidence.placement, outcome.found.chosen or ())


def _total(evidence: SuggestEvidence) -> int:
    return num_devices(evidence.placement, list(evidence.placement.tensors))


def _without_nothing(value: Any) -> Any:
    """Return plain values without those that TOML cannot hold or that certificates add."""
    if isinstance(value, Mapping):
        kept = {
            key: _without_nothing(part)
            for key, part in value.items()
            if part is not None and key != "defaults_used"
        }
        return {key: part for key, part in kept.items() if part != []}
    rows = isinstance(value, list | tuple)
    return [_without_nothing(part) for part in value] if rows else value
