"""Profile tables for what happens to a device besides programming; each is off unless stated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from cimrobust.device.curve import FractionOrCurve, NumberOrCurve
from cimrobust.device.table_types import Real, Seconds, Sigmas, Table


@dataclass(frozen=True)
class FaultsTable(Table):
    """Table [faults]: devices that cannot be programmed.

    They neither deviate nor drift, and lie outside the tolerance box.
    """

    stuck_low: Annotated[Real, Field(ge=0, lt=1)] = 0.0
    """Share of devices that stay at g_min."""
    stuck_high: Annotated[Real, Field(ge=0, lt=1)] = 0.0
    """Share of devices that stay at g_max."""

    @model_validator(mode="after")
    def _some_devices_work(self) -> FaultsTable:
        if self.stuck_low + self.stuck_high >= 1:
            raise ValueError("'stuck_low' and 'stuck_high' must add up to less than 1")
        return self


@dataclass(frozen=True)
class RelaxationTable(Table):
    """Table [relaxation]: gaussian change of the conductance after verification."""

    sigma: FractionOrCurve
    """Standard deviation of the change after verification, fraction of the range."""
    z: Sigmas = 3.0
    """Half-width of the tolerance box in sigmas."""


@dataclass(frozen=True)
class DriftTable(Table):
    """Table [drift]: change of the conductance with time, after relaxation.

    At or before t0 nothing has drifted yet. `power`: g(t) = g(t0) (t / t0)^-nu with nu Gaussian,
    one draw a device; g is the physical conductance, so it needs the window where g_min is not
    zero. `shift`: g(t) = g(t0) + a Gaussian whose mean and sd are mean + mean_per_log_second ln(t /
    t0) and likewise.
    """

    time_seconds: Annotated[Real, Field(ge=0, le=1e12)]
    """Time after programming at which the chip is used."""
    t0_seconds: Seconds = 1.0
    """Time after programming at which the conductance was verified. Before it nothing drifts."""
    model: Literal["power", "shift"] = "power"
    """`power`: g(t0) (t / t0)^-nu; `shift`: adds a Gaussian that grows with ln(t / t0)."""
    exponent_mean: NumberOrCurve = 0.0
    """For `power`: mean of nu."""
    exponent_sd: NumberOrCurve = 0.0
    """For `power`: standard deviation of nu, one draw a device."""
    mean: NumberOrCurve = 0.0
    """For `shift`: mean at t0, fraction of the range."""
    sd: NumberOrCurve = 0.0
    """For `shift`: standard deviation at t0."""
    mean_per_log_second: NumberOrCurve = 0.0
    """For `shift`: growth of the mean per factor e of time."""
    sd_per_log_second: NumberOrCurve = 0.0
    """For `shift`: growth of the standard deviation per factor e of time."""
    z: Sigmas = 3.0
    """Half-width of the tolerance box in sigmas of nu or of the shift."""
    compensation: Literal["none", "global"] = "none"
    """`global`: the outputs of a layer are multiplied by one number."""

    @property
    def log_time(self) -> float:
        """Return ln(t / t0), 0 at or before t0."""
        return float(np.log(max(self.time_seconds / self.t0_seconds, 1.0)))

    @model_validator(mode="after")
    def _fits_its_model(self) -> DriftTable:
        shift = ("mean", "sd", "mean_per_log_second", "sd_per_log_second")
        other = shift if self.model == "power" else ("exponent_mean", "exponent_sd")
        extra = [key for key in other if getattr(self, key) != 0.0]
        if extra:
            raise ValueError(f"model '{self.model}' takes no '{extra[0]}'")
        return self


@dataclass(frozen=True)
class ReadNoiseTable(Table):
    """Table [read_noise]: gaussian noise of a device at every read, independent between reads."""

    sigma: FractionOrCurve
    """Standard deviation of one read, fraction of the range. It is in no chip and in no box."""
