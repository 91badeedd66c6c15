"""The certificate as a whole."""

from __future__ import annotations

from typing import Any, Literal

from cimrobust.certificate.models.base import Record
from cimrobust.certificate.models.chips import MonteCarlo
from cimrobust.certificate.models.explained import Converters, Diagnostics
from cimrobust.certificate.models.found import WorstFound
from cimrobust.certificate.models.item import Data, Device, Mapping, Metric, Model, Setting, Tool
from cimrobust.certificate.models.judged import Assumption, Check, Reproduce, Timings, Verdict
from cimrobust.certificate.models.proven import Certified
from cimrobust.certificate.models.scores import Clean, EvaluationSet


class CertificateModel(Record):
    """A robustness certificate."""

    NAME = "certificate"
    VERSION = "1.5"

    schema_version: Literal["1.5"]
    tool: Tool
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
