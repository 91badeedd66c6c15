"""What explains the numbers."""

from __future__ import annotations

from cimrobust.certificate.models.base import Block, Count
from cimrobust.certificate.models.device_level import StuckDevices, WriteVerify
from cimrobust.certificate.models.diagnosed import (
    ClassAttacks,
    DiagnosticCost,
    FragileInputs,
    LayerAttacks,
    SafetyClass,
    ToleranceCurve,
    Transfer,
)
from cimrobust.certificate.models.item import Unmapped


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
    """What explains the numbers; `costs` lists the diagnostics that ran."""

    effects: list[Effect]
    costs: list[DiagnosticCost]
    layers: LayerAttacks | None
    layers_reason: str | None
    classes: ClassAttacks | None
    classes_reason: str | None
    safety_class: SafetyClass | None
    safety_class_reason: str | None
    transfer: Transfer | None
    transfer_reason: str | None
    tolerance_curve: ToleranceCurve | None
    tolerance_curve_reason: str | None
    fragile_inputs: FragileInputs | None
    fragile_inputs_reason: str | None
    stuck_devices: StuckDevices | None
    stuck_devices_reason: str | None
    write_verify: WriteVerify | None
    write_verify_reason: str | None
