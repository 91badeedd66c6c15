"""The certificate, field by field: what is in certificate.json, and the source of the published schema.

A field that does not apply to a run is null, and the field beside it whose name ends in ``reason`` says why. Scores are fractions (accuracy) or in the metric's
own unit (errors), over the samples used, with integer counts beside them. `timings`, and `seconds` of a search member, are the only values that two runs of one
command may differ in.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA_ID = "urn:cimrobust:certificate:1.2.0"

Word = Literal["PASS_CERTIFIED", "PASS_STATISTICAL", "FAIL", "INCONCLUSIVE"]
Status = Literal["met", "refuted", "open"]
Count = Annotated[int, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class Block(BaseModel):
    """Base of all blocks: no unknown fields, no NaN, no infinity."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, protected_namespaces=())


class Tool(Block):
    """What made the certificate."""

    name: str
    version: str
    dependencies: dict[str, str]


class Metric(Block):
    """What a score is."""

    name: str
    higher_is_better: bool
    unit: str
    description: str


class FileHash(Block):
    """One file of the model."""

    name: str
    sha256: str
    bytes: Count


class Tensor(Block):
    """A graph input or output; symbolic axes are text, unknown ones null."""

    name: str
    dtype: str
    shape: list[int | str | None] | None


class Model(Block):
    """The network as it was loaded."""

    name: str
    files: list[FileHash]
    opset: dict[str, int]
    ir_version: int
    producer: str
    operators: dict[str, int]
    parameters: Count
    mapped_weights: Count
    mapped_fraction: Fraction
    inputs: list[Tensor]
    outputs: list[Tensor]
    batch: str
    notes: list[str]


class DecisionBlock(Block):
    """How the output is read."""

    output: str
    read: str
    metric: str
    threshold: float | None
    axis: int | None


class Data(Block):
    """The evaluation data."""

    description: str
    files: dict[str, str]
    available: Count
    used: Count
    steps: dict[str, list[dict[str, Any]]]
    label_source: Literal["given", "self"]
    decision: DecisionBlock


class Device(Block):
    """The device profile in full, defaults filled in."""

    profile: dict[str, Any]
    tolerance_fraction: Annotated[float, Field(ge=0)]
    excluded_probability: Fraction


class Setting(Block):
    """One setting of the run."""

    key: str
    value: int | float | str | bool | None
    is_default: bool


class Layer(Block):
    """One initializer in devices."""

    initializer: str
    operators: list[str]
    nodes: list[str]
    shape: list[int]
    groups: Count
    rows: Count
    columns: Count
    weight_bits: Count
    slices: Count
    cells_per_weight: Count
    devices: Count
    tiles: Count
    scale_min: float
    scale_max: float
    box_radius: float
    levels_given: bool


class Unmapped(Block):
    """A node that stays digital."""

    node: str
    op: str
    reason: str


class Mapping(Block):
    """What is stored in devices and what is not."""

    layers: list[Layer]
    unmapped: list[Unmapped]
    total_devices: Count
    total_tiles: Count


class ClassRow(Block):
    """Right decisions of one class, without deviation and under the witness."""

    label: int
    samples: Count
    clean: Count
    worst: Count


class Clean(Block):
    """Scores without deviation."""

    score: float
    correct: Count | None
    samples: Count
    quantised_score: float
    quantised_correct: Count | None
    per_class: list[ClassRow] | None
    per_class_reason: str | None


class TwoSource(Block):
    """A percentile for chips and evaluation samples both drawn."""

    bound: float
    observed: float
    rank: Count
    samples: Count
    method: str
    spared_fraction: Fraction
    chip_error: Fraction
    sample_error: Fraction
    statement: str
    formula: str


class Kpp(Block):
    """K-th percentile performance, on the evaluation samples and beyond them."""

    k: float
    score: float
    lower_bound: float | None
    confidence: Fraction
    rank: Count
    needed_trials: Count
    statement: str
    two_source: TwoSource | None
    two_source_reason: str | None


class Requirement(Block):
    """How often a chip misses a required score."""

    threshold: float
    failures: Count
    rate: Fraction
    upper_bound: Fraction
    confidence: Fraction
    method: str


class TargetOutcome(Block):
    """What a run that may stop early says about one percentile requirement."""

    k: float
    confidence: Fraction
    threshold: float
    failures: Count
    outcome: Literal["met", "refuted", "open"]


class Stopping(Block):
    """A run that may stop early: its bounds hold after every trial at once."""

    max_trials: Count
    stopped: bool
    targets: list[TargetOutcome]
    rule: str
    statement: str


class RareRepeat(Block):
    """One repeat of multilevel splitting; `nearest` is the smallest norm of its failing chips in standard normal latents."""

    probability: Fraction
    reached: bool
    levels: Count
    evaluations: Count
    accepted: Fraction
    nearest: float | None


class FirstOrder(Block):
    """The most probable failing chip's first-order probability beside that of splitting."""

    reliability_index: float
    probability: Fraction
    ratio: float | None
    agrees: bool


