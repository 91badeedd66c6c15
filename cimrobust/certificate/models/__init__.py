"""The certificate, field by field: what is in certificate.json, and the source of the published schema.

A field that does not apply to a run is null, and the field beside it whose name ends in ``reason`` says why. Scores are fractions (accuracy) or in the metric's
own unit (errors), over the samples used, with integer counts beside them. `timings`, and `seconds` of a search member, are the only values that two runs of one
command may differ in.
"""

from cimrobust.certificate.models.base import Block, Count, Fraction, Status, Word
from cimrobust.certificate.models.chips import (
    FirstOrder,
    Histogram,
    Kpp,
    MonteCarlo,
    RareEvent,
    RareRepeat,
    Requirement,
    Stopping,
    TargetOutcome,
    TwoSource,
)
from cimrobust.certificate.models.device_level import StuckCurve, StuckDevice, StuckDevices, StuckPoint, VerifyRow, WriteVerify
from cimrobust.certificate.models.diagnosed import Attacked, DiagnosticCost, LayerAttack, LayerAttacks
from cimrobust.certificate.models.explained import ConvertedArray, Converters, Diagnostics, Effect
from cimrobust.certificate.models.found import Member, Replay, Warned, WorstFound
from cimrobust.certificate.models.item import (
    Data,
    DecisionBlock,
    Device,
    FileHash,
    Layer,
    Mapping,
    Metric,
    Model,
    Setting,
    Tensor,
    Tool,
    Unmapped,
)
from cimrobust.certificate.models.judged import Assumption, Check, Reproduce, RequirementResult, Timings, Verdict
from cimrobust.certificate.models.likely import MostProbable, NormShare, ProbableStart, StoredChip
from cimrobust.certificate.models.proven import Certified, CertifiedPoint
from cimrobust.certificate.models.root import SCHEMA_ID, CertificateModel, json_schema
from cimrobust.certificate.models.scores import ClassRow, Clean, EvaluationSet, NotRun, SampleInterval

__all__ = [
    "SCHEMA_ID",
    "Assumption",
    "Attacked",
    "Block",
    "CertificateModel",
    "Certified",
    "CertifiedPoint",
    "Check",
    "ClassRow",
    "Clean",
    "ConvertedArray",
    "Converters",
    "Count",
    "Data",
    "DecisionBlock",
    "Device",
    "DiagnosticCost",
    "Diagnostics",
    "Effect",
    "EvaluationSet",
    "FileHash",
    "FirstOrder",
    "Fraction",
    "Histogram",
    "Kpp",
    "Layer",
    "LayerAttack",
    "LayerAttacks",
    "Mapping",
    "Member",
    "Metric",
    "Model",
    "MonteCarlo",
    "MostProbable",
    "NormShare",
    "NotRun",
    "ProbableStart",
    "RareEvent",
    "RareRepeat",
    "Replay",
    "Reproduce",
    "Requirement",
    "RequirementResult",
    "SampleInterval",
    "Setting",
    "Status",
    "Stopping",
    "StoredChip",
    "StuckCurve",
    "StuckDevice",
    "StuckDevices",
    "StuckPoint",
    "TargetOutcome",
    "Tensor",
    "Timings",
    "Tool",
    "TwoSource",
    "Unmapped",
    "Verdict",
    "VerifyRow",
    "Warned",
    "Word",
    "WorstFound",
    "WriteVerify",
    "json_schema",
]
