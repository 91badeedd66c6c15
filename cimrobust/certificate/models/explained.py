"""What explains the numbers."""

from __future__ import annotations

from cimrobust.certificate.models.device_level import WriteVerify
from cimrobust.certificate.models.diagnosed import DiagnosticCost, SafetyClass, ToleranceCurve
from cimrobust.certificate.models.item import Unmapped
from cimrobust.device_level.device_level_records import StuckDevices
from cimrobust.diagnose.diagnose_records import (
    ClassAttacks,
    FragileInputs,
    LayerAttacks,
    Transfer,
)
from cimrobust.montecarlo.montecarlo_records import Effect
from cimrobust.records import Count, Record, Rows


class ConvertedArray(Record):
    """Converters of one product of a crossbar node.

    Levels and codes are counted in the digital domain.
    """

    product: str
    """Node and operand of the product."""
    rows: Count
    """Word lines of one matrix."""
    columns: Count
    """Bit lines of one matrix."""
    row_tiles: Count
    """Tiles that a bit line is cut into."""
    planes: Count
    """Bit planes of the weights."""
    passes: Count
    """Steps in which an input vector is applied."""
    input_low: float
    """Smallest input of the converter, in units of the activations."""
    input_high: float
    """Largest input of the converter."""
    level_low: int
    """Lowest level of the input converter."""
    level_high: int
    """Highest level of the input converter."""
    zero_level: int
    """Level of input zero."""
    code_low: int | None
    """Lowest output code; null: there is no output converter."""
    code_high: int | None
    """Highest output code."""
    largest_sum: float | None
    """Full scale of the output converter, in units of level products; null: none, or one by
    tile."""
    sums: list[list[list[float]]] | None
    """Full scale by tile and plane; null: one for all."""
    conversions_per_vector: Count
    """Output conversions of one input vector."""


class Converters(Record):
    """The network through its converters, without deviation."""

    score: float
    """Score through the converters, without deviation."""
    correct: Count | None
    """Correct decisions that the score counts; null for a regression."""
    calibration_samples: Count
    """Samples that ranges were taken from; none of them is evaluated."""
    calibration_files: dict[str, str]
    """SHA-256 of their files by name."""
    arrays: list[ConvertedArray]
    """Converters of every product."""
    digital: list[Unmapped]
    """Nodes whose converters are not simulated."""


class Diagnostics(Record):
    """What explains the numbers; `costs` lists the diagnostics that ran."""

    effects: Rows[Effect]
    """Score with one more effect in every row."""
    costs: list[DiagnosticCost]
    """What every diagnostic cost."""
    layers: LayerAttacks | None
    """Layer by layer."""
    layers_reason: str | None
    """Why it is null."""
    classes: ClassAttacks | None
    """Class by class."""
    classes_reason: str | None
    """Why it is null."""
    safety_class: SafetyClass | None
    """The safety class."""
    safety_class_reason: str | None
    """Why it is null."""
    transfer: Transfer | None
    """Whether the worst chip is one of the chip or of the samples."""
    transfer_reason: str | None
    """Why it is null."""
    tolerance_curve: ToleranceCurve | None
    """Worst score over the tolerance."""
    tolerance_curve_reason: str | None
    """Why it is null."""
    fragile_inputs: FragileInputs | None
    """Inputs that break first."""
    fragile_inputs_reason: str | None
    """Why it is null."""
    stuck_devices: StuckDevices | None
    """What few stuck devices can do."""
    stuck_devices_reason: str | None
    """Why it is null."""
    write_verify: WriteVerify | None
    """Devices that are worth verifying more tightly."""
    write_verify_reason: str | None
    """Why it is null."""
