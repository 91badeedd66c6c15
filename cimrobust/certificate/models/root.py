"""The certificate as a whole, and its published schema."""

from __future__ import annotations

from typing import Any, Literal

from cimrobust.certificate.models.base import Block
from cimrobust.certificate.models.chips import MonteCarlo
from cimrobust.certificate.models.explained import Converters, Diagnostics
from cimrobust.certificate.models.found import WorstFound
from cimrobust.certificate.models.item import Data, Device, Machine, Mapping, Metric, Model, Setting, Tool
from cimrobust.certificate.models.judged import Assumption, Check, Reproduce, Timings, Verdict
from cimrobust.certificate.models.proven import Certified
from cimrobust.certificate.models.scores import Clean, EvaluationSet

SCHEMA_ID = "urn:cimrobust:certificate:1.5.0"


class CertificateModel(Block):
    """A robustness certificate."""

    schema_version: Literal["1.5.0"]
    tool: Tool
    machine: Machine | None
    machine_reason: str | None
    metric: Metric
    model: Model
    data: Data
    device: Device
    settings: list[Setting]
    mapping: Mapping
    converters: Converters | None
    converters_reason: str | None
    clean: Clean
    monte_carlo: MonteCarlo
    worst_found: WorstFound
    evaluation_set: EvaluationSet
    certified: Certified
    checks: list[Check]
    diagnostics: Diagnostics | None
    diagnostics_reason: str | None
    retraining: dict[str, Any] | None
    retraining_reason: str | None
    assumptions: list[Assumption]
    not_covered: list[str]
    policy: dict[str, Any] | None
    policy_reason: str | None
    verdict: Verdict
    seeds: dict[str, int]
    warnings: list[str]
    reproduce: Reproduce
    timings: Timings


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of certificate.json."""
    schema = CertificateModel.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": SCHEMA_ID, **schema}
