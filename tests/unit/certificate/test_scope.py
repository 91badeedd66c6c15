"""Assumptions and gaps follow the profile: nothing that is modelled is listed as missing, nothing
missing is left out.
"""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from cimrobust.certificate.blocks.scope import Scope, assumptions, not_covered, scope_of
from cimrobust.device.converter_tables import AdcTable, DacTable
from cimrobust.device.core_tables import DeviceTable
from cimrobust.device.effect_tables import DriftTable, FaultsTable, ReadNoiseTable, RelaxationTable
from cimrobust.device.load_profile import load_profile
from cimrobust.device.profile import DeviceProfile
from cimrobust.mapping.placement import Placement


def _evidence(
    *, converters: Any = None, labels: Any = (), has_twin: bool = True, **tables: Any
) -> Scope:
    profile: DeviceProfile = replace(load_profile("rram-write-verify-3pct"), **tables)
    evidence: Any = SimpleNamespace(
        placement=Placement(profile, {"w": SimpleNamespace(profile=profile, num_devices=100)}),
        runtime=SimpleNamespace(
            converters=converters,
            dataset=SimpleNamespace(labels=labels, source=SimpleNamespace(labels_of={})),
        ),
        scan=SimpleNamespace(unmapped=()),
        search=SimpleNamespace(has_twin=has_twin, twin_reason="no gradient"),
    )
    return scope_of(evidence)


_CASES = {
    "converters": (
        {"converters": SimpleNamespace(digital=()), "dac": DacTable(8), "adc": AdcTable(8)},
        "DAC and ADC quantisation",
        "Converters are linear",
    ),
    "faults": (
        {"faults": FaultsTable(0.02, 0.001)},
        "every device is assumed to reach",
        "2 % at the lowest and 0.1 % at the highest",
    ),
    "read noise": (
        {"converters": SimpleNamespace(digital=()), "read_noise": ReadNoiseTable(0.01)},
        "Read noise and any other change",
        "independent between reads",
    ),
    "drift": (
        {"drift": DriftTable(86_400.0 * 30, exponent_mean=0.01, compensation="global")},
        "programming: drift",
        "undoes the mean drift",
    ),
    "relaxation": (
        {"relaxation": RelaxationTable(0.01)},
        "relaxation, retention",
        "then relaxation",
    ),
}


@pytest.mark.parametrize("name", _CASES)
def test_an_effect_is_a_gap_or_an_assumption(name: str) -> None:
    tables, gap, assumption = _CASES[name]
    without, having = _evidence(), _evidence(**tables)
    assert gap in " ".join(not_covered(without))
    assert gap not in " ".join(not_covered(having))
    assert assumption in " ".join(row.text for row in assumptions(having))
    assert assumption not in " ".join(row.text for row in assumptions(without))


def test_drift_states_for_which_time_the_certificate_holds() -> None:
    evidence = _evidence(drift=DriftTable(86_400.0 * 30, exponent_mean=0.01))
    assert "until 30 days after it" in assumptions(evidence)[0].text
    assert "Any time later than 30 days after programming." in not_covered(evidence)


def test_an_asymmetric_box_is_stated_by_both_ends() -> None:
    device = replace(
        load_profile("rram-write-verify-3pct").device,
        tolerance=None,
        tolerance_low=0.01,
        tolerance_high=0.03,
    )
    assert (
        "within -1 % to +3 % of the conductance range"
        in assumptions(_evidence(device=device))[0].text
    )


def test_unbounded_relaxation_names_the_chance_to_leave_the_box() -> None:
    rows = not_covered(_evidence(relaxation=RelaxationTable(0.01)))
    assert any(row.startswith("Devices outside the box: after write-verify") for row in rows)


def test_faults_outside_the_box_are_said_to_be_so() -> None:
    rows = not_covered(_evidence(faults=FaultsTable(0.01, 0.0)))
    assert any("so the search and its witness have none" in row for row in rows)


def test_identifiers_count_up() -> None:
    rows = assumptions(_evidence(labels=None, faults=FaultsTable(0.01, 0.0)))
    assert [row.id for row in rows] == [f"A{number}" for number in range(1, len(rows) + 1)]
    assert "own decisions" in rows[-1].text


def test_without_write_verify_nothing_is_said_of_every_device() -> None:
    evidence = _evidence(
        device=DeviceTable(tolerance=None, distribution="gaussian", sigma=0.1, z=3.0)
    )
    assert assumptions(evidence)[0].text.startswith(
        "A device is programmed once, without write-verify, and ends outside of 30 %"
    )
    assert any("so that about 0.27 devices of a chip do" in row for row in not_covered(evidence))
