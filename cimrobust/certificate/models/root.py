"""The certificate as a whole."""

from __future__ import annotations

from typing import Any, Literal

from cimrobust.certificate.models.chips import MonteCarlo
from cimrobust.certificate.models.explained import Converters, Diagnostics
from cimrobust.certificate.models.found import WorstFound
from cimrobust.certificate.models.item import (
    CertifiedDevice,
    Data,
    ItemDescription,
    Mapping,
    Metric,
    Model,
    Setting,
    Tool,
)
from cimrobust.certificate.models.judged import Assumption, Check, Reproduce, Timings, Verdict
from cimrobust.certificate.models.proven import Certified
from cimrobust.certificate.models.result_file import ResultFile
from cimrobust.certificate.models.scores import Clean, EvaluationSet
from cimrobust.engine.machine_record import Machine


class CertificateModel(ResultFile):
    """A robustness certificate."""

    NAME = "certificate"
    VERSION = "1.6"

    schema_version: Literal["1.6"]
    """Version of this format, MAJOR.MINOR."""
    tool: Tool
    """What made the file."""
    issued: str | None
    """Day of issue, YYYY-MM-DD, as stated by its maker; null: not stated, no clock is read."""
    issued_reason: str | None
    """Why there is none."""
    item: ItemDescription | None
    """What the network is part of; null: the policy does not say."""
    item_reason: str | None
    """Why there is none."""
    machine: Machine | None
    """Processor and libraries that the numbers were made on."""
    machine_reason: str | None
    """Why they are not stated."""
    metric: Metric
    """What a score is."""
    model: Model
    """The network."""
    data: Data
    """The evaluation data."""
    device: CertifiedDevice
    """The devices."""
    settings: list[Setting]
    """Every setting of the run, defaults included."""
    mapping: Mapping
    """What is stored in devices."""
    converters: Converters | None
    """The network through its converters."""
    converters_reason: str | None
    """Why there are none."""
    clean: Clean
    """Scores without deviation."""
    monte_carlo: MonteCarlo
    """Chips drawn from the stated distribution."""
    worst_found: WorstFound
    """The worst chip found."""
    evaluation_set: EvaluationSet
    """The finite evaluation set as an uncertainty of its own."""
    certified: Certified
    """The certified bound."""
    checks: list[Check]
    """Self-checks of the run, all of which held."""
    diagnostics: Diagnostics | None
    """What explains the numbers."""
    diagnostics_reason: str | None
    """Why there are none."""
    retraining: dict[str, Any] | None
    """Always null; retrain.json describes a re-training."""
    retraining_reason: str | None
    """Why it is null."""
    assumptions: list[Assumption]
    """What the claims rest on."""
    not_covered: list[str]
    """What the file says nothing about."""
    policy: dict[str, Any] | None
    """The policy, as read; null: none."""
    policy_reason: str | None
    """Why there is none."""
    policy_file: str | None
    """Name of the policy file; null: no policy, or made before schema 1.6."""
    policy_sha256: str | None
    """SHA-256 of the policy file; null: no policy, or made before schema 1.6."""
    verdict: Verdict
    """The verdict against the policy."""
    seeds: dict[str, int]
    """Seeds of the run by purpose."""
    warnings: list[str]
    """What a reader has to know."""
    reproduce: Reproduce
    """How to make it again."""
    timings: Timings
    """Where the time went; differs from run to run."""
