"""A policy: what a certificate has to show before a network may be shipped."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from cimrobust.counts import MAX_TRIALS
from cimrobust.errors import UsageError
from cimrobust.montecarlo.anytime import Target
from cimrobust.montecarlo.stopping import StopRule
from cimrobust.settings_file import read_settings

EFFORTS = ("quick", "standard", "thorough")

Threshold = Annotated[float, Field(ge=0)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class KppRequirement(_Strict):
    """All but the worst k percent of chips reach `accuracy`, with this confidence."""

    k: Annotated[float, Field(gt=0, lt=100)]
    """Percent of chips that may be worse."""
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95
    """Confidence that the bound has to hold with."""
    accuracy: Threshold
    """Least score of the others; of an error metric the largest."""

    @model_validator(mode="after")
    def _decidable(self) -> KppRequirement:
        # The fewest trials n for a bound: 1 - (1 - k/100)^n >= confidence (Wilks 1941).
        decay = -math.log1p(-self.k / 100)
        needed = -math.log1p(-self.confidence) / decay if decay > 0 else math.inf
        if not needed <= MAX_TRIALS:
            raise ValueError(
                f"no run can decide k = {self.k:g} % at confidence {self.confidence:g}: it needs {needed:.3g} trials or more, and a run has at most {MAX_TRIALS}"
            )
        return self


class SafetyRequirement(_Strict):
    """No chip lowers the recall of class `label` below `recall`."""

    label: Annotated[int, Field(ge=0, le=2**31 - 1)]
    """Class, by its index among the scores, from 0."""
    recall: Annotated[float, Field(ge=0, le=1)]
    """Least share of the samples of this class that every chip finds."""


class Require(_Strict):
    """Requirements; for error metrics, where lower is better, every ``accuracy`` is the largest error allowed."""

    clean_accuracy: Threshold | None = None
    """Least score of the model file itself, without deviation."""
    worst_found_accuracy: Threshold | None = None
    """Least score of the worst chip that the search finds. It can fail a network, never pass one
    alone."""
    certified_accuracy: Threshold | None = None
    """Least score that is proven for every chip of the tolerance box."""
    kpp: list[KppRequirement] = []
    """Percentile performance: one table, or a list of them."""
    safety_class: SafetyRequirement | None = None
    """Recall of one class, which gets a search of its own."""
    effort: Literal["quick", "standard", "thorough"] | None = None
    """Least effort of the run. A certificate made with less fails."""

    @field_validator("kpp", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return [value] if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _not_empty(self) -> Require:
        if not self.model_fields_set:
            raise ValueError("[require] must name at least one requirement")
        return self


class Policy(_Strict):
    """A policy file."""

    require: Require
    """What a certificate has to show."""

    def to_dict(self) -> dict[str, Any]:
        """Return the policy as plain values, without what it leaves open."""
        return self.model_dump(exclude_none=True)


def read_policy(path: Path) -> Policy:
    """Read a policy; raises UsageError that names file and every wrong key."""
    return read_settings(path, Policy, what="policy")


def stop_rule(policy: Policy, *, higher_is_better: bool) -> StopRule:
    """Return when a run of trials may stop early: as soon as the policy's percentile requirements are decided.

    Raises:
        UsageError: The policy has none.
    """
    if not policy.require.kpp:
        raise UsageError(
            "a run that may stop early needs a percentile requirement, got a policy without (--policy, [require] kpp); add one"
        )
    return StopRule(
        tuple(Target(float(asked.k), asked.confidence, asked.accuracy) for asked in policy.require.kpp), higher_is_better=higher_is_better
    )
