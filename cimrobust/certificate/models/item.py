"""What was tested: tool, network, data, devices, settings, mapping."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from cimrobust.certificate.models.base import Block, Count, Fraction


class Tool(Block):
    """What made the certificate."""

    name: str
    """Name of the tool."""
    version: str
    """Its version."""
    dependencies: dict[str, str]
    """Versions of the libraries that results depend on."""


class Metric(Block):
    """What a score is."""

    name: str
    """accuracy, rmse, mae, mse or max_error."""
    higher_is_better: bool
    """Direction."""
    unit: str
    """fraction, or the unit of the target."""
    description: str
    """The metric in words."""


class FileHash(Block):
    """One file of the model."""

    name: str
    """Name of the file."""
    sha256: str
    """Its SHA-256 digest, hexadecimal."""
    bytes: Count
    """Its size."""


class Tensor(Block):
    """A graph input or output; symbolic axes are text, unknown ones null."""

    name: str
    """Name in the graph."""
    dtype: str
    """NumPy name of the element type."""
    shape: list[int | str | None] | None
    """One entry an axis: a number, a symbol, or null; null as a whole: unknown rank."""


class Model(Block):
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


class DecisionBlock(Block):
    """How the output is read."""

    output: str
    """Graph output that is read."""
    read: str
    """argmax, argmin, threshold, label or value."""
    metric: str
    """Metric of the decisions."""
    threshold: float | None
    """Threshold of decisions read by one."""
    axis: int | None
    """Class axis of the output; null: none."""


class Data(Block):
    """The evaluation data; `labels_of` names the files of the network whose decisions are the labels, null unless `label_source` is ``model``."""

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


class Device(Block):
    """The device profile in full, defaults filled in."""

    profile: dict[str, Any]
    """The device profile, defaults filled in."""
    tolerance_fraction: Annotated[float, Field(ge=0)]
    """Half width of a device's interval, fraction of the full conductance range."""
    excluded_probability: Fraction
    """Probability that one device lies outside of its interval; 0 with write-verify."""


class Setting(Block):
    """One setting of the run."""

    key: str
    """Name of the setting, as on the command line."""
    value: int | float | str | bool | None
    """Its value."""
    is_default: bool
    """Whether nobody set it."""


class Layer(Block):
    """One initializer in devices."""

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


class Unmapped(Block):
    """A node that stays digital."""

    node: str
    """Name of the node."""
    op: str
    """Its operator."""
    reason: str
    """Why it stays digital."""


class Mapping(Block):
    """What is stored in devices and what is not."""

    layers: list[Layer]
    """Initializers that are stored in devices."""
    unmapped: list[Unmapped]
    """Nodes that stay digital."""
    total_devices: Count
    """Devices of the network."""
    total_tiles: Count
    """Crossbar tiles of the network."""
