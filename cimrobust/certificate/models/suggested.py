"""A suggestion of layers to protect, field by field: what `cimrobust suggest --json` prints, and the source of its published schema.

`timings` are the only values that two runs of one command may differ in.
"""

from __future__ import annotations

from typing import Any, Literal

from cimrobust.certificate.models.base import Block, Count, Fraction
from cimrobust.certificate.models.item import Data, Device, Metric, Model, Setting, Tool
from cimrobust.certificate.models.judged import Timings
from cimrobust.certificate.models.swept import CleanScores

SUGGEST_SCHEMA_ID = "urn:cimrobust:suggest:1.0.0"


class SuggestedLayer(Block):
    """One layer that is stored in devices without any protection."""

    initializer: str
    operators: list[str]
    devices: Count
    share: Fraction


class TriedSet(Block):
    """One set of layers that was tried; `how` says what was looked at last, `score` is that of the worst chip known."""

    protection: Literal["digital", "tighter"]
    layers: list[str]
    devices: Count
    share: Fraction
    score: float | None
    met: bool
    how: Literal["known chip", "attack", "drawn chips", "search"]
    note: str


class TightenedLayer(Block):
    """A layer whose devices are verified more tightly."""

    initializer: str
    tolerance: Fraction
    before: float


class SuggestedSet(Block):
    """A set of layers that gives what is asked, confirmed by full searches of the network in which they are protected.

    `score` is the worst of `searches`. `is_smallest`: every set with fewer devices was refuted.
    `options` go to `cimrobust analyze` in place of the device options of this run.
    """

    protection: Literal["digital", "tighter"]
    layers: list[str]
    devices: Count
    share: Fraction
    tightened: list[TightenedLayer]
    score: float
    quantised_score: float
    searches: list[float]
    certified: float | None
    trials: Count
    is_smallest: bool
    options: list[str]
    rules: str


class SuggestModel(Block):
    """A suggestion."""

    schema_version: Literal["1.0.0"]
    tool: Tool
    metric: Metric
    model: Model
    data: Data
    device: Device
    settings: list[Setting]
    policy: dict[str, Any]
    effort: Literal["quick", "standard", "thorough"]
    clean: CleanScores
    unprotected_score: float
    unprotected_missed: str | None
    total_devices: Count
    layers: list[SuggestedLayer]
    digital: SuggestedSet | None
    digital_reason: str | None
    tighter: SuggestedSet | None
    tighter_reason: str | None
    best: Literal["digital", "tighter"] | None
    tried: list[TriedSet]
    attacks: Count
    passes: Count
    command: str | None
    warnings: list[str]
    timings: Timings


def suggest_json_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a suggestion."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": SUGGEST_SCHEMA_ID, **SuggestModel.model_json_schema()}
