"""What `inspect`, `rewrite`, `init` and `verify` print with `--json`."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from cimrobust.certificate.models.item import Unmapped
from cimrobust.certificate.models.listed import Sha256
from cimrobust.certificate.models.printed_base import Printed
from cimrobust.device_level.device_level_records import VerifyRow
from cimrobust.records import Count, Record


class PlacedLayer(Record):
    """One layer in crossbars."""

    initializer: str
    """Name of its weight."""
    operators: list[str]
    """Operators that read it."""
    shape: list[Count]
    """Shape of the weight."""
    groups: Count
    """Groups, each with a matrix of its own."""
    rows: Count
    """Rows of a group's matrix: inputs."""
    columns: Count
    """Columns of a group's matrix: outputs."""
    matrix: str
    """The matrix in words."""
    devices: Count
    """Devices that hold it."""
    weight_bits: Count
    """Bits of a weight."""
    device_bits: Count
    """Bits of a device."""
    coding: str
    """How a weight becomes devices."""
    tolerance: float
    """Write-verify tolerance, fraction of the conductance range."""
    slices: Count
    """Devices that share the bits of a weight."""
    tiles: Count
    """Tiles."""
    scale: list[float]
    """Smallest and largest scale of the weights."""
    scale_text: str
    """The scale in words."""
    box_radius: float
    """Largest deviation of a weight, in units of the weight."""
    levels_given: bool
    """Whether the file holds integer levels."""
    utilisation: float
    """Share of the cells of its tiles that hold a weight."""
    vectors: Count | None
    """Input vectors of one sample; null: not known before it runs."""
    passes: Count
    """Reads of the array for one vector, at most."""
    conversions: Count | None
    """Conversions of bit lines for one sample; null: not known, or no converter."""
    decided_by: str
    """Rule of the profile that decided for it, or `profile`."""


class DigitalNode(Unmapped):
    """One node that stays digital."""

    reason: str
    """Why it does."""


class InspectOutput(Printed):
    """What `inspect` prints with `--json`: what would be stored in crossbars, what not."""

    NAME = "inspect-output"

    model: str
    """Name of the file."""
    opset: Count
    """Operator set of the ONNX domain."""
    parameters: Count
    """Parameters of the network."""
    mapped_weights: Count
    """Weights that are stored in devices."""
    device: str
    """Device profile."""
    total_devices: Count
    """Devices."""
    total_tiles: Count
    """Tiles."""
    utilisation: float
    """Share of the cells that hold a weight."""
    conversions_per_sample: Count | None
    """Conversions of one sample, at most; null: not known, or no converter."""
    layers: list[PlacedLayer]
    """Layers in crossbars."""
    unmapped: list[DigitalNode]
    """Nodes with weights that stay digital."""
    notes: list[str]
    """What a reader has to know."""
    data: dict[str, Any] | None = None
    """How the data are understood; only with --data."""


class RewriteOutput(InspectOutput):
    """What `rewrite` prints with `--json`: the file that was written, and what it holds."""

    NAME = "rewrite-output"

    file: str
    """The file."""
    sha256: Sha256
    """Its SHA-256."""
    crossbar_nodes: dict[str, Count]
    """Crossbar nodes by function."""


class InitOutput(Printed):
    """What `init` prints with `--json`: the data description that it found."""

    NAME = "init-output"

    file: str | None
    """File that was written; null: it was printed only (--out -)."""
    text: str
    """The description, TOML."""
    metric: str | None
    """What scores are; null: the description is not complete."""
    clean: float | None
    """Score of the model file on the first samples; null: the description is not complete."""
    samples: Count | None
    """How many those are."""
    problem: str | None
    """What is still open; null: nothing."""


class WritesPerDevice(Record):
    """Write pulses of one device, on average."""

    without: float
    """With the tolerance of the profile."""
    verified: float
    """With the tighter tolerance."""
    write_sigma: float
    """Spread of one write, fraction of the conductance range."""


class VerifyOutput(Printed):
    """What `verify` prints with `--json`: what verifying devices more tightly gains."""

    NAME = "verify-output"

    model: str
    """Name of the file."""
    device: str
    """Device profile."""
    metric: str
    """What scores are."""
    samples: Count
    """Samples that scores are of."""
    crafting_samples: Count
    """Samples that gradients are of."""
    quantised: float
    """Score of the programmed network without deviation."""
    worst_found: float
    """Score of the worst chip found without tighter verification."""
    tighter: float
    """Factor by which the tolerance is divided."""
    total_devices: Count
    """Devices of the network."""
    writes_per_device: WritesPerDevice
    """Write pulses."""
    best_ranking: str
    """Ranking with the best scores."""
    rows: list[VerifyRow]
    """Every ranking and share."""
    random_draws: Count
    """Random rankings that the control is the mean of."""
    passes: Count
    """Passes over the data, forwards and backwards."""
    evaluations: Count
    """Chips that were evaluated."""
    list_: str = Field(alias="list")
    """Name of the file with the ranked devices."""
    listed_devices: Count
    """Devices in it."""
