"""What an analysis makes of its arguments."""

from __future__ import annotations

from pathlib import Path

import pytest

from cimrobust.certificate.policy import read_policy, stop_rule
from cimrobust.errors import UsageError
from cimrobust.pipeline.resolved_analysis import ResolvedAnalysis, resolve
from cimrobust.settings.analysis_settings import AnalysisSettings
from cimrobust.settings.commands import ANALYZE
from cimrobust.settings.gathered import gather
from cimrobust.settings.subject_settings import SubjectSettings


def resolved(**options) -> ResolvedAnalysis:
    """Resolve what keywords of `analyze` ask for."""
    given = gather(ANALYZE, None, None, options)
    return resolve(
        given.part(SubjectSettings, model="model.onnx", data="data.toml"),
        given.part(AnalysisSettings),
        given.run(),
        out=Path("out"),
    )


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "strict.toml"
    path.write_text(
        "[require]\nsafety_class = { label = 3, recall = 0.9 }\nkpp = { k = 0.1, confidence = 0.99,"
        " accuracy = 0.9 }\n"
    )
    return path


def test_a_plain_request_states_defaults_only():
    assert [setting.key for setting in resolved().stated() if not setting.is_default] == []


def test_what_was_asked_for_is_stated_as_no_default_and_files_by_their_names(policy):
    asked = resolved(
        limit=5,
        tolerance=0.02,
        calibration="far/away/c.npz",
        labels_of="old/model.onnx",
        trials=1000,
        seed=1,
        skip_most_probable=True,
        policy=policy,
    )
    stated = {setting.key: setting.value for setting in asked.stated() if not setting.is_default}
    assert stated == {
        "trials": 1000,
        "seed": 1,
        "limit": 5,
        "tolerance": 0.02,
        "calibration": "c.npz",
        "safety-class": 3,
        "skip-most-probable": True,
        "labels-of": "model.onnx",
        "policy": "strict.toml",
    }


def test_the_user_overrules_the_safety_class_of_the_policy(policy):
    assert resolved(policy=policy).safety_class == 3
    assert resolved(policy=policy, safety_class=0).safety_class == 0


def test_a_run_that_may_stop_early_may_draw_ten_times_the_fewest_chips_that_can_pass(policy):
    fewest = stop_rule(read_policy(policy), higher_is_better=True).needed_trials
    assert fewest > 4603, "with a fixed number of chips 0.999^n <= 0.01 needs that many"
    asked = {"policy": policy, "stop_early": True}
    assert resolved(**asked).num_trials == 10 * fewest
    assert resolved(**asked, trials=fewest).num_trials == fewest


def test_the_most_probable_chip_is_searched_for_unless_it_is_left_out():
    assert resolved(rare_below=0.7).most_probable_below == 0.7
    assert resolved(rare_below=0.7, skip_most_probable=True).most_probable_below is None
    assert resolved().most_probable_below is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"effort": "much"}, "effort must be one of"),
        ({"trials": 0}, "trials must be at least 1, got 0 \\(--trials\\)"),
        ({"seed": -1}, "seed must be at least 0, got -1 \\(--seed\\)"),
        ({"workers": 0}, "workers must be at least 1, got 0 \\(--workers\\)"),
        ({"limit": 0}, "limit must be at least 1, got 0 \\(--limit\\)"),
        ({"tolerance": 1.5}, "tolerance must be in \\[0, 1\\], got 1.5"),
        (
            {"rare_budget": 100},
            "budget for rare failures needs a score that chips may miss, got none",
        ),
        ({"stop_early": True}, "a run that may stop early needs a policy to decide, got none"),
        ({"diagnostics": "nothing"}, "nothing"),
        ({"passes": 1}, "passes must be from .* got 1 \\(option --passes\\)"),
    ],
)
def test_wrong_arguments_name_their_option(change, message):
    with pytest.raises(UsageError, match=message):
        resolved(**change)


@pytest.mark.parametrize(
    ("option", "given"),
    [
        ("--shards", {"shards": "drawn"}),
        ("--cluster", {"cluster": "processes:2"}),
        ("--stop-early", {"stop_early": True}),
    ],
)
def test_chips_are_scored_on_a_device_or_elsewhere(option, given):
    with pytest.raises(UsageError, match=rf"in this process, .*, got {option}, .*give one of the"):
        resolved(trials_on="device", **given)


def test_where_chips_are_scored_is_stated_where_it_is_asked_for():
    def row(**given):
        return {entry.key: entry.value for entry in resolved(**given).stated()}.get("trials-on")

    assert row() is None
    assert row(trials_on="device") == "device"
