"""Forgeries, each made with care: what replay says of them, and which of them only a new search or
a new run finds.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from safetensors.numpy import load_file, save_file

import cimrobust
from cimrobust.certificate.blocks.drawn_chips import monte_carlo
from cimrobust.certificate.blocks.samples_block import interval_of
from cimrobust.certificate.policy import Policy
from cimrobust.certificate.result_names import CERTIFIED, TRIALS
from cimrobust.certify import per_sample
from cimrobust.cli.main import run
from cimrobust.montecarlo.trial_table import TrialTable, from_parquet, to_parquet
from tests.forgery.conftest import Case, Forged, Forgery

_DEVIATIONS, _DEVICES, _MODEL = (
    "witness/deviations.safetensors",
    "witness/devices.safetensors",
    "witness/worst_case.onnx",
)
_GOOD = 0.95


@pytest.mark.usefixtures("one_rerun")
def test_the_genuine_certificate_holds(case: Case) -> None:
    checks = case.replay(case.folder, search="quick", rerun=True)
    assert [(check.id, check.detail) for check in checks if check.held is False] == []
    assert [check.id for check in checks if check.held is None] == []


def test_it_fails_its_policy(case: Case) -> None:
    assert json.loads((case.folder / "certificate.json").read_text())["verdict"]["word"] == "FAIL"


def _interval(values: dict[str, Any], name: str, score: float) -> None:
    """Replace an interval by the one that belongs to another score."""
    block = values["evaluation_set"]
    row = interval_of(
        name,
        score,
        num_decisions=block["decisions"],
        num_inputs=block["samples"],
        most=block["most_decisions"],
    )
    block["intervals"] = [
        row.model_dump() if old["name"] == name else old for old in block["intervals"]
    ]


def _worst_score(values: dict[str, Any], correct: int, *, replayed: bool) -> None:
    worst = values["worst_found"]
    score = correct / worst["samples"]
    worst.update(score=score, correct=correct)
    if replayed:
        worst["replay"].update(score=score, correct=correct, engine_score=score)
        members = worst["members"]
        worst["members"] = [row for row in members if row["score"] >= score] or [
            {**members[0], "score": score, "correct": correct}
        ]
        kept = {row["name"] for row in worst["members"]}
        worst["not_run"] += [
            {"name": row["name"], "reason": "no passes were left for it"}
            for row in members
            if row["name"] not in kept
        ]
        worst["member"] = worst["members"][0]["name"]
    _interval(values, "worst_found", score)


def only_the_score(forged: Forged) -> None:
    values = forged.plain
    values["worst_found"]["score"] = _GOOD
    forged.write(values, judged=False)


def score_interval_and_verdict(forged: Forged) -> None:
    values = forged.plain
    _worst_score(values, round(_GOOD * values["worst_found"]["samples"]), replayed=False)
    values["worst_found"]["effort"] = "thorough"
    forged.write(values)


def score_everywhere(forged: Forged) -> None:
    values = forged.plain
    _worst_score(values, round(_GOOD * values["worst_found"]["samples"]), replayed=True)
    forged.write(values)


def tame_witness(forged: Forged) -> None:
    """The chip without any deviation, with every number that follows from it."""
    values = forged.plain
    tensors, devices = load_file(forged.folder / _DEVIATIONS), load_file(forged.folder / _DEVICES)
    model = onnx.load(forged.folder / _MODEL)
    names = {key.rsplit(".", 1)[0] for key in tensors}
    for name in names:
        tensors[f"{name}.deviation"] = np.zeros_like(tensors[f"{name}.deviation"])
    devices = {
        key: np.zeros_like(array) if key.endswith(".device_deviation") else array
        for key, array in devices.items()
    }
    for initializer in model.graph.initializer:
        if initializer.name in names:
            initializer.CopyFrom(
                numpy_helper.from_array(tensors[f"{initializer.name}.nominal"], initializer.name)
            )
    save_file(tensors, forged.folder / _DEVIATIONS)
    save_file(devices, forged.folder / _DEVICES)
    onnx.save(model, forged.folder / _MODEL)
    clean = values["clean"]
    _worst_score(values, clean["quantised_correct"], replayed=True)
    for row in clean["per_class"]:
        row["worst"] = row["clean"]
    right = [(row["worst"], row["samples"] - row["worst"]) for row in clean["per_class"]]
    values["worst_found"]["confusion"] = [[*right[0], 0], [*reversed(right[1]), 0]]
    forged.write(values)


def _drawn(values: dict[str, Any], table: TrialTable) -> None:
    policy = Policy.model_validate(values["policy"])
    block = monte_carlo(table, policy, num_inputs=values["data"]["used"])
    values["monte_carlo"] = block.model_dump()
    _interval(values, "mean", block.mean)


def better_trials(forged: Forged) -> None:
    values = forged.plain
    table = from_parquet(forged.folder / TRIALS)
    count = np.full_like(table.count, round(0.99 * table.num_samples))
    better = TrialTable(
        trial=table.trial,
        value=count / table.num_samples,
        count=count,
        num_samples=table.num_samples,
        seed=table.seed,
        metric=table.metric,
        higher_is_better=table.higher_is_better,
        max_trials=table.max_trials,
    )
    to_parquet(better, forged.folder / TRIALS)
    _drawn(values, better)
    forged.write(values)


def other_seed(forged: Forged) -> None:
    values = forged.plain
    table = from_parquet(forged.folder / TRIALS)
    to_parquet(TrialTable(**{**vars(table), "seed": table.seed + 1}), forged.folder / TRIALS)
    values["monte_carlo"]["seed"] += 1
    values["seeds"]["run"] += 1
    next(row for row in values["settings"] if row["key"] == "seed")["value"] += 1
    forged.write(values)


def certified_score(forged: Forged) -> None:
    values = forged.plain
    samples = values["certified"]["samples"]
    values["certified"].update(score=1.0, correct=samples)
    _interval(values, "certified", 1.0)
    forged.write(values)


def certified_samples_too(forged: Forged) -> None:
    values = forged.plain
    table = per_sample.from_parquet(forged.folder / CERTIFIED)
    table.certified[: max(1, len(table.certified) // 20)] = True
    per_sample.to_parquet(table, forged.folder / CERTIFIED)
    correct = int(table.certified.sum())
    score = correct / values["certified"]["samples"]
    values["certified"].update(score=score, correct=correct)
    _interval(values, "certified", score)
    forged.write(values)


def no_limits(forged: Forged) -> None:
    values = forged.plain
    values["not_covered"] = ["Nothing: all effects are covered."]
    values["assumptions"] = values["assumptions"][:1]
    values["checks"] = values["checks"][:2]
    values["warnings"] = []
    forged.write(values)


def measured_by_somebody(forged: Forged) -> None:
    values = forged.plain
    values["device"]["profile"]["source"] = "measured by a foundry on 10,000 devices"
    forged.write(values)


def smaller_tolerance_in_the_header(forged: Forged) -> None:
    values = forged.plain
    values["device"]["tolerance_fraction"] = 0.01
    forged.write(values)


def another_name_and_more_parameters(forged: Forged) -> None:
    values = forged.plain
    values["model"]["name"] = "brake_controller_v2.onnx"
    values["model"]["parameters"] *= 2
    forged.write(values)


def statistics_of_the_drawn_chips(forged: Forged) -> None:
    values = forged.plain
    values["monte_carlo"]["min"] = values["monte_carlo"]["mean"]
    values["monte_carlo"]["std"] = 0.0
    forged.write(values)


def more_passes(forged: Forged) -> None:
    values = forged.plain
    for member in values["worst_found"]["members"]:
        member["passes"] *= 10
    forged.write(values)


def without_a_diagnostic(forged: Forged) -> None:
    values = forged.plain
    values["diagnostics"]["layers"] = None
    values["diagnostics"]["layers_reason"] = "not asked for (--diagnostics)"
    forged.write(values)


def without_diagnostics(forged: Forged) -> None:
    values = forged.plain
    values["diagnostics"] = None
    values["diagnostics_reason"] = "not asked for"
    forged.write(values)


def milder_layer(forged: Forged) -> None:
    values = forged.plain
    samples = values["worst_found"]["samples"]
    for row in values["diagnostics"]["layers"]["rows"]:
        row["alone"].update(score=1.0, correct=samples)
    forged.write(values)


def kinder_effects(forged: Forged) -> None:
    values = forged.plain
    for row in values["diagnostics"]["effects"]:
        row.update(mean=0.99, low=0.98, high=1.0)
    forged.write(values)


def bias_of_the_witness(forged: Forged) -> None:
    """A witness file whose last bias was moved, so that the same deviations look harmless."""
    values = forged.plain
    model = onnx.load(forged.folder / _MODEL)
    stored = {key.rsplit(".", 1)[0] for key in load_file(forged.folder / _DEVIATIONS)}
    bias = next(
        one
        for one in reversed(model.graph.initializer)
        if one.name not in stored and numpy_helper.to_array(one).dtype == np.float32
    )
    bias.CopyFrom(
        numpy_helper.from_array(np.asarray(numpy_helper.to_array(bias) + np.float32(3)), bias.name)
    )
    onnx.save(model, forged.folder / _MODEL)
    forged.write(values)


def milder_nominal_weights(forged: Forged) -> None:
    """A witness around other nominal weights than the model's."""
    values = forged.plain
    tensors = load_file(forged.folder / _DEVIATIONS)
    for key in list(tensors):
        if key.endswith(".nominal"):
            tensors[key] = np.asarray(tensors[key] * np.float32(0.5))
    model = onnx.load(forged.folder / _MODEL)
    for initializer in model.graph.initializer:
        if f"{initializer.name}.nominal" in tensors:
            weights = (
                tensors[f"{initializer.name}.nominal"] + tensors[f"{initializer.name}.deviation"]
            )
            initializer.CopyFrom(numpy_helper.from_array(weights, initializer.name))
    save_file(tensors, forged.folder / _DEVIATIONS)
    onnx.save(model, forged.folder / _MODEL)
    forged.write(values)


