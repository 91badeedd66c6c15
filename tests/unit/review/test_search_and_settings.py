"""Members, effort and settings of a certificate that contradict others, each named by its check."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import pytest

from cimrobust.certificate.models import CertificateModel
from cimrobust.review.replay_check import ReplayCheck
from cimrobust.review.replayed_settings import settings_check
from cimrobust.review.search_numbers import search_check
from tests.unit.review.test_consistency import Plain, plain, put
from tests.unit.review.test_stated_parts import is_now, without

Check: TypeAlias = Callable[[CertificateModel], ReplayCheck]
WORST = "worst_found"


def setting(key: str, value: object) -> Callable[[Plain], None]:
    """Return what states a value of a setting."""

    def change(values: Plain) -> None:
        row = {"key": key, "value": value, "is_default": False}
        stated = [one["key"] for one in values["settings"]]
        place = stated.index(key) if key in stated else len(stated)
        values["settings"][place : place + 1] = [row]

    return change


def member(index: int, **changes: Any) -> Callable[[Plain], None]:
    return lambda values: values[WORST]["members"][index].update(changes)


def both(*changes: Callable[[Plain], None]) -> Callable[[Plain], None]:
    def change(values: Plain) -> None:
        for one in changes:
            one(values)

    return change


ENGINE = f"{WORST}.replay.engine_score"
NO_CHIP = put(f"{WORST}.member", is_now("no_deviation"))
#: The check, what is changed, and what it names.
CHANGES: list[tuple[Check, Callable[[Plain], None], str]] = [
    (search_check, member(0, name="dlr"), f"{WORST}.members"),
    (search_check, member(3, score=0.95), f"{WORST}.replay.engine_score"),
    (search_check, put(f"{WORST}.member", is_now("nobody")), f"{WORST}.member"),
    (search_check, put(f"{WORST}.has_twin", is_now(False)), f"{WORST}.twin_reason"),
    (search_check, both(member(3, score=1.0), put(ENGINE, is_now(1.0))), f"{WORST}.score"),
    (search_check, both(put(ENGINE, is_now(0.5)), NO_CHIP), f"{WORST}.member"),
    (search_check, put(f"{WORST}.members", without(8)), f"{WORST}.members"),
    (search_check, member(8, score=0.9), "members (worst_drawn_chip)"),
    (search_check, put("monte_carlo.min", is_now(0.9)), "members (worst_drawn_chip)"),
    (search_check, put(f"{WORST}.likelihood.log10_probability", is_now(-3.0)), "log10_probab"),
    (search_check, put(f"{WORST}.likelihood.statement", is_now("near")), "likelihood.statement"),
    (search_check, put(f"{WORST}.likelihood.meaning", is_now("all")), "likelihood.statement"),
    (search_check, put(f"{WORST}.likelihood.drawn_distance", is_now(38.6)), "drawn_distance"),
    (search_check, member(3, passes=2000), f"{WORST}.members.passes"),
    (search_check, put(f"{WORST}.crafting_samples", is_now(191)), f"{WORST}.crafting_samples"),
    (search_check, put(f"{WORST}.not_run", without(0)), f"{WORST}.not_run"),
    (search_check, put(f"{WORST}.members", without(1)), f"{WORST}.not_run"),
    (search_check, member(0, evaluations=10), f"{WORST}.members.evaluations"),
    (search_check, setting("passes", 100), f"{WORST}.members.passes"),
    (search_check, setting("attack-samples", 100), f"{WORST}.crafting_samples"),
    (
        search_check,
        put("certified.largest_tolerance.steps_per_octave", is_now(4)),
        "largest_tolerance.steps_per_octave",
    ),
    (search_check, put("diagnostics.effects.2.chips", is_now(3)), "diagnostics.effects.chips"),
    (settings_check, setting("effort", "quick"), "settings.effort"),
    (settings_check, setting("trials", 100), "settings.trials"),
    (settings_check, setting("seed", 1), "settings.seed"),
    (settings_check, setting("stop-early", True), "settings.stop-early"),
    (settings_check, setting("limit", 100), "data.used"),
    (settings_check, put("data.available", is_now(200)), "data.used"),
    (settings_check, put("data.labels.ignored_samples", is_now(1)), "data.used"),
    (settings_check, setting("policy", None), "settings.policy"),
    (settings_check, setting("issued", "2026-11-01"), "settings.issued"),
    (settings_check, setting("skip", "certify"), "settings.skip"),
    (settings_check, setting("transfer", "other.safetensors"), "settings.transfer"),
    (settings_check, put("seeds", is_now({"run": 3})), "seeds"),
    (settings_check, put("seeds", is_now({})), "seeds"),
    (settings_check, put("settings", lambda rows: [*rows, rows[2]]), "settings"),
    (settings_check, put("reproduce.command", is_now("cimrobust analyze")), "reproduce.command"),
    (settings_check, put("reproduce.command", lambda text: f"{text} --seed 3"), "reproduce"),
    (settings_check, put("reproduce.python", is_now("import os")), "reproduce.python"),
    (settings_check, put("reproduce.witness_check", is_now("True")), "reproduce.witness_check"),
]


@pytest.mark.parametrize("check", [search_check, settings_check])
def test_the_genuine_certificate_holds(check: Check) -> None:
    assert check(CertificateModel.model_validate(plain())).held


@pytest.mark.parametrize(("check", "change", "named"), CHANGES, ids=range(len(CHANGES)))
def test_one_changed_part_is_found_and_named(
    check: Check, change: Callable[[Plain], None], named: str
) -> None:
    values = plain()
    change(values)
    found = check(CertificateModel.model_validate(values))
    assert found.held is False
    assert named in found.detail


def test_a_limit_that_leaves_all_samples_is_one() -> None:
    for limit in (190, 1000):
        values = plain()
        setting("limit", limit)(values)
        check = settings_check(CertificateModel.model_validate(values))
        assert "data.used" not in check.detail


def test_certificates_of_earlier_versions_are_not_held_to_the_effort_of_today() -> None:
    values = plain()
    values["tool"]["version"] = "0.9.0"
    member(3, passes=2000)(values)
    member(0, evaluations=10)(values)
    assert search_check(CertificateModel.model_validate(values)).held