class RareEvent(Block):
    """How likely a chip is that misses a score, by multilevel splitting; model-based."""

    threshold: float
    wrong_decisions: Count | None
    decisions: Count
    devices: Count
    probability: Fraction | None
    low: Fraction
    high: Fraction
    confidence: Fraction
    widened: float
    reliability_index: float | None
    reached: bool
    reason: str | None
    particles: Count
    killed: Count
    moves: Count
    budget: Count
    seed: int
    repeats: list[RareRepeat]
    first_order: FirstOrder | None
    first_order_reason: str | None
    statement: str
    formula: str
    label: str


class Histogram(Block):
    """Trials by score."""

    edges: list[float]
    counts: list[Count]


class MonteCarlo(Block):
    """Chips drawn from the stated distribution."""

    trials: Count
    seed: int
    samples: Count
    mean: float
    std: float
    min: float
    max: float
    worst_trial: Count
    kpp: list[Kpp]
    requirement: Requirement | None
    requirement_reason: str | None
    stopping: Stopping | None
    stopping_reason: str | None
    rare: RareEvent | None
    rare_reason: str | None
    histogram: Histogram


class Member(Block):
    """One member of the search ensemble; its score is a replay of its best pattern on all samples."""

    name: str
    score: float
    correct: Count | None
    seconds: float
    passes: Count
    evaluations: Count
    note: str


class NotRun(Block):
    """A member of the search ensemble that does not apply to this network."""

    name: str
    reason: str


class ConvertedArray(Block):
    """Converters of one product of a crossbar node; levels and codes are counted in the digital domain."""

    product: str
    rows: Count
    columns: Count
    row_tiles: Count
    planes: Count
    passes: Count
    input_low: float
    input_high: float
    level_low: int
    level_high: int
    zero_level: int
    code_low: int | None
    code_high: int | None
    largest_sum: float | None
    sums: list[list[list[float]]] | None
    conversions_per_vector: Count


class Converters(Block):
    """The network through its converters, without deviation."""

    score: float
    correct: Count | None
    calibration_samples: Count
    calibration_files: dict[str, str]
    arrays: list[ConvertedArray]
    digital: list[Unmapped]


class Effect(Block):
    """The score with one more effect; without chips, mean, low and high are one number."""

    effect: str
    mean: float
    low: float
    high: float
    chips: Count
    change: float


class Diagnostics(Block):
    """What explains the numbers."""

    effects: list[Effect]


class Warned(Block):
    """A named warning."""

    code: str
    text: str


class Replay(Block):
    """The witness file, run again in plain onnxruntime."""

    engine: str
    score: float
    correct: Count | None
    engine_score: float
    note: str


class WorstFound(Block):
    """The worst chip found."""

    score: float
    correct: Count | None
    samples: Count
    member: str
    members: list[Member]
    not_run: list[NotRun]
    has_twin: bool
    twin_reason: str | None
    effort: Literal["quick", "standard", "thorough"]
    crafting_samples: Count
    box_obeyed: bool
    replay: Replay
    witness: dict[str, str]
    warnings: list[Warned]
    confusion: list[list[Count]] | None
    confusion_reason: str | None


class SampleInterval(Block):
    """What the samples say of one accuracy on the distribution they were drawn from; chips given."""

    name: str
    score: Fraction
    low: Fraction
    high: Fraction
    method: str
    statement: str
    caveat: str | None


class EvaluationSet(Block):
    """The finite evaluation set as an uncertainty of its own."""

    samples: Count
    decisions: Count
    confidence: Fraction
    intervals: list[SampleInterval]
    not_stated: list[NotRun]


class CertifiedPoint(Block):
    """What is proven of a box whose intervals are `box_size` times those of the tolerance box."""

    box_size: float
    tolerance_fraction: float
    score: float
    correct: Count | None


class Certified(Block):
    """Sound bound for every chip of the box: the least accuracy, or the largest error; the curve is over the first `curve_samples` samples."""

    score: float | None
    reason: str | None
    correct: Count | None
    samples: Count
    method: str | None
    operators: dict[str, Count]
    curve: list[CertifiedPoint]
    curve_samples: Count


class Check(Block):
    """One self-check of the run."""

    id: str
    text: str
    held: bool
    detail: str


class Assumption(Block):
    """One assumption that the claims rest on."""

    id: str
    text: str
    how_checked: str
    effect_if_false: str


class RequirementResult(Block):
    """One requirement of the policy."""

    id: str
    text: str
    status: Status
    sentence: str


class Verdict(Block):
    """What the certificate says against the policy."""

    word: Word
    sentence: str
    requirements: list[RequirementResult]


class Reproduce(Block):
    """How to make the certificate again, and how to check its witness without this tool."""

    command: str
    python: str
    witness_check: str


class Timings(Block):
    """Seconds by stage; differs from run to run, like `seconds` of the search members."""

    workers: Count
    total_seconds: float
    stages: dict[str, float]


class CertificateModel(Block):
    """A robustness certificate."""

    schema_version: Literal["1.2.0"]
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


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of certificate.json."""
    schema = CertificateModel.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": SCHEMA_ID, **schema}
