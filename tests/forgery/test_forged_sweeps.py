"""Forged sweeps: what a replay says of scores, witnesses, proofs, drawn chips and safe tolerances
that were made better.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from safetensors.numpy import load_file, save_file

import cimrobust
from cimrobust.certificate.certificate_files import canonical_json
from cimrobust.certificate.manifest import write_manifest
from cimrobust.certificate.models.swept import SweepModel
from cimrobust.cli.main import run
from cimrobust.errors import UsageError
from cimrobust.files import sha256_of
from cimrobust.report.sweep_page import render_sweep
from cimrobust.review.other_results import read_sweep
from cimrobust.review.sweep_replay import sweep_file_checks

_GRID = (0.05, 0.2)


@dataclass(frozen=True)
class ForgedSweep:
    """A sweep in a forger's hands."""

    folder: Path

    @property
    def plain(self) -> dict[str, Any]:
        """The sweep as plain values."""
        values: dict[str, Any] = json.loads((self.folder / "sweep.json").read_text())
        return values

    def write(self, values: dict[str, Any]) -> None:
        """Write a sweep whose digests and page follow from its numbers."""
        for point in values["points"]:
            for name in point["worst_found"]["witness"]:
                point["worst_found"]["witness"][name] = sha256_of(self.folder / name)
        made = SweepModel.model_validate(values)
        (self.folder / "sweep.json").write_text(canonical_json(made))
        (self.folder / "sweep.html").write_text(render_sweep(made))
        write_manifest(self.folder)