def recall_of_the_safety_class(forged: Forged) -> None:
    values = forged.plain
    block = values["diagnostics"]["safety_class"]
    block.update(recall=1.0, correct=block["samples"])
    forged.write(values)


def fewer_devices_outside(forged: Forged) -> None:
    values = forged.plain
    values["device"]["excluded_probability"] = 1e-12
    forged.write(values)


def smaller_box(forged: Forged) -> None:
    values = forged.plain
    for layer in values["mapping"]["layers"]:
        layer["box_radius"] *= 2
    forged.write(values)


FORGERIES: dict[str, tuple[Forgery, set[str]]] = {
    "only_the_score": (only_the_score, {"worst_found_numbers", "evaluation_set"}),
    "score_interval_and_verdict": (score_interval_and_verdict, {"worst_found_numbers"}),
    "score_everywhere": (score_everywhere, {"worst_found", "derived worst_found"}),
    "better_trials": (better_trials, {"redrawn_trials"}),
    "other_seed": (other_seed, {"derived diagnostics"}),
    "certified_score": (certified_score, {"certified_samples", "derived certified"}),
    "certified_samples_too": (certified_samples_too, {"derived certified", "certified_again"}),
    "no_limits": (no_limits, {"derived not_covered", "derived assumptions", "derived checks"}),
    "measured_by_somebody": (measured_by_somebody, {"device_profile"}),
    "smaller_tolerance_in_the_header": (smaller_tolerance_in_the_header, {"device_numbers"}),
    "another_name_and_more_parameters": (another_name_and_more_parameters, {"derived model"}),
    "statistics_of_the_drawn_chips": (statistics_of_the_drawn_chips, {"trials"}),
    "without_a_diagnostic": (without_a_diagnostic, {"diagnostics"}),
    "without_diagnostics": (without_diagnostics, {"diagnostics"}),
    "kinder_effects": (kinder_effects, {"derived diagnostics"}),
    "bias_of_the_witness": (bias_of_the_witness, {"worst_found"}),
    "milder_nominal_weights": (milder_nominal_weights, {"witness_nominal"}),
    "recall_of_the_safety_class": (recall_of_the_safety_class, {"safety_class"}),
    "fewer_devices_outside": (fewer_devices_outside, {"device_numbers"}),
    "smaller_box": (smaller_box, {"witness_in_box"}),
}
#: What follows from nothing at hand, so that only work that is done again tells.
BY_MORE_WORK: dict[str, tuple[Forgery, list[str], set[str]]] = {
    "tame_witness": (tame_witness, ["--search", "quick"], {"second_search"}),
    "more_passes": (more_passes, ["--rerun"], {"rerun worst_found"}),
    "milder_layer": (milder_layer, ["--rerun"], {"rerun diagnostics"}),
}


