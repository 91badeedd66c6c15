"""A profile written into a certificate is read back as the same profile."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cimrobust.device.converter_tables import AdcTable, DacTable
from cimrobust.device.effect_tables import DriftTable, FaultsTable, ReadNoiseTable, RelaxationTable
from cimrobust.device.load_profile import list_profiles, load_profile, profile_of
from cimrobust.device.profile_changes import with_tolerance
from cimrobust.errors import UsageError


@pytest.mark.parametrize("name", list_profiles())
@pytest.mark.parametrize("tolerance", [None, 0.02])
def test_shipped_profiles(name: str, tolerance: float | None) -> None:
    profile = load_profile(name)
    profile = profile if tolerance is None else with_tolerance(profile, tolerance)
    again = profile_of(profile.to_dict(), shown="certificate.json")
    assert replace(again, defaults_used=profile.defaults_used) == profile


def test_every_table() -> None:
    tables = {
        "dac": DacTable(7, 2, "signed", 99.0),
        "adc": AdcTable(6, False, "full_scale", subtract="digital"),
        "faults": FaultsTable(0.1, 0.2),
        "relaxation": RelaxationTable(0.01),
        "read_noise": ReadNoiseTable(0.02),
        "drift": DriftTable(1e5, exponent_mean=0.01, exponent_sd=0.001, compensation="global"),
    }
    profile = replace(load_profile("rram-write-verify-3pct"), **tables)
    again = profile_of(profile.to_dict(), shown="certificate.json")
    assert replace(again, defaults_used=profile.defaults_used) == profile


def test_what_is_wrong_names_where_it_stands() -> None:
    tables = load_profile("rram-write-verify-3pct").to_dict()
    tables["device"]["sigma"] = -1.0
    with pytest.raises(UsageError, match=r"device.sigma.*\(certificate.json\)"):
        profile_of(tables, shown="certificate.json")
