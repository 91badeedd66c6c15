"""Which settings each command takes.

A field that is added to a model here is an option of the command line, a keyword of Python, a
setting that results state, and an entry of the reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, replace
from functools import cached_property
from typing import Any

from cimrobust.run import Run
from cimrobust.settings.analysis_settings import AnalysisSettings
from cimrobust.settings.command_settings import (
    RareSettings,
    ReplaySettings,
    RetrainSettings,
    SuggestSettings,
    SweepSettings,
    VerifySettings,
)
from cimrobust.settings.described_settings import DescribedSetting, described
from cimrobust.settings.subject_settings import SubjectSettings
from cimrobust.settings.training_settings import TrainingSettings

# Of a keyword that is not given: all processors, nobody is told, as `Run` itself cannot say.
_UNLESS_GIVEN: Mapping[str, Any] = {"workers": None, "progress": None}


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command and its settings.

    Attributes:
        name: Of the command, and of the function.
        parts: Models whose fields are its settings, in this order. What has no default is an
            argument of its own: no command can do without.
        without: Shared settings that it does not take.
        defaults: Defaults of shared settings that differ here.
        wording: What a shared setting means here, in place of its own docstring.
        stated_first: Settings in the order in which published results have stated them, because
            results are compared to the byte; others follow.
        unstated: Shared settings that published results of this command do not state.
    """

    name: str
    parts: tuple[type, ...]
    without: frozenset[str] = frozenset()
    defaults: Mapping[str, Any] = field(default_factory=dict)
    wording: Mapping[str, str] = field(default_factory=dict)
    stated_first: tuple[str, ...] = ()
    unstated: frozenset[str] = frozenset()

    @cached_property
    def settings(self) -> Mapping[str, DescribedSetting]:
        """All settings by name; one of several parts is that of the first."""
        known: dict[str, DescribedSetting] = {}
        for setting in (setting for part in self.parts for setting in described(part)):
            if setting.default is not MISSING and setting.name not in self.without | known.keys():
                known[setting.name] = self._here(setting)
        return known

    def _here(self, setting: DescribedSetting) -> DescribedSetting:
        """Return a setting with the default and the words of this command."""
        own = {**_UNLESS_GIVEN, **self.defaults}
        return replace(
            setting,
            default=own.get(setting.name, setting.default),
            text=self.wording.get(setting.name, setting.text),
        )


_CALIBRATION = "Data that converters take their ranges from, as for ``cimrobust analyze``."
_GRADIENTS = "Where gradients are computed."

# How long the search of an analysis is; other commands have searches of their own.
_SEARCH = frozenset({"passes", "attack_samples"})

ANALYZE = Command(
    name="analyze",
    parts=(SubjectSettings, AnalysisSettings, Run),
    stated_first=(
        "effort",
        "trials",
        "seed",
        "limit",
        "tolerance",
        "digital",
        "calibration",
        "diagnostics",
        "safety_class",
        "rare_below",
        "rare_budget",
        "skip_most_probable",
        "stop_early",
        "device_type",
        "labels_of",
        "transfer",
        "policy",
        "issued",
    ),
)

PLAN = Command(name="plan", parts=ANALYZE.parts, without=frozenset({"resume", "issued", "summary"}))

SWEEP = Command(
    name="sweep",
    parts=(SubjectSettings, SweepSettings, Run),
    without=frozenset({"tolerance", "labels_of"}) | _SEARCH,
    defaults={"effort": "quick"},
    wording={
        "calibration": _CALIBRATION,
        "effort": "How much to search at every tolerance, and how many chips to draw.",
        "device_type": "Where the search computes gradients.",
    },
    stated_first=(
        "tolerances",
        "digital",
        "effort",
        "trials",
        "require",
        "seed",
        "limit",
        "calibration",
        "witnesses",
    ),
    unstated=frozenset({"device_type"}),
)

RETRAIN = Command(
    name="retrain",
    parts=(SubjectSettings, RetrainSettings, TrainingSettings, Run),
    without=frozenset({"calibration", "labels_of"}) | _SEARCH,
    wording={"effort": "Effort of the certificates."},
)

RARE = Command(
    name="rare",
    parts=(SubjectSettings, RareSettings, Run),
    without=frozenset({"labels_of", "device_type"}) | _SEARCH,
    wording={"calibration": _CALIBRATION, "effort": "Of the search for that chip."},
)

SUGGEST = Command(
    name="suggest",
    parts=(SubjectSettings, SuggestSettings, Run),
    without=frozenset({"labels_of"}) | _SEARCH,
    wording={
        "calibration": _CALIBRATION,
        "effort": "Of the attacks on every set, and of the searches that confirm the last.",
        "device_type": _GRADIENTS,
    },
    stated_first=(
        "effort",
        "seed",
        "limit",
        "tolerance",
        "digital",
        "protect",
        "tighten",
        "most_share",
        "calibration",
        "policy",
        "device_type",
    ),
)

VERIFY = Command(
    name="verify",
    parts=(SubjectSettings, VerifySettings, Run),
    without=frozenset({"labels_of"}) | _SEARCH,
    defaults={"effort": "quick"},
    wording={
        "calibration": _CALIBRATION,
        "effort": "Of the search on the full box.",
        "device_type": _GRADIENTS,
    },
)

REPLAY = Command(
    name="replay",
    parts=(ReplaySettings, Run),
    without=frozenset({"seed", "effort", "device_type"}) | _SEARCH,
)

COMMANDS = {
    command.name: command
    for command in (ANALYZE, PLAN, SWEEP, RETRAIN, RARE, SUGGEST, VERIFY, REPLAY)
}