@pytest.fixture(scope="module")
def genuine(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A genuine sweep of few samples and chips."""
    out = tmp_path_factory.mktemp("swept") / "out"
    model, data = (samples / f"breast_cancer_mlp.{end}" for end in ("onnx", "toml"))
    cimrobust.sweep(
        model,
        data=data,
        out=out,
        tolerances=_GRID,
        trials=24,
        limit=40,
        require=0.9,
        witnesses=True,
        workers=1,
    )
    return out


@pytest.fixture
def forged(genuine: Path, tmp_path: Path) -> ForgedSweep:
    """A copy that may be forged."""
    shutil.copytree(genuine, tmp_path / "forged")
    return ForgedSweep(tmp_path / "forged")


def _replayed(folder: Path, samples: Path, **more: Any) -> dict[str, bool | None]:
    model, data = (samples / f"breast_cancer_mlp.{end}" for end in ("onnx", "toml"))
    checks = cimrobust.replay(folder, model=model, data=data, reviewer_seed=7, workers=1, **more)
    return {check.id: check.held for check in checks}


def _set_worst(point: dict[str, Any], correct: int, samples: int) -> None:
    score = correct / samples
    point["worst_found"].update(score=score, correct=correct, file_score=score)
    point["worst_found"]["members"] = [
        {**point["worst_found"]["members"][0], "score": score, "correct": correct}
    ]


def score_of_a_point(forged: ForgedSweep) -> None:
    values = forged.plain
    _set_worst(
        values["points"][1],
        values["points"][0]["worst_found"]["correct"],
        values["clean"]["samples"],
    )
    forged.write(values)


def score_of_a_member(forged: ForgedSweep) -> None:
    values = forged.plain
    values["points"][1]["worst_found"]["members"][0]["score"] = 0.0
    forged.write(values)


def tame_witnesses(forged: ForgedSweep) -> None:
    """Chips without any deviation, with every number that follows from them."""
    values, samples = forged.plain, forged.plain["clean"]["samples"]
    for point in values["points"]:
        folder = forged.folder / "witness" / repr(point["tolerance"])
        tensors = {
            key: np.zeros_like(array) if key.endswith(".deviation") else array
            for key, array in load_file(folder / "deviations.safetensors").items()
        }
        save_file(tensors, folder / "deviations.safetensors")
        model = onnx.load(folder / "worst_case.onnx")
        for initializer in model.graph.initializer:
            if f"{initializer.name}.nominal" in tensors:
                initializer.CopyFrom(
                    numpy_helper.from_array(
                        tensors[f"{initializer.name}.nominal"], initializer.name
                    )
                )
        onnx.save(model, folder / "worst_case.onnx")
        _set_worst(point, round(values["clean"]["quantised_score"] * samples), samples)
    largest = values["points"][-1]["tolerance"]
    values["safe"]["unrefuted"].update(
        tolerance=largest,
        fails_at=None,
        tried=[],
        statement=(
            f"Up to a tolerance of {100 * largest:.4g} % no chip was found that misses accuracy at"
            " least 0.9; others may; larger ones were not tried."
        ),
    )
    forged.write(values)


def wider_box(forged: ForgedSweep) -> None:
    """Intervals of a larger tolerance at the larger point: whatever lies in them was not allowed."""  # noqa: E501
    values = forged.plain
    path = forged.folder / "witness" / repr(_GRID[1]) / "deviations.safetensors"
    tensors = {
        key: np.asarray(array * np.float32(2)) if key.endswith((".lo", ".hi")) else array
        for key, array in load_file(path).items()
    }
    save_file(tensors, path)
    forged.write(values)


def statistics(forged: ForgedSweep) -> None:
    values = forged.plain
    drawn = values["points"][1]["monte_carlo"]
    drawn.update(mean=1.0, min=1.0, max=1.0, std=0.0)
    for row in drawn["kpp"]:
        row.update(score=1.0)
    forged.write(values)


def bound_of_too_few_trials(forged: ForgedSweep) -> None:
    values = forged.plain
    for point in values["points"]:
        point["monte_carlo"]["kpp"][0]["lower_bound"] = point["monte_carlo"]["min"]
    forged.write(values)


def proof(forged: ForgedSweep) -> None:
    values, samples = forged.plain, forged.plain["clean"]["samples"]
    worst = values["points"][1]["worst_found"]
    values["points"][1]["certified"].update(
        score=worst["correct"] / samples, correct=worst["correct"]
    )
    forged.write(values)


def safe_tolerance(forged: ForgedSweep) -> None:
    values = forged.plain
    values["safe"]["unrefuted"].update(tolerance=_GRID[1], fails_at=None, tried=[])
    forged.write(values)


def safe_sentence(forged: ForgedSweep) -> None:
    values = forged.plain
    values["safe"]["certified"]["statement"] = (
        "Up to a tolerance of 20 % every chip has accuracy at least 0.9, by proof."
    )
    forged.write(values)


def required_score(forged: ForgedSweep) -> None:
    values = forged.plain
    values["safe"]["required"] = 0.95
    forged.write(values)


def tolerance_of_a_point(forged: ForgedSweep) -> None:
    """The worst chip of a smaller tolerance as that of a larger one."""
    values = forged.plain
    point = values["points"][1]
    shutil.rmtree(forged.folder / "witness" / repr(_GRID[1]))
    shutil.copytree(
        forged.folder / "witness" / repr(_GRID[0]), forged.folder / "witness" / repr(_GRID[1])
    )
    point["worst_found"] = {
        **values["points"][0]["worst_found"],
        "witness": point["worst_found"]["witness"],
    }
    values["safe"]["unrefuted"].update(tolerance=_GRID[1], fails_at=None, tried=[])
    forged.write(values)


def without_witnesses(forged: ForgedSweep) -> None:
    values = forged.plain
    shutil.rmtree(forged.folder / "witness")
    for point in values["points"]:
        point["worst_found"]["witness"] = {}
    forged.write(values)


def other_seed(forged: ForgedSweep) -> None:
    values = forged.plain
    next(row for row in values["settings"] if row["key"] == "seed")["value"] = 1
    forged.write(values)


def limits(forged: ForgedSweep) -> None:
    values = forged.plain
    values["not_covered"] = ["Nothing: all effects are covered."]
    forged.write(values)


def limit_left_out(forged: ForgedSweep) -> None:
    values = forged.plain
    del values["not_covered"][0]
    forged.write(values)


def clean_score_of_no_count(forged: ForgedSweep) -> None:
    values = forged.plain
    values["clean"]["quantised_score"] = 0.99
    forged.write(values)


def better_extremes(forged: ForgedSweep) -> None:
    """Drawn chips that are better by less than one decision."""
    values = forged.plain
    for point in values["points"]:
        drawn = point["monte_carlo"]
        drawn["max"] += 0.3 / values["clean"]["samples"]
    forged.write(values)


def percentiles_left_out(forged: ForgedSweep) -> None:
    values = forged.plain
    for point in values["points"]:
        point["monte_carlo"]["kpp"] = point["monte_carlo"]["kpp"][1:]
    forged.write(values)


def bound_below_all_chips(forged: ForgedSweep) -> None:
    """A bound that is no score of a chip drawn."""
    values = forged.plain
    row = values["points"][1]["monte_carlo"]["kpp"][2]
    row.update(needed_trials=1, lower_bound=0.0)
    forged.write(values)


def network_without_a_digest(forged: ForgedSweep) -> None:
    values = forged.plain
    values["model"]["files"] = []
    forged.write(values)


def fewer_excluded_devices(forged: ForgedSweep) -> None:
    values = forged.plain
    values["device"]["excluded_probability"] = 0.01
    forged.write(values)


def unknown_member(forged: ForgedSweep) -> None:
    values = forged.plain
    values["points"][1]["worst_found"]["member"] = "exhaustive_proof"
    forged.write(values)


def all_tried(forged: ForgedSweep) -> None:
    values = forged.plain
    values["points"][1]["certified"]["not_tried"] = values["clean"]["samples"] + 1
    forged.write(values)


#: What the files of a sweep alone tell.
BY_FILES: dict[str, tuple[Callable[[ForgedSweep], None], str]] = {
    "limit_left_out": (limit_left_out, "head"),
    "clean_score_of_no_count": (clean_score_of_no_count, "head"),
    "network_without_a_digest": (network_without_a_digest, "head"),
    "fewer_excluded_devices": (fewer_excluded_devices, "head"),
    "better_extremes": (better_extremes, "chips"),
    "percentiles_left_out": (percentiles_left_out, "chips"),
    "bound_below_all_chips": (bound_below_all_chips, "chips"),
    "unknown_member": (unknown_member, "curve"),
    "all_tried": (all_tried, "curve"),
}


@pytest.mark.parametrize("name", BY_FILES)
def test_files_alone_refute(forged: ForgedSweep, name: str) -> None:
    forge, expected = BY_FILES[name]
    forge(forged)
    checks = sweep_file_checks(forged.folder, read_sweep(forged.folder))
    assert expected in {check.id for check in checks if check.held is False}


Forgery = Callable[[ForgedSweep], None]
#: What refutes each, and with which more work.
FORGERIES: dict[str, tuple[Forgery, dict[str, Any], set[str]]] = {
    "score_of_a_point": (
        score_of_a_point,
        {"redraw": 0},
        {"worst_found at 20 %", "engine score at 20 %"},
    ),
    "score_of_a_member": (score_of_a_member, {"redraw": 0}, {"curve", "shares"}),
    "tame_witnesses": (tame_witnesses, {"redraw": 0, "search": "quick"}, {"second_search"}),
    "wider_box": (wider_box, {"redraw": 0}, {"witness_box at 20 %"}),
    "statistics": (statistics, {"redraw": 24}, {"redrawn points.1.monte_carlo"}),
    "bound_of_too_few_trials": (bound_of_too_few_trials, {"redraw": 0}, {"chips"}),
    "proof": (proof, {"redraw": 0}, {"derived points.1.certified"}),
    "safe_tolerance": (safe_tolerance, {"redraw": 0}, {"safe"}),
    "safe_sentence": (safe_sentence, {"redraw": 0}, {"safe"}),
    "required_score": (required_score, {"redraw": 0}, {"safe"}),
    "tolerance_of_a_point": (tolerance_of_a_point, {"redraw": 0}, {"witness_box at 20 %"}),
    "without_witnesses": (without_witnesses, {"redraw": 0}, {"settings"}),
    "other_seed": (other_seed, {"redraw": 0}, {"derived settings"}),
    "limits": (limits, {"redraw": 0}, {"derived not_covered"}),
}


def test_a_genuine_sweep_holds(genuine: Path, samples: Path) -> None:
    found = _replayed(genuine, samples, redraw=24, search="quick", rerun=True)
    assert {name for name, held in found.items() if held is not True} == set()


@pytest.mark.parametrize("name", FORGERIES)
def test_replay_refutes(forged: ForgedSweep, samples: Path, name: str) -> None:
    forge, more, expected = FORGERIES[name]
    forge(forged)
    found = _replayed(forged.folder, samples, **more)
    assert expected <= {check for check, held in found.items() if held is False}


def test_what_only_a_new_run_derives_is_listed(genuine: Path) -> None:
    found = {check.id: check.held for check in cimrobust.replay(genuine)}
    assert {name for name, held in found.items() if held is None} == {
        "model_hash",
        "worst_found",
        "derived",
    }


def test_the_command_ends_with_the_code_of_refuted_evidence(forged: ForgedSweep) -> None:
    score_of_a_member(forged)
    assert run(["replay", str(forged.folder)]) == 6


def test_a_sweep_is_not_gated(genuine: Path, tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text("[require]\nclean_accuracy = 0.9\n")
    with pytest.raises(UsageError, match="got that of a sweep"):
        cimrobust.gate(genuine, policy=policy)


def test_the_report_is_made_again(forged: ForgedSweep) -> None:
    page = (forged.folder / "sweep.html").read_text()
    (forged.folder / "sweep.html").write_text("<p>")
    assert run(["report", str(forged.folder)]) == 0
    assert (forged.folder / "sweep.html").read_text() == page
