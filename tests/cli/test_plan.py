"""A plan, and a run that fits into a time."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

import cimrobust
from cimrobust.cli.main import run
from cimrobust.pipeline import planned_analysis
from cimrobust.planning.measured_speed import BoundSpeed, ChipSpeed, PassSpeed, Speed
from tests.cli.printed import check_printed

#: A machine on which a network of thirty samples takes minutes.
SLOW = Speed(
    ChipSpeed(0.5, 0.01),
    PassSpeed(1.0, 0.01, 0.1, 1e4, 1000, None, ""),
    BoundSpeed(1.0, 0.0, 0.0, False, ""),
)


@pytest.fixture
def given(samples: Path) -> list[str]:
    model = str(samples / "breast_cancer_mlp.onnx")
    data = str(samples / "breast_cancer_mlp.toml")
    return [model, "--data", data, "--limit", "60", "--workers", "1"]


def numbers(folder: Path) -> dict[str, Any]:
    """Return a certificate without the times that differ from run to run."""
    text = (folder / "certificate.json").read_text()
    found = json.loads(re.sub(r'"seconds": [0-9.e-]+', '"seconds": 0', text))
    return {key: value for key, value in found.items() if key != "timings"}


def test_a_plan_follows_its_schema_and_names_every_stage(given: list[str], capsys: Any) -> None:
    assert run(["plan", *given, "--effort", "quick", "--json"]) == 0
    plan = check_printed("plan-output", capsys.readouterr().out)
    assert [stage["stage"] for stage in plan["stages"]] == [
        "load",
        "monte_carlo",
        "search",
        "diagnostics",
        "certify",
        "effects",
        "writing",
    ]
    assert (plan["samples"], plan["attack_samples"], plan["passes"], plan["trials"]) == (
        *(60, 60, 99, 300),
    )
    assert plan["operations_per_sample"] > 0


def test_python_has_it_in_one_line(samples: Path) -> None:
    planned = cimrobust.plan(
        samples / "breast_cancer_mlp.onnx",
        data=samples / "breast_cancer_mlp.toml",
        effort="quick",
        limit=20,
    )
    assert repr(planned).startswith("<PlannedRun of breast_cancer_mlp.onnx: 300 chips, 99 passes")
    assert "\n" not in repr(planned)


def test_a_run_in_a_time_states_options_that_give_the_same_certificate(
    given: list[str], tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planned_analysis, "measure", lambda subject, run: SLOW)
    timed, again = tmp_path / "timed", tmp_path / "again"
    assert run(["analyze", *given, "--time", "5m", "--out", str(timed)]) == 0
    shown = capsys.readouterr().err
    options = re.search(r"the same anywhere: (.*)", shown)[1].split()
    assert "--effort quick" in " ".join(options)
    assert int(options[options.index("--passes") + 1]) < 99
    model, *_ = given
    assert run(["analyze", model, *given[1:3], *options, "--out", str(again)]) == 0
    assert numbers(timed) == numbers(again)
    assert "time" not in {row["key"] for row in numbers(timed)["settings"]}


def test_too_little_time_is_refused_before_anything_is_written(
    given: list[str], tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planned_analysis, "measure", lambda subject, run: SLOW)
    assert run(["analyze", *given, "--time", "3s", "--out", str(tmp_path / "out")]) == 2
    assert "time must be enough for the least meaningful run, about" in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("*"))


def test_a_short_run_shows_no_plan_unless_asked(
    given: list[str], tmp_path: Path, capsys: Any
) -> None:
    short = [*given, "--effort", "quick", "--trials", "5", "--limit", "12", "--json"]
    assert run(["analyze", *short, "--out", str(tmp_path / "a")]) == 0
    assert "plan:" not in capsys.readouterr().err
    assert run(["analyze", *short, "--show-plan", "--out", str(tmp_path / "b")]) == 0
    out, err = capsys.readouterr()
    assert err.startswith("plan: about")
    json.loads(out)


def test_less_memory_changes_no_result(given: list[str], tmp_path: Path) -> None:
    short = [*given, "--effort", "quick", "--trials", "5", "--limit", "12"]
    assert run(["analyze", *short, "--out", str(tmp_path / "all")]) == 0
    assert run(["analyze", *short, "--memory", "8G", "--out", str(tmp_path / "less")]) == 0
    assert numbers(tmp_path / "all") == numbers(tmp_path / "less")


@pytest.mark.parametrize("size", ["6", "0G", "lots", "-1G"])
def test_what_is_no_size_is_refused(given: list[str], capsys: Any, size: str) -> None:
    assert run(["plan", *given, "--memory", size]) == 2
    assert "memory must be like 6G or 800M" in capsys.readouterr().err
