"""Numbers that no run can take are refused with their reason, before any work."""

from __future__ import annotations

import math

import pytest

from cimrobust.certificate.policy import read_policy
from cimrobust.counts import MAX_TRIALS, check_count, check_number
from cimrobust.errors import UsageError
from cimrobust.montecarlo.quantile import needed_trials
from cimrobust.pipeline.resolved_profile import resolve_profile


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        (
            "trials",
            9999999999999999,
            (
                "trials must be at most 10000000, because their scores are held in memory, got"
                " 9999999999999999"
            ),
        ),
        ("trials", 0, "at least 1, got 0"),
        ("workers", 10**9, "workers must be at most 1024"),
        ("limit", -1, "at least 1"),
        ("seed", 2**70, "seed must be at most 9223372036854775807"),
        ("epochs", 10**10, "epochs must be at most 1000000000"),
    ],
)
def test_counts_have_limits(name, value, text):
    with pytest.raises(UsageError, match=text):
        check_count(name, value)


@pytest.mark.parametrize("sign", [1, -1])
def test_numbers_that_cannot_be_written_out_are_described(sign):
    with pytest.raises(UsageError, match="got a number of 16610 bits"):
        check_count("limit", sign * 10**5000)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_must_be_finite(value):
    with pytest.raises(
        UsageError, match=r"below must be finite, got .* \(--below\); give another number"
    ):
        check_number("below", value)


def test_numbers_above_another():
    check_number("tighter", 2.0, above=1)
    with pytest.raises(UsageError, match="tighter must be finite and above 1, got 1"):
        check_number("tighter", 1.0, above=1)


@pytest.mark.parametrize("tolerance", [math.nan, math.inf, -1e-9, 1e300])
def test_tolerances_are_fractions_for_every_command(tolerance):
    with pytest.raises(UsageError, match=r"tolerance must be in \[0, 1\]"):
        resolve_profile("rram-write-verify-3pct", tolerance)


def policy(folder, kpp):
    (folder / "policy.toml").write_text(f"[require]\nkpp = {{ {kpp} }}\n")
    return read_policy(folder / "policy.toml")


@pytest.mark.parametrize(
    "kpp",
    [
        "k = 1e-300, accuracy = 0.5",
        "k = 5e-324, accuracy = 0.5",
        "k = 1e-5, accuracy = 0.9",
        "k = 2e-5, confidence = 0.99, accuracy = 0.9",
    ],
)
def test_percentiles_that_no_number_of_trials_decides_are_refused(kpp, tmp_path):
    with pytest.raises(
        UsageError,
        match=rf"require.kpp.0': no run can decide k = .* and a run has at most {MAX_TRIALS}",
    ):
        policy(tmp_path, kpp)


@pytest.mark.parametrize(
    "kpp",
    [
        "k = 1e-4, accuracy = 0.5",
        "k = 94.99, accuracy = 0.5",
        "k = 1, confidence = 0.9999999999999999, accuracy = 0.5",
    ],
)
def test_percentiles_that_trials_decide_are_accepted(kpp, tmp_path):
    assert len(policy(tmp_path, kpp).require.kpp) == 1


@pytest.mark.parametrize(
    "kpp",
    [
        "k = 1, accuracy = nan",
        "k = nan, accuracy = 1",
        "k = 1, confidence = 1, accuracy = 1",
        "k = 1, confidence = 0, accuracy = 1",
        "k = 1, accuracy = inf",
        "k = 1, accuracy = -1",
    ],
)
def test_requirements_that_are_no_numbers_are_refused(kpp, tmp_path):
    with pytest.raises(UsageError, match=r"require\.kpp\.0"):
        policy(tmp_path, kpp)


def test_trials_for_a_tiny_percentile_are_not_counted_for_ever():
    with pytest.raises(UsageError, match="percentile must be one that trials can decide"):
        needed_trials(1e-300, 0.95)