#: What a pipeline that runs the gate alone does not see: the files go together, and only model and
#: data, run again, tell.
BY_REPLAY_ALONE = {
    "other_seed",
    "certified_samples_too",
    "recall_of_the_safety_class",
    "milder_layer",
}


def test_the_gate_stops_a_forgery_or_it_is_listed_for_replay() -> None:
    assert {*FORGERIES, *BY_MORE_WORK} >= BY_REPLAY_ALONE


def test_the_gate_judges_the_genuine_certificate(case: Case) -> None:
    assert (
        cimrobust.gate(case.folder, policy=case.policy, model=case.model, data=case.data).exit_code
        == 1
    )


@pytest.mark.parametrize("name", FORGERIES)
def test_replay_refutes(case: Case, forged: Forged, name: str) -> None:
    forge, expected = FORGERIES[name]
    forge(forged)
    assert expected <= case.refuted(
        forged.folder, expected, "--redraw", "30" if "redrawn_trials" in expected else "2"
    )
    assert case.is_stopped(forged.folder) is (name not in BY_REPLAY_ALONE)


@pytest.mark.usefixtures("one_rerun")
@pytest.mark.parametrize("name", BY_MORE_WORK)
def test_replay_refutes_by_more_work(case: Case, forged: Forged, name: str) -> None:
    forge, more, expected = BY_MORE_WORK[name]
    forge(forged)
    assert expected <= case.refuted(forged.folder, expected, "--redraw", "0", *more)
    assert case.is_stopped(forged.folder) is (name not in BY_REPLAY_ALONE)


