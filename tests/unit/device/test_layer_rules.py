"""Rules of a profile for single layers: what they state, and how they follow the profile."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cimrobust.device.core_tables import DeviceTable
from cimrobust.device.curve import Curve
from cimrobust.device.intervals import tolerance_fraction
from cimrobust.device.load_profile import load_profile, profile_of
from cimrobust.device.profile import DeviceProfile
from cimrobust.device.profile_changes import with_digital, with_tolerance
from cimrobust.errors import UsageError

_BASE = 'schema = 1\nname = "rules"\n[device]\ntolerance = 0.04\nsigma = 0.02\n'


def read(tmp_path: Path, rules: str, base: str = _BASE) -> DeviceProfile:
    path = tmp_path / "rules.toml"
    path.write_text(base + rules)
    return load_profile(path)


def test_a_rule_takes_from_the_profile_what_it_leaves_out(tmp_path: Path) -> None:
    profile = read(tmp_path, '[[layer]]\nmatch = "a*"\nweight.bits = 4\ntile = { rows = 32 }\n')
    own = profile.of_rule(0)
    assert (own.weight.bits, own.weight.mapping, own.tile.rows, own.tile.columns) == (
        4,
        "sign_magnitude",
        32,
        128,
    )
    assert own.device == profile.device
    assert own.rules == ()


def test_layers_that_no_rule_decides_have_the_profile_itself(tmp_path: Path) -> None:
    profile = read(tmp_path, "[[layer]]\nposition = [0, 0]\ndigital = true\n")
    assert profile.of_rule(None) == read(tmp_path, "")


def test_a_tolerance_alone_scales_the_distribution_as_the_option_does(tmp_path: Path) -> None:
    profile = read(tmp_path, '[[layer]]\nmatch = "a"\ndevice.tolerance = 0.01\n')
    assert (
        profile.of_rule(0).device
        == with_tolerance(profile, 0.01).device
        == DeviceTable(tolerance=0.01, sigma=0.005)
    )


def test_a_tolerance_with_a_sigma_is_taken_as_it_stands(tmp_path: Path) -> None:
    own = read(
        tmp_path, '[[layer]]\nmatch = "a"\ndevice = { tolerance = 0.01, sigma = 0.02 }\n'
    ).of_rule(0)
    assert own.device == DeviceTable(tolerance=0.01, sigma=0.02)


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        (
            "tolerance_low = 0.01\ntolerance_high = 0.03",
            DeviceTable(tolerance_low=0.01, tolerance_high=0.03, sigma=0.02),
        ),
        ('distribution = "gaussian"', DeviceTable(distribution="gaussian", sigma=0.02)),
        (
            'distribution = "uniform"',
            DeviceTable(distribution="uniform", tolerance=0.04, sigma=0.02),
        ),
        (
            'distribution = "table"\nquantiles = [-0.01, 0.02]',
            DeviceTable(distribution="table", tolerance=0.04, sigma=0.02, quantiles=(-0.01, 0.02)),
        ),
    ],
)
def test_one_form_of_a_number_takes_the_place_of_another(
    tmp_path: Path, stated: str, expected: DeviceTable
) -> None:
    own = read(tmp_path, f'[[layer]]\nmatch = "a"\n[layer.device]\n{stated}\n').of_rule(0)
    assert own.device == expected


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (
            'match = "a"\ndevice.tolerence = 0.1',
            r"unknown key 'device.tolerence', nearest known key 'tolerance' .*\[\[layer\]\] 2",
        ),
        (
            'match = "a"\noperator = "Conv"\ndigital = true',
            "exactly one of 'match', 'operator' and 'position', got match and operator",
        ),
        ("digital = true", "exactly one of 'match', 'operator' and 'position', got none"),
        (
            'match = "a"\ndigital = true\nweight.bits = 4',
            "stays digital has no devices and takes no 'weight'",
        ),
        ('match = "a"', "a rule needs 'digital' or keys of 'weight', 'device' or 'tile'"),
        (
            "position = [2, 1]\ndigital = true",
            "'position' must name the first layer before the last",
        ),
        ("position = [1]\ndigital = true", "key 'layer.1.position'"),
        (
            'match = "a"\ndevice.tolerance = 1.5',
            r"key 'device.tolerance': must be in \[0, 1\], got 1.5 .*\[\[layer\]\] 2",
        ),
        ('match = "a"\nweight.bits = 40', r"key 'weight.bits': .*\[\[layer\]\] 2"),
        ('match = "a"\ndac.bits = 4', "unknown key 'layer.1.dac'"),
        (
            'match = "a"\ndevice = { distribution = "gaussian", tolerance = 0.1 }',
            r"takes no 'tolerance'.*\[\[layer\]\] 2",
        ),
    ],
)
def test_what_a_rule_may_not_say(tmp_path: Path, rule: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read(tmp_path, f'[[layer]]\nmatch = "b"\ndigital = true\n[[layer]]\n{rule}\n')


def test_measured_levels_of_the_profile_need_others_where_a_rule_changes_the_levels(
    tmp_path: Path,
) -> None:
    base = (
        'schema = 1\nname = "x"\n[device]\nbits = 1\ndistribution = "table"\nlevel_quantiles ='
        " [[-0.1, 0.1], [-0.1, 0.1]]\n"
    )
    with pytest.raises(
        UsageError, match=r"needs a row for each of the 4 levels, got 2 .*\[\[layer\]\] 1"
    ):
        read(tmp_path, '[[layer]]\nmatch = "a"\ndevice.bits = 2\n', base)


_RULES = """
[[layer]]
match = "a*"
weight = { bits = 5, mapping = "offset" }
device.tolerance = 0.004
[[layer]]
operator = "Gemm"
source = "our lab"
device = { tolerance_low = 0.01, tolerance_high = 0.03 }
[[layer]]
position = [-2, -1]
device = { bits = 3, sigma = { form = "polynomial", coefficients = [0.01, 0.002] } }
[[layer]]
match = "digital"
digital = true
[[layer]]
match = "kept"
digital = false
"""


def test_rules_survive_the_way_through_a_certificate(tmp_path: Path) -> None:
    profile = with_digital(read(tmp_path, _RULES), ["fc*"])
    for stated in (
        profile,
        with_tolerance(profile, 0.015),
        profile.with_effects(programming=False),
    ):
        again = profile_of(json.loads(json.dumps(stated.to_dict())), shown="certificate.json")
        assert again.rules == stated.rules
    assert profile.decider(1) == "rule 2 (operator Gemm, our lab)"
    assert profile.decider(5) == "rule 6 (match 'fc*', --digital)"
    assert profile.decider(None) == "profile"


def test_at_another_tolerance_layers_keep_the_ratio_of_theirs(tmp_path: Path) -> None:
    profile = read(tmp_path, _RULES)
    half = with_tolerance(profile, 0.02)
    assert half.of_rule(0).device == with_tolerance(profile.of_rule(0), 0.002).device
    assert (
        half.of_rule(1).device.tolerance_low,
        half.of_rule(1).device.tolerance_high,
    ) == pytest.approx((0.005, 0.015))
    assert isinstance(half.of_rule(2).device.sigma, Curve)
    assert half.of_rule(2).device.tolerance == 0.02
    assert half.of_rule(3) == half.of_rule(None)


def test_at_tolerance_zero_no_device_of_any_layer_deviates(tmp_path: Path) -> None:
    none = with_tolerance(read(tmp_path, _RULES), 0.0)
    assert all(tolerance_fraction(none.of_rule(index)) == 0.0 for index in (None, 0, 1, 2))


def test_no_tolerance_grows_beyond_the_whole_range(tmp_path: Path) -> None:
    wide = with_tolerance(read(tmp_path, '[[layer]]\nmatch = "a"\ndevice.tolerance = 0.4\n'), 0.5)
    assert wide.of_rule(0).device.tolerance == 1.0


def test_effects_are_switched_off_in_every_layer(tmp_path: Path) -> None:
    exact = read(tmp_path, _RULES).with_effects(programming=False)
    assert all(tolerance_fraction(exact.of_rule(index)) == 0.0 for index in (None, 0, 1, 2))
    assert exact.of_rule(2).device.bits == 3


def test_digital_layers_are_a_list_of_patterns() -> None:
    profile = load_profile("rram-write-verify-3pct")
    with pytest.raises(UsageError, match=r"list of patterns, got the text 'fc\*'"):
        with_digital(profile, "fc*")
    with pytest.raises(UsageError, match="must not be empty"):
        with_digital(profile, [""])
    assert with_digital(profile, []) is profile
