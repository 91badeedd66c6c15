"""Policy files: both forms, their ids, and what is refused because it asks for nothing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cimrobust.certificate.policy import Policy, read_policy, stop_rule
from cimrobust.certificate.policy_tables import CostTable
from cimrobust.errors import UsageError
from cimrobust.shipped_samples import sample_folder

ROW = '[[require]]\nid = "SR-1"\nclean_accuracy = 0.9\n'
DIGEST = "ab" * 32


def read(folder: Path, text: str) -> Policy:
    (folder / "p.toml").write_text(text)
    return read_policy(folder / "p.toml")


def test_shipped_policies_are_read():
    found = {
        path.name: read_policy(path)
        for path in sorted((sample_folder() / "policies").glob("*.toml"))
    }
    assert {"strict.toml", "statistical.toml", "tumours.toml"} <= found.keys()
    assert all(policy.rows for policy in found.values())


def test_the_older_table_becomes_rows_that_are_named_by_their_keys(tmp_path):
    policy = read(
        tmp_path,
        "[require]\nclean_accuracy = 0.9\ncertified_accuracy = 0.1\nkpp = { k = 1, accuracy = 0.9"
        " }\nsafety_class = { label = 3, recall = 0.9 }\neffort = 'quick'",
    )
    assert [(row.id, row.kind, row.samples) for row in policy.rows] == [
        ("clean_accuracy", "clean_accuracy", "these"),
        ("certified_accuracy", "certified_accuracy", "these"),
        ("kpp_1", "kpp", "these"),
        ("safety_class", "safety_class", "these"),
    ]
    assert policy.effort == policy.least_effort == "quick"


def test_percentiles_of_one_k_have_ids_of_their_own(tmp_path):
    kpp = [
        "k = 1, accuracy = 0.9",
        "k = 1, confidence = 0.99, accuracy = 0.8",
        "k = 1, confidence = 0.99, accuracy = 0.7",
        "k = 5, accuracy = 0.9",
    ]
    policy = read(tmp_path, f"[require]\nkpp = [{', '.join(f'{{ {one} }}' for one in kpp)}]")
    assert [row.id for row in policy.rows] == [
        "kpp_1@0.95",
        "kpp_1@0.99#1",
        "kpp_1@0.99#2",
        "kpp_5",
    ]


def test_rows_have_the_projects_ids_and_the_strictest_of_a_kind_is_known(tmp_path):
    policy = read(
        tmp_path,
        f'{ROW}[[require]]\nid = "SR-2"\ntext = "Keep it."\nclean_accuracy = 0.95\nsamples ='
        ' "beyond"\n',
    )
    assert [(row.id, row.text) for row in policy.rows] == [("SR-1", None), ("SR-2", "Keep it.")]
    assert policy.strictest("clean_accuracy", higher_is_better=True) == 0.95
    assert policy.strictest("clean_accuracy", higher_is_better=False) == 0.9
    assert policy.strictest("cost", higher_is_better=False) is None


def test_item_and_conditions_take_one_text_or_several(tmp_path):
    policy = read(
        tmp_path,
        '[item]\nname = "Brake"\nhazards = ["H1", "H2"]\nowner = "me"\n[conditions]\nmodel_sha256'
        f' = "sha256:{DIGEST.upper()}"\ndata_sha256 = ["{DIGEST}"]\ndevice ='
        f' "sha256:{DIGEST.upper()}"\neffort = "thorough"\n{ROW}',
    )
    assert policy.item is not None
    assert (policy.item.hazards, policy.item.owner, policy.item.safety_goals) == (
        ["H1", "H2"],
        ["me"],
        [],
    )
    asked = policy.conditions
    assert asked is not None
    assert (asked.model_sha256, asked.data_sha256, asked.device) == (
        [DIGEST],
        [DIGEST],
        f"sha256:{DIGEST}",
    )
    assert (policy.effort, policy.least_effort) == (None, "thorough")


BAD = {
    "both forms": (f"[require]\nclean_accuracy = 0.9\n{ROW}", "policy must be TOML"),
    "no requirement": ("[item]\nname = 'x'", "key 'require' is missing"),
    "an empty list": ("require = []", "at least 1 item"),
    "an empty table": ("[require]", "at least one requirement"),
    "no percentile in the list": ("[require]\nkpp = []", "at least one requirement, got none"),
    "one id twice": (ROW + ROW, "got 'SR-1' more than once"),
    "no id": ("[[require]]\nclean_accuracy = 0.9", "'require.0.id' is missing"),
    "two kinds": (
        f"{ROW}worst_found_accuracy = 0.9",
        "exactly one of .*got clean_accuracy, worst_found_accuracy",
    ),
    "no kind": ('[[require]]\nid = "a"', "a requirement must ask exactly one of .*got none"),
    "an unknown key of a row": (
        f"{ROW}sample = 'beyond'",
        "unknown key 'require.0.sample', nearest known key 'samples'",
    ),
    "an unknown key of the table": (
        "[require]\nclean = 0.9",
        "unknown key 'require.clean', nearest known key 'clean_accuracy'",
    ),
    "an id of the gate's own": (
        ROW.replace("SR-1", "condition: x"),
        "must not be 'verdict' nor begin",
    ),
    "an id of two lines": (
        ROW.replace("SR-1", "a\\nb"),
        "must be one line without spaces around it",
    ),
    "an id of control characters": (
        ROW.replace("SR-1", "a\\u0007b"),
        "must be text of printable characters",
    ),
    "no condition": (f"[conditions]\n{ROW}", "at least one condition"),
    "a tolerance that is none": (f"[conditions]\nleast_tolerance = 0\n{ROW}", "greater than 0"),
    "a digest that is none": (
        f"[conditions]\nmodel_sha256 = 'abc'\n{ROW}",
        "must be a SHA-256 digest, 64 hexadecimal digits",
    ),
    "a profile digest that is none": (
        f"[conditions]\ndevice = 'sha256:abc'\n{ROW}",
        "64 hexadecimal digits",
    ),
    "a version that is none": (f"[conditions]\ntool = 'new'\n{ROW}", "conditions.tool"),
    "costs in two forms": (
        f"{ROW}[cost]\nmatrix = [[0, 1], [1, 0]]\n[[cost.pair]]\nlabel = 0\ndecision = 1\ncost = 2",
        r"\[cost\] must have a matrix, or \[\[cost.pair\]\] tables, and not both",
    ),
    "costs that are not square": (
        f"{ROW}[cost]\nmatrix = [[0, 1, 2], [1, 0, 2]]",
        "as many columns as rows",
    ),
}


def test_a_run_stops_early_for_a_percentile_alone(tmp_path):
    policy = read(tmp_path, "[require]\nclean_accuracy = 0.9")
    with pytest.raises(
        UsageError, match="a run that may stop early needs a percentile requirement"
    ):
        stop_rule(policy, higher_is_better=True)


@pytest.mark.parametrize("name", BAD)
def test_bad_policies_are_refused_with_the_key(name, tmp_path):
    text, message = BAD[name]
    with pytest.raises(UsageError, match=message):
        read(tmp_path, text)


NOTHING = {
    "clean_accuracy = 0": "accuracy of 0",
    "worst_found_accuracy = 0.0": "accuracy of 0",
    "certified_accuracy = 0.0": "accuracy of 0",
    "kpp = { k = 1, accuracy = 0 }": "accuracy of 0",
    "kpp = { k = 99, confidence = 0.01, accuracy = 0.9 }": "coin's toss",
    "kpp = { k = 60, confidence = 0.55, accuracy = 0.9 }": "single drawn chip",
    "safety_class = { label = 1, recall = 0 }": "recall of 0",
    "cost = 1.0": "no decision costs more than 1",
}


@pytest.mark.parametrize("requirement", NOTHING)
def test_requirements_that_ask_for_nothing_are_refused(requirement, tmp_path):
    reason = re.escape(NOTHING[requirement])
    with pytest.raises(
        UsageError, match=rf"must ask for something .*'SR-1': .*{reason}.*leave the requirement out"
    ):
        read(tmp_path, f'[[require]]\nid = "SR-1"\n{requirement}\n')
    if not requirement.startswith("cost"):
        with pytest.raises(UsageError, match=reason):
            read(tmp_path, f"[require]\n{requirement}\n")


def test_what_a_cost_asks_depends_on_the_dearest_decision(tmp_path):
    row = '[[require]]\nid = "SR-1"\ncost = 4.0\n'
    assert read(tmp_path, f"{row}[cost]\nmatrix = [[0, 5], [1, 0]]\n").rows[0].cost == 4
    with pytest.raises(UsageError, match="no decision costs more than 3"):
        read(tmp_path, f"{row}[cost]\nmatrix = [[0, 3], [1, 0]]\n")


def test_the_largest_cost_is_that_of_a_pair_or_of_those_that_are_not_listed() -> None:
    cheap, dear = {"label": 0, "decision": 1, "cost": 0.2}, {"label": 1, "decision": 0, "cost": 7.0}
    assert CostTable.model_validate({"pair": [cheap]}).largest == 1.0
    assert CostTable.model_validate({"pair": [cheap, dear]}).largest == 7.0
    assert CostTable.model_validate({"matrix": [[0.0, 0.5], [0.3, 0.0]]}).largest == 0.5
