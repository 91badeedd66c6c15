"""Profile tables for what happens to a device besides programming; each is off unless stated."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cimrobust.device.curve import Number


@dataclass(frozen=True)
class FaultsTable:
    """Devices that cannot be programmed.

    A stuck device neither deviates nor drifts, and lies outside the tolerance box.

    Attributes:
        stuck_low: Share of devices that stay at g_min.
        stuck_high: Share of devices that stay at g_max.
    """

    stuck_low: float = 0.0
    stuck_high: float = 0.0


@dataclass(frozen=True)
class RelaxationTable:
    """Gaussian change of the conductance after verification.

    Attributes:
        sigma: Standard deviation, fraction of the full range.
        z: Half-width of the tolerance box in sigmas.
    """

    sigma: Number = 0.0
    z: float = 3.0


@dataclass(frozen=True)
class DriftTable:
    """Change of the conductance with time, after relaxation.

    At or before t0 nothing has drifted yet.

    Model ``power``: g(t) = g(t0) (t / t0)^-nu with nu Gaussian, one draw a device; g is the
    physical conductance, so it needs the window where
    g_min is not zero. Model ``shift``: g(t) = g(t0) + a Gaussian whose mean and sd are ``mean +
    mean_per_log_second ln(t / t0)`` and likewise.

    Attributes:
        time_seconds: Time after programming at which the chip is used.
        t0_seconds: Time after programming at which the conductance was verified.
        model: ``power`` or ``shift``.
        exponent_mean: Mean of nu.
        exponent_sd: Standard deviation of nu.
        mean: Mean shift, fraction of the full range.
        sd: Standard deviation of the shift.
        mean_per_log_second: Growth of the mean per factor e of time.
        sd_per_log_second: Growth of the standard deviation per factor e of time.
        z: Half-width of the tolerance box in sigmas of nu or of the shift.
        compensation: ``none``; or ``global``: the outputs of a layer are multiplied by one number,
            see `mapping.place.drift_factor`.
    """

    time_seconds: float
    t0_seconds: float = 1.0
    model: str = "power"
    exponent_mean: Number = 0.0
    exponent_sd: Number = 0.0
    mean: Number = 0.0
    sd: Number = 0.0
    mean_per_log_second: Number = 0.0
    sd_per_log_second: Number = 0.0
    z: float = 3.0
    compensation: str = "none"

    @property
    def log_time(self) -> float:
        """Return ln(t / t0), 0 at or before t0."""
        return float(np.log(max(self.time_seconds / self.t0_seconds, 1.0)))


@dataclass(frozen=True)
class ReadNoiseTable:
    """Gaussian noise of a device at every read, independent between reads.

    Attributes:
        sigma: Standard deviation, fraction of the full range.
    """

    sigma: Number = 0.0
