"""What it costs to write devices to a tolerance."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from cimrobust.array_shapes import Bool, Float64, Int64
    from cimrobust.device_level.tightening import Tightening


@dataclass(frozen=True)
class WriteCycles:
    """Model of the writes that a device takes.

    Every write misses its target by an independent Gaussian, until one lies within the tolerance.

    The number of writes is geometric with mean ``1 / erf(t / (sigma sqrt 2))``, for small
    tolerances ``sqrt(pi / 2) sigma / t``: proportional to sigma / t. An assumption:
    real programming corrects from where it is, and needs fewer. The default sigma is that of SWIM
    before write-verify.

    Attributes:
        write_sigma: Standard deviation of one write, as a fraction of the full range.

    References:
        Yan, Hu, Shi, "SWIM", DAC 2022, arXiv 2202.08395: sigma 0.1 before write-verify.
    """

    write_sigma: float = 0.1

    def mean(self, tolerance: float) -> float:
        """Return the mean number of writes for a tolerance, as a fraction of the full range.

        Infinite for 0.
        """
        accepted = math.erf(tolerance / (self.write_sigma * math.sqrt(2.0)))
        return 1.0 / accepted if accepted > 0 else math.inf

    def mean_of(
        self, tolerances: Float64[np.ndarray, "layers"], devices: Int64[np.ndarray, "layers"]
    ) -> float:
        """Return the mean number of writes over the devices of all layers.

        Args:
            tolerances: Of every layer, [layers]. Layers of tolerance 0 have no such number and are
                left out.
            devices: Devices of every layer, [layers].
        """
        counted = [
            (self.mean(float(tolerance)), int(count))
            for tolerance, count in zip(tolerances, devices, strict=True)
            if tolerance > 0
        ]
        total = sum(count for _, count in counted)
        return sum(mean * count for mean, count in counted) / total if total else math.inf

    def relative_extra(self, tightening: Tightening, chosen: Bool[np.ndarray, "devices"]) -> float:
        """Return the writes added by verifying some devices more tightly, over all writes without.

        Args:
            tightening: The devices.
            chosen: Which are verified more tightly, bool [devices].
        """
        starts, tolerances = tightening.space.starts, tightening.tolerances
        extra, base = 0.0, 0.0
        for tolerance, begin, end in zip(tolerances, starts[:-1], starts[1:], strict=True):
            if tolerance > 0:
                without = self.mean(float(tolerance))
                base += without * int(end - begin)
                extra += (self.mean(float(tolerance) / tightening.factor) - without) * int(
                    chosen[begin:end].sum()
                )
        return extra / base if base else 0.0
