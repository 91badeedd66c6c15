"""Shipped device profiles and what is derived from them."""

from __future__ import annotations

import dataclasses

import pytest

from cimrobust.device.distribution import excluded_probability
from cimrobust.device.intervals import deviation_interval, tolerance_fraction
from cimrobust.device.load_profile import list_profiles, load_profile
from cimrobust.device.profile_changes import with_tolerance
from cimrobust.errors import UsageError


@pytest.mark.parametrize("name", list_profiles())
def test_shipped_profiles_load_under_their_own_name_and_cite_a_source(name):
    profile = load_profile(name)
    assert profile.name == name
    assert len(profile.source) > 10


def test_the_profile_of_the_papers():
    profile = load_profile("rram-write-verify-3pct")
    assert (profile.weight.bits, profile.weight.scale, profile.weight.mapping) == (
        8,
        "tensor",
        "sign_magnitude",
    )
    assert (profile.device.bits, profile.device.tolerance, profile.device.sigma) == (2, 0.03, 0.01)
    assert deviation_interval(profile) == (-0.03, 0.03)


def test_defaults_are_filled_in_and_listed(tmp_path):
    path = tmp_path / "p.toml"
    path.write_text('schema = 1\nname = "p"\n[device]\ntolerance = 0.02\nsigma = 0.01\n')
    profile = load_profile(path)
    assert profile.to_dict()["weight"] == {
        "bits": 8,
        "scale": "tensor",
        "mapping": "sign_magnitude",
    }
    assert {"weight.bits", "device.bits", "tile.rows", "source"} <= set(profile.defaults_used)
    assert "device.sigma" not in profile.defaults_used


def test_without_write_verify_the_box_is_z_sigmas_and_says_what_it_leaves_out():
    profile = load_profile("pcm-no-verify")
    assert tolerance_fraction(profile) == pytest.approx(3 * 0.008)
    assert excluded_probability(profile) == pytest.approx(0.0027, rel=1e-3)


def test_another_tolerance_keeps_the_shape_of_the_distribution():
    profile = with_tolerance(load_profile("rram-write-verify-3pct"), 0.006)
    assert (profile.device.tolerance, profile.device.sigma) == (0.006, pytest.approx(0.002))
    verified = with_tolerance(load_profile("pcm-no-verify"), 0.012)
    assert (verified.device.distribution, verified.device.sigma) == (
        "truncated_gaussian",
        pytest.approx(0.004),
    )


def test_unknown_names_suggest_the_nearest():
    with pytest.raises(UsageError, match="'rram-write-verify-1pct'"):
        load_profile("rram-write-verify-1pc")


def test_measured_quantiles_must_lie_in_the_tolerance(tmp_path):
    path = tmp_path / "p.toml"
    path.write_text(
        'schema = 1\nname = "p"\n[device]\ntolerance = 0.02\ndistribution = "table"\nquantiles ='
        " [-0.03, 0, 0.01]\n"
    )
    with pytest.raises(UsageError, match="within 'tolerance'"):
        load_profile(path)


def test_profiles_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        load_profile("rram-uniform-3pct").name = "x"
