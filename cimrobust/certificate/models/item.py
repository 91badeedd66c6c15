"""What was tested: tool, network, data, devices, settings, mapping."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from cimrobust.records import Count, Fraction, Record


class Tool(Record):
    """What made the certificate."""

    name: str
    """Name of the tool."""
    version: str
    """Its version."""
    dependencies: dict[str, str]
    """Versions of the libraries that results depend on."""


class Metric(Record):
    """What a score is."""

    name: str
    """accuracy, rmse, mae, mse or max_error."""
    higher_is_better: bool
    """Direction."""
    unit: str
    """fraction, or the unit of the target."""
    description: str
    """The metric in words."""


class FileHash(Record):
    """One file of the model."""

    name: str
    """Name of the file."""
    sha256: str
    """Its SHA-256 digest, hexadecimal."""
    bytes: Count
    """Its size."""


class Tensor(Record):
    """A graph input or output; symbolic axes are text, unknown ones null."""

    name: str
    """Name in the graph."""
    dtype: str
    """NumPy name of the element type."""
    shape: list[int | str | None] | None
    """One entry an axis: a number, a symbol, or null; null as a whole: unknown rank."""


class Model(Record):
    """The network as it was loaded."""

    name: str
    """File name of the model."""
    files: list[FileHash]
    """The model file and its external data."""
    opset: dict[str, int]
    """Operator set version by domain; the empty name is the standard one."""
    ir_version: int
    """ONNX IR version."""
    producer: str
    """Producer that the file states."""
    operators: dict[str, int]
    """Nodes by operator."""
    parameters: Count
    """Elements of all initializers."""
    mapped_weights: Count
    """Those that are stored in devices."""
    mapped_fraction: Fraction
    """Their share."""
    inputs: list[Tensor]
    """Graph inputs."""
    outputs: list[Tensor]
    """Graph outputs."""
    batch: str
    """How samples are fed, in words."""
    notes: list[str]
    """What loading changed or noticed."""


class DecisionBlock(Record):
    """How the output is read."""

    output: str
    """Graph output that is read."""
    read: str
    """argmax, argmin, threshold, label or value."""
    metric: str
    """Metric of the decisions."""
    threshold: float | list[float] | None
    """Threshold of decisions read by one, or one for each decision of a sample."""
    axis: int | None
    """Class axis of the output; null: none."""
    axis_reason: str | None = None
    """Why the axis is that one, where it was not stated."""
    k: Count | None = None
    """A decision is correct if its label is among the k best; null: it is the best."""


class Labels(Record):
    """How labels are coded, and which of them are not counted."""

    classes: list[int | str] | None
    """Labels in the order of the classes; null: labels are indices."""
    first: int | None
    """Label of the first class, where labels count from another number than 0."""
    ignore: list[int]
    """Labels whose decisions are not counted."""
    ignored_samples: Count
    """Samples of which no decision is counted."""
    ignored_decisions: Count
    """Decisions that are not counted."""


class Data(Record):
    """The evaluation data.

    `labels_of` names the files of the network whose decisions are the labels, null unless
    `label_source` is ``model``; `broken` counts decisions that the model file itself does not have:
    its output is NaN or infinite.
    """

    description: str
    """The data set in words."""
    files: dict[str, str]
    """SHA-256 of its files by name."""
    available: Count
    """Samples there are."""
    used: Count
    """Samples evaluated."""
    steps: dict[str, list[dict[str, Any]]]
    """Preprocessing of every input, in order."""
    label_source: Literal["given", "self", "model"]
    """given with the data, or decisions of the network itself (self) or of another one (model)."""
    labels_of: dict[str, str] | None
    """SHA-256 of the files of that other network by name."""
    decision: DecisionBlock
    """How outputs are read."""
    labels: Labels | None = None
    """How labels are coded; null: as indices, all counted."""
    broken: Count | None = None
    """Decisions with NaN logits even without deviation; null: not counted by this version."""


class Device(Record):
    """The device profile in full, defaults filled in.

    `tolerance_fraction` is that of the profile's own devices, which all curves over the tolerance
    refer to; layers with a tolerance of their own keep its ratio to it.
    `largest_tolerance_fraction` is the largest of any layer: what every device is within.
    """

    profile: dict[str, Any]
    """The device profile, defaults filled in."""
    tolerance_fraction: Annotated[float, Field(ge=0)]
    """Half width of a device's interval, fraction of the full conductance range."""
    largest_tolerance_fraction: Annotated[float, Field(ge=0)]
    """Largest half width of any layer, where rules give layers devices of their own."""
    excluded_probability: Fraction
    """Probability that one device lies outside of its interval; 0 with write-verify."""


