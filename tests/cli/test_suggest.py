"""`cimrobust suggest`: the set, the options that protect it, and that `analyze` confirms them."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from cimrobust.certificate.models.suggested import SuggestModel
from cimrobust.certificate.published_schemas import described_schema, schema_file
from cimrobust.cli.main import run

_COMMON = ("--tolerance", "0.15", "--limit", "80", "--workers", "1")


def _arguments(
    samples: Path, tmp_path: Path, *more: str, required: str = "worst_found_accuracy = 0.8"
) -> list[str]:
    policy = tmp_path / "policy.toml"
    policy.write_text(f"[require]\n{required}\n")
    model, data = (str(samples / f"breast_cancer_mlp.{end}") for end in ("onnx", "toml"))
    return [
        "suggest",
        model,
        "--data",
        data,
        "--policy",
        str(policy),
        *_COMMON,
        "--effort",
        "quick",
        *more,
    ]


def _found(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(capsys.readouterr().out)
    return made


def _analyzed(samples: Path, tmp_path: Path, *options: str) -> dict[str, Any]:
    out = tmp_path / "out"
    model, data = (str(samples / f"breast_cancer_mlp.{end}") for end in ("onnx", "toml"))
    rest = (
        "--limit",
        "80",
        "--workers",
        "1",
        "--effort",
        "quick",
        "--trials",
        "20",
        "--out",
        str(out),
    )
    assert run(["analyze", model, "--data", data, *options, *rest]) == 0
    made: dict[str, Any] = json.loads((out / "certificate.json").read_text())
    return made


def test_analyze_confirms_the_options_of_digital_layers(
    samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(_arguments(samples, tmp_path, "--protect", "digital", "--json")) == 0
    made = _found(capsys)
    assert made["unprotected_score"] < 0.8
    found = made["digital"]
    assert found["is_smallest"]
    assert made["tighter"] is None
    assert made["tighter_reason"] == "not asked for (--protect)"
    assert (
        sum(row["devices"] for row in made["layers"] if row["initializer"] in found["layers"])
        == found["devices"]
        < made["total_devices"]
    )
    certificate = _analyzed(samples, tmp_path, *found["options"])
    assert certificate["worst_found"]["score"] == found["searches"][0] >= 0.8, (
        "the search of analyze is one of those that confirmed the set"
    )
    assert [row["initializer"] for row in certificate["mapping"]["layers"]] == [
        row["initializer"] for row in made["layers"] if row["initializer"] not in found["layers"]
    ]


def test_analyze_confirms_the_profile_of_tighter_layers(
    samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profile = tmp_path / "protected.toml"
    assert (
        run(
            _arguments(
                samples,
                tmp_path,
                "--protect",
                "tighter",
                "--tighten",
                "0.01",
                "--out",
                str(profile),
                "--json",
            )
        )
        == 0
    )
    made = _found(capsys)
    found = made["tighter"]
    assert found["options"] == ["--device", str(profile)]
    assert shlex.split(made["command"])[:3] == [
        "cimrobust",
        "analyze",
        str(samples / "breast_cancer_mlp.onnx"),
    ]
    certificate = _analyzed(samples, tmp_path, *found["options"])
    assert certificate["worst_found"]["score"] == found["searches"][0] >= 0.8
    rows = {
        row["initializer"]: row["tolerance_fraction"] for row in certificate["mapping"]["layers"]
    }
    assert rows == {
        row["initializer"]: 0.01 if row["initializer"] in found["layers"] else 0.15
        for row in made["layers"]
    }
    assert {
        row["initializer"]: (row["tolerance"], row["before"]) for row in found["tightened"]
    } == dict.fromkeys(found["layers"], (0.01, 0.15))


def test_no_set_is_accepted_without_an_attack(
    samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(_arguments(samples, tmp_path, "--json")) == 0
    made = _found(capsys)
    Draft202012Validator(described_schema(SuggestModel)).validate(made)
    met = [row for row in made["tried"] if row["met"]]
    assert {row["how"] for row in met} == {"attack"}
    for kind in ("digital", "tighter"):
        cheaper = [
            row
            for row in made["tried"]
            if row["protection"] == kind and row["devices"] < made[kind]["devices"]
        ]
        assert cheaper
        assert not any(row["met"] for row in cheaper)
        assert all(row["score"] < 0.8 for row in cheaper)
    assert made["best"] in ("digital", "tighter")


def test_published_schema_is_that_of_the_models() -> None:
    assert json.loads(schema_file("suggest").read_text()) == described_schema(SuggestModel)


def test_nothing_is_protected_where_the_policy_is_met(
    samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profile = tmp_path / "protected.toml"
    assert (
        run(
            _arguments(
                samples, tmp_path, "--out", str(profile), required="worst_found_accuracy = 0.01"
            )
        )
        == 0
    )
    assert "The policy is met without any protection." in capsys.readouterr().out
    assert not profile.exists()


def test_no_set_within_the_share_is_inconclusive(
    samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(_arguments(samples, tmp_path, "--most-share", "0.02", "--protect", "digital")) == 3
    said = capsys.readouterr().out
    assert "no set of layers that was tried within 2 % of the devices meets the policy" in said
    assert "misses" in said


@pytest.mark.parametrize(
    ("required", "more", "message"),
    [
        ("clean_accuracy = 0.5", (), "policy must ask for a score of chips"),
        ("safety_class = { label = 1, recall = 0.5 }", (), "got safety_class"),
        (
            'worst_found_accuracy = 0.5\neffort = "thorough"',
            (),
            "effort must be at least that of the policy, got quick in place of thorough",
        ),
        (
            "clean_accuracy = 1.0\nworst_found_accuracy = 0.5",
            (),
            "clean score must reach what the policy asks",
        ),
        (
            "worst_found_accuracy = 0.5",
            ("--out", "folder/that/is/not/there.toml"),
            r"\.toml file in a folder that exists",
        ),
        (
            "worst_found_accuracy = 0.5",
            ("--out", "profile.json"),
            r"\.toml file in a folder that exists",
        ),
    ],
)
def test_what_cannot_be_suggested_for_is_wrong_usage(
    samples: Path,
    tmp_path: Path,
    required: str,
    more: tuple[str, ...],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(_arguments(samples, tmp_path, *more, required=required)) == 2
    assert message.replace("\\", "") in capsys.readouterr().err


def test_drawn_chips_are_enough_where_the_policy_asks_for_no_more(
    samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = "kpp = { k = 20, confidence = 0.9, accuracy = 0.94 }"
    code = run(
        _arguments(
            samples,
            tmp_path,
            "--tolerance",
            "0.4",
            "--protect",
            "digital",
            "--json",
            required=asked,
        )
    )
    made = _found(capsys)
    assert code == (0 if made["unprotected_missed"] is None or made["digital"] else 3)
    assert all(row["how"] in ("drawn chips", "search") for row in made["tried"])
    assert made["digital"] is None or made["digital"]["trials"] == 300
