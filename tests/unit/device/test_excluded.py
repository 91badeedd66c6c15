"""The probability outside the box, computed where the box ends, is that of the whole."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cimrobust.device import distribution
from cimrobust.device.distribution import excluded_probability, final_quantile
from cimrobust.device.effect_tables import RelaxationTable
from cimrobust.device.intervals import final_intervals
from cimrobust.device.load_profile import load_profile
from cimrobust.device.profile import DeviceProfile

_DRIFTING = ("pcm-nandakumar-2019", "rram-cmo-hfox-0.2pct-1day", "pcm-hermes-1-device")


def _outside_of_all(profile: DeviceProfile, level: int) -> float:
    """Halve on the whole quantile function, a look at a time."""
    quantile = final_quantile(profile, level)
    low, high = (float(bound[level]) for bound in final_intervals(profile))

    def tail(falls: bool) -> float:
        least, most = -12.0, 12.0
        for _ in range(60):
            z = 0.5 * (least + most)
            at = z if falls else -z
            found = float(quantile(distribution.ndtr(np.array([-abs(at)])), at > 0)[0])
            holds = found < low - 1e-12 if falls else found > high + 1e-12
            least, most = (z, most) if holds else (least, z)
        return float(distribution.ndtr(least)) if least > -12.0 else 0.0

    return tail(True) + tail(False)


@pytest.mark.parametrize("name", _DRIFTING)
@pytest.mark.parametrize("level", [0, 1, 100, 255])
def test_near_the_ends_of_the_box_it_is_that_of_the_whole(name: str, level: int) -> None:
    profile = load_profile(name)
    quantile = final_quantile(profile, level)
    low, high = (float(bound[level]) for bound in final_intervals(profile))
    found = distribution._outside(quantile, low, high)  # one level of many
    # rtol 1e-13: products of matrices and vectors sum in another order for fewer rows.
    assert found == pytest.approx(_outside_of_all(profile, level), rel=1e-13, abs=1e-300)


def test_with_relaxation_of_a_truncated_error_too() -> None:
    profile = replace(load_profile("rram-write-verify-3pct"), relaxation=RelaxationTable(0.01))
    assert excluded_probability(profile) == pytest.approx(_outside_of_all(profile, 0), rel=1e-13)
