"""A suggestion of layers to protect, field by field.

What `cimrobust suggest --json` prints, and the source of its published schema.

`timings` are the only values that two runs of one command may differ in.
"""

from __future__ import annotations

from typing import Any, Literal

from cimrobust.certificate.models.item import Data, Device, Metric, Model, Setting, Tool
from cimrobust.certificate.models.judged import Timings
from cimrobust.certificate.models.result_file import ResultFile
from cimrobust.certificate.models.swept import CleanScores
from cimrobust.records import Count, Fraction, Record


class SuggestedLayer(Record):
    """One layer that is stored in devices without any protection."""

    initializer: str
    """Name of the initializer in the graph."""
    operators: list[str]
    """Operators that multiply by it."""
    devices: Count
    """Devices of the layer."""
    share: Fraction
    """Their share of all devices."""


class TriedSet(Record):
    """One set of layers that was tried.

    `how` says what was looked at last, `score` is that of the worst chip known.
    """

    protection: Literal["digital", "tighter"]
    """How the layers are protected."""
    layers: list[str]
    """The layers."""
    devices: Count
    """Devices of the layers."""
    share: Fraction
    """Their share of all devices."""
    score: float | None
    """Score of the worst chip known; null: none was tried."""
    met: bool
    """Whether that chip meets the policy."""
    how: Literal["known chip", "attack", "drawn chips", "search"]
    """What was looked at last."""
    note: str
    """What was seen, in words."""


class TightenedLayer(Record):
    """A layer whose devices are verified more tightly."""

    initializer: str
    """Name of the initializer in the graph."""
    tolerance: Fraction
    """Write-verify tolerance that it gets, fraction of the full conductance range."""
    before: float
    """Tolerance that it had."""


class SuggestedSet(Record):
    """A set of layers that gives what is asked.

    It is confirmed by full searches of the network in which its layers are protected. `score` is
    the worst of `searches`. `is_smallest`: every set with fewer devices was refuted. `options` go
    to `cimrobust analyze` in place of the device options of this run.
    """

    protection: Literal["digital", "tighter"]
    """How the layers are protected."""
    layers: list[str]
    """The layers."""
    devices: Count
    """Devices of the layers."""
    share: Fraction
    """Their share of all devices."""
    tightened: list[TightenedLayer]
    """Layers that are verified more tightly, with their tolerances."""
    score: float
    """Worst of the full searches."""
    quantised_score: float
    """Score of the protected network without deviation."""
    searches: list[float]
    """Worst score of every full search."""
    certified: float | None
    """Certified score; null: no bound, or none was asked for."""
    trials: Count
    """Chips drawn."""
    is_smallest: bool
    """Whether every set with fewer devices was refuted."""
    options: list[str]
    """Options for `cimrobust analyze` in place of the device options of the run."""
    rules: str
    """The same as tables of a device profile, TOML."""


class SuggestModel(ResultFile):
    """A suggestion."""

    NAME = "suggest"
    VERSION = "1.0"

    schema_version: Literal["1.0"]
    """Version of this format, MAJOR.MINOR."""
    tool: Tool
    """What made the file."""
    metric: Metric
    """What a score is."""
    model: Model
    """The network."""
    data: Data
    """The evaluation data."""
    device: Device
    """The devices."""
    settings: list[Setting]
    """Every setting of the run, defaults included."""
    policy: dict[str, Any]
    """The policy, as read."""
    effort: Literal["quick", "standard", "thorough"]
    """Effort of the search: quick, standard or thorough."""
    clean: CleanScores
    """Scores without deviation."""
    unprotected_score: float
    """Worst score without any protection."""
    unprotected_missed: str | None
    """Requirement that it misses; null: none, so nothing need be protected."""
    total_devices: Count
    """Devices of the network."""
    layers: list[SuggestedLayer]
    """Layers that are stored in devices."""
    digital: SuggestedSet | None
    """Smallest set found that must stay digital; null: none."""
    digital_reason: str | None
    """Why there is none."""
    tighter: SuggestedSet | None
    """Smallest set found that must be verified more tightly; null: none."""
    tighter_reason: str | None
    """Why there is none."""
    best: Literal["digital", "tighter"] | None
    """The set with fewer devices; null: none."""
    tried: list[TriedSet]
    """Sets that were tried, in order."""
    attacks: Count
    """Attacks that were made."""
    passes: Count
    """Forward and backward passes over the attack set."""
    command: str | None
    """Command that makes a certificate with the best set; null: there is none."""
    warnings: list[str]
    """What a reader has to know."""
    timings: Timings
    """Where the time went; differs from run to run."""
