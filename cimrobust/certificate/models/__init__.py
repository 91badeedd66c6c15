"""The certificate, field by field.

What is in certificate.json, and the source of the published schema.

A field that does not apply to a run is null, and the field beside it whose name ends in ``reason``
says why. Scores are fractions (accuracy) or in the metric's own unit (errors), over the samples
used, with integer counts beside them. `timings`, and `seconds` of a search member, are the only
values that two runs of one command may differ in.
"""

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
from cimrobust.certificate.models.device_level import WriteVerify
from cimrobust.certificate.models.diagnosed import DiagnosticCost, SafetyClass, ToleranceCurve
from cimrobust.certificate.models.explained import ConvertedArray, Converters, Diagnostics
from cimrobust.certificate.models.found import (
    Flipped,
    FlippedInput,
    Member,
    Replay,
    WorstFound,
    WorstLikelihood,
)
from cimrobust.certificate.models.item import (
    CertifiedDevice,
    Data,
    DecisionBlock,
    Device,
    FileHash,
    ItemDescription,
    Labels,
    Layer,
    Mapping,
    Metric,
    Model,
    Setting,
    Tensor,
    Tool,
    Unmapped,
)
from cimrobust.certificate.models.judged import (
    Assumption,
    Check,
    Reproduce,
    RequirementResult,
    Timings,
    Verdict,
)
from cimrobust.certificate.models.likely import MostProbable, NormShare, ProbableStart, StoredChip
from cimrobust.certificate.models.proven import (
    Certified,
    CertifiedPoint,
    CertifiedShare,
    LargestTolerance,
)
from cimrobust.certificate.models.result_file import Reach, Status, Strength, Word
from cimrobust.certificate.models.root import CertificateModel
from cimrobust.certificate.models.scores import (
    ClassRow,
    Clean,
    EvaluationSet,
    NotRun,
    SampleInterval,
)
from cimrobust.device_level.device_level_records import (
    StuckCurve,
    StuckDevice,
    StuckDevices,
    StuckPoint,
    VerifyRow,
)
from cimrobust.diagnose.diagnose_records import (
    Attacked,
    ClassAttack,
    ClassAttacks,
    FragileInput,
    FragileInputs,
    LayerAttack,
    LayerAttacks,
    TolerancePoint,
    Transfer,
    TransferDirection,
)
from cimrobust.engine.machine_record import Machine
from cimrobust.montecarlo.montecarlo_records import Effect
from cimrobust.records import Count, Fraction
from cimrobust.search.search_records import EffortCurve, EffortPoint, Warned

__all__ = [
    "Assumption",
    "Attacked",
    "CertificateModel",
    "Certified",
    "CertifiedDevice",
    "CertifiedPoint",
    "CertifiedShare",
    "Check",
    "ClassAttack",
    "ClassAttacks",
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
    "EffortCurve",
    "EffortPoint",
    "EvaluationSet",
    "FileHash",
    "FirstOrder",
    "Flipped",
    "FlippedInput",
    "Fraction",
    "FragileInput",
    "FragileInputs",
    "Histogram",
    "ItemDescription",
    "Kpp",
    "Labels",
    "LargestTolerance",
    "Layer",
    "LayerAttack",
    "LayerAttacks",
    "Machine",
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
    "Reach",
    "Replay",
    "Reproduce",
    "Requirement",
    "RequirementResult",
    "SafetyClass",
    "SampleInterval",
    "Setting",
    "Status",
    "Stopping",
    "StoredChip",
    "Strength",
    "StuckCurve",
    "StuckDevice",
    "StuckDevices",
    "StuckPoint",
    "TargetOutcome",
    "Tensor",
    "Timings",
    "ToleranceCurve",
    "TolerancePoint",
    "Tool",
    "Transfer",
    "TransferDirection",
    "TwoSource",
    "Unmapped",
    "Verdict",
    "VerifyRow",
    "Warned",
    "Word",
    "WorstFound",
    "WorstLikelihood",
    "WriteVerify",
]