class CertifiedDevice(Device):
    """The device profile of a certificate, and its digest."""

    profile_sha256: str | None
    """SHA-256 of the profile's canonical form; null: made before schema 1.6."""
    devices_outside: float | None
    """Devices expected outside their interval, without faults; null: before schema 1.6."""
    chip_inside_probability: Fraction | None
    """Probability that all fault-free devices are inside; null: before schema 1.6."""


class ItemDescription(Record):
    """What the network is part of, as the policy describes it."""

    name: str | None
    """Name of the item; null: not stated."""
    version: str | None
    """Its version; null: not stated."""
    intended_use: list[str]
    """What it is for."""
    operational_domain: list[str]
    """Where it is used, and what its inputs are like there."""
    hazards: list[str]
    """Hazards that wrong decisions lead to."""
    safety_goals: list[str]
    """Safety goals that the requirements serve."""
    owner: list[str]
    """Who answers for the policy."""


class Setting(Record):
    """One setting of the run."""

    key: str
    """Name of the setting, as on the command line."""
    value: int | float | str | bool | None
    """Its value."""
    is_default: bool
    """Whether nobody set it."""


class Layer(Record):
    """One initializer in devices.

    `decided_by` says in words what decided for it, `rule` which entry of `device.profile.layer`,
    from 0; null: none, the profile's own tables hold.
    """

    initializer: str
    """Name of the initializer in the graph."""
    operators: list[str]
    """Operators that multiply by it."""
    nodes: list[str]
    """Nodes that multiply by it; several share one array."""
    shape: list[int]
    """Its shape."""
    groups: Count
    """Matrices that it holds."""
    rows: Count
    """Word lines of one matrix."""
    columns: Count
    """Bit lines of one matrix."""
    weight_bits: Count
    """Bits of a weight's magnitude."""
    slices: Count
    """Bit slices of a weight."""
    cells_per_weight: Count
    """Devices of one weight."""
    devices: Count
    """Devices of the layer."""
    tiles: Count
    """Crossbar tiles that it takes."""
    scale_min: float
    """Smallest weight of one level."""
    scale_max: float
    """Largest weight of one level."""
    box_radius: float
    """Largest deviation that the tolerance allows, in units of the weights."""
    levels_given: bool
    """Whether the file stores integers, so that nothing is rounded."""
    decided_by: str
    """The rule of the profile that decides for the layer, in words."""
    rule: Count | None
    """Its place among the rules of the profile, from 0; null: the profile itself."""
    device_bits: Count
    """Bits of one device."""
    coding: str
    """How signed weights are coded in devices."""
    tolerance_fraction: Annotated[float, Field(ge=0)]
    """Half width of a device's interval, fraction of the full conductance range."""
    tile_rows: Count
    """Word lines of one tile."""
    tile_columns: Count
    """Bit lines of one tile."""


class Unmapped(Record):
    """A node that stays digital."""

    node: str
    """Name of the node."""
    op: str
    """Its operator."""
    reason: str
    """Why it stays digital."""


class Mapping(Record):
    """What is stored in devices and what is not."""

    layers: list[Layer]
    """Initializers that are stored in devices."""
    unmapped: list[Unmapped]
    """Nodes that stay digital."""
    total_devices: Count
    """Devices of the network."""
    total_tiles: Count
    """Crossbar tiles of the network."""
