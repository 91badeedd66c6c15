"""What the commands of `devices` print with `--json`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from cimrobust.certificate.models.printed_base import Printed, PrintedList
from cimrobust.device.device_records import FittedTarget
from cimrobust.records import Count, Fraction, Record

Table = dict[str, Any]


class PrintedProfile(Record):
    """A device profile with every default filled in; keys of its tables as in a profile file."""

    schema_: Literal[1] = Field(alias="schema")
    """Version of the profile format."""
    name: str
    """Its name."""
    source: str
    """Where its numbers come from."""
    weight: Table
    """How a weight becomes devices."""
    device: Table
    """One device."""
    tile: Table
    """One array."""
    defaults_used: list[str]
    """Keys that the file leaves to their defaults."""
    dac: Table | None = None
    """Input converters; only where there are some."""
    adc: Table | None = None
    """Output converters; only where there are some."""
    window: Table | None = None
    """Conductance window; only where it is stated."""
    faults: Table | None = None
    """Stuck devices; only where there are some."""
    relaxation: Table | None = None
    """Relaxation; only where there is some."""
    drift: Table | None = None
    """Drift; only where there is some."""
    read_noise: Table | None = None
    """Read noise; only where there is some."""
    layer: list[Table] | None = None
    """Rules for layers; only where there are some."""


class DevicesShowOutput(PrintedProfile, Printed):
    """What `devices show` prints: one profile."""

    NAME = "devices-show-output"


class DevicesListOutput(PrintedList):
    """What `devices list` prints with `--json`: the profiles that are shipped."""

    NAME = "devices-list-output"
    ITEM = PrintedProfile


class PrintedLevel(Record):
    """One level of a device; deviations are fractions of the conductance range."""

    level: Count
    """Level."""
    conductance: float
    """Its normalised conductance."""
    lowest: float
    """Largest deviation downwards."""
    highest: float
    """Largest deviation upwards."""
    read_noise: float
    """Standard deviation of a read."""


class DevicesLevelsOutput(PrintedList):
    """What `devices show --levels` prints with `--json`: box and spread of every level."""

    NAME = "devices-levels-output"
    ITEM = PrintedLevel


class CheckedRule(Record):
    """One rule of a profile."""

    rule: str
    """Its name."""
    meaning: str
    """What it makes of its layers."""


class DevicesCheckOutput(Printed):
    """What `devices check` prints with `--json`: what a profile means."""

    NAME = "devices-check-output"

    name: str
    """Name of the profile."""
    weight_bits: Count
    """Bits of a weight."""
    mapping: str
    """How a weight becomes devices."""
    scale: str
    """What one scale is for."""
    device_bits: Count
    """Bits of a device."""
    tolerance_fraction: float
    """Largest deviation within the box, fraction of the conductance range."""
    excluded_probability: Fraction
    """Probability that a device leaves the box."""
    rules: list[CheckedRule]
    """Rules for layers."""


class DevicesFitOutput(Printed):
    """What `devices fit` prints with `--json`: the profile it made of measurements."""

    NAME = "devices-fit-output"

    profile: str
    """File of the profile."""
    name: str
    """Its name."""
    plot: str | None
    """File of the picture; null: none."""
    devices: Count
    """Devices measured."""
    outside_window: Count
    """Of them outside the conductance range."""
    levels: Count
    """Levels of a device."""
    box_low: float
    """Lower end of the box, fraction of the conductance range."""
    box_high: float
    """Upper end of the box."""
    left_out: float
    """Largest share of the devices of a target outside the box."""
    targets: list[FittedTarget]
    """Every target."""
