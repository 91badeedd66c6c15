"""What was tested: tool, network, data, devices, settings, mapping."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from cimrobust.certificate.models.base import Block, Count, Fraction


class Tool(Block):
    """What made the certificate."""

    name: str
    version: str
    dependencies: dict[str, str]


class Machine(Block):
    """What made it run: numbers may depend on it in their last bits. `instruction_sets` is null where the system does not say which there are."""

    processor: str
    architecture: str
    instruction_sets: list[str] | None
    onnxruntime: str
    onnxruntime_build: str


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
    threshold: float | list[float] | None
    axis: int | None
    axis_reason: str | None = None
    k: Count | None = None


class Labels(Block):
    """How labels are coded: by a list of classes or numbers from `first`; how many samples and decisions are not counted because their label says so."""

    classes: list[int | str] | None
    first: int | None
    ignore: list[int]
    ignored_samples: Count
    ignored_decisions: Count


class Data(Block):
    """The evaluation data.

    `labels_of` names the files of the network whose decisions are the labels, null unless `label_source` is ``model``; `broken` counts decisions that the model file itself does not have:
    its output is NaN or infinite.
    """

    description: str
    files: dict[str, str]
    available: Count
    used: Count
    steps: dict[str, list[dict[str, Any]]]
    label_source: Literal["given", "self", "model"]
    labels_of: dict[str, str] | None
    decision: DecisionBlock
    labels: Labels | None = None
    broken: Count | None = None


class Device(Block):
    """The device profile in full, defaults filled in.

    `tolerance_fraction` is that of the profile's own devices, which all curves over the tolerance refer to; layers with a tolerance of their own keep its ratio to it.
    `largest_tolerance_fraction` is the largest of any layer: what every device is within.
    """

    profile: dict[str, Any]
    tolerance_fraction: Annotated[float, Field(ge=0)]
    largest_tolerance_fraction: Annotated[float, Field(ge=0)]
    excluded_probability: Fraction


class Setting(Block):
    """One setting of the run."""

    key: str
    value: int | float | str | bool | None
    is_default: bool


class Layer(Block):
    """One initializer in devices.

    `decided_by` says in words what decided for it, `rule` which entry of `device.profile.layer`, from 0; null: none, the profile's own tables hold.
    """

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
    decided_by: str
    rule: Count | None
    device_bits: Count
    coding: str
    tolerance_fraction: Annotated[float, Field(ge=0)]
    tile_rows: Count
    tile_columns: Count


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