def test_refuted_evidence_has_an_exit_code_of_its_own(
    case: Case, forged: Forged, capsys: pytest.CaptureFixture[str]
) -> None:
    only_the_score(forged)
    assert run(["replay", str(forged.folder)]) == 6
    said = capsys.readouterr().out
    assert "REFUTED" in said
    assert " refuted, " in said.splitlines()[-1]


def test_a_file_that_is_missing_refutes(case: Case, forged: Forged) -> None:
    (forged.folder / TRIALS).unlink()
    assert "trials" in case.refuted(forged.folder, {"trials"})


def test_another_network_is_named_and_nothing_is_derived_from_it(case: Case, samples: Path) -> None:
    checks = {
        check.id: check
        for check in cimrobust.replay(
            case.folder, model=samples / "digits_resnet.onnx", data=case.data, workers=1
        )
    }
    assert checks["model_hash"].held is False
    assert checks["derived"].held is None


def test_other_words_for_the_same_data_refute_nothing(case: Case, tmp_path: Path) -> None:
    described = case.data.read_text() + "# a comment of the reviewer's\n"
    for name in ("breast_cancer_test.npz", "breast_cancer_train.npz"):
        (tmp_path / name).write_bytes((case.data.parent / name).read_bytes())
    (tmp_path / "reviewer.toml").write_text(described)
    checks = {
        check.id: check
        for check in cimrobust.replay(
            case.folder, model=case.model, data=tmp_path / "reviewer.toml", redraw=0, workers=1
        )
    }
    assert [check for check in checks.values() if check.held is False] == []
    assert checks["derived data"].held is None


def test_memory_is_no_excuse_for_other_numbers(case: Case, forged: Forged) -> None:
    values = forged.plain
    certified = values["certified"]
    certified.update(
        score=None,
        correct=None,
        method=None,
        operators={},
        curve=[],
        curve_samples=0,
        largest_tolerance=None,
    )
    certified["reason"] = "the bound needs more memory than there is: 9 GB"
    certified["largest_tolerance_reason"] = "there is no certified bound"
    values["evaluation_set"]["intervals"] = [
        row for row in values["evaluation_set"]["intervals"] if row["name"] != "certified"
    ]
    values["checks"] = [row for row in values["checks"] if row["id"] != "certified_unbroken"]
    (forged.folder / CERTIFIED).unlink(missing_ok=True)
    for row in values["diagnostics"]["effects"]:
        row["mean"] = 0.99
    forged.write(values)
    checks = {check.id: check for check in case.replay(forged.folder, redraw=0)}
    assert checks["derived diagnostics"].held is False
    assert checks["derived certified"].held is True
    assert checks["certified_memory"].held is None
