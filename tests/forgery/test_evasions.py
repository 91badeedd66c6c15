"""Forgeries that try to keep a replay from looking: another version, machine, metric, policy, or
data; and files that are no plain ones.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow.parquet as pq
import pytest
from onnx import numpy_helper
from safetensors.numpy import load_file, save_file

import cimrobust
from cimrobust.certificate.blocks.drawn_chips import monte_carlo
from cimrobust.certificate.manifest import MANIFEST, write_manifest
from cimrobust.certificate.policy import Policy
from cimrobust.certificate.result_names import CERTIFICATE, CERTIFIED, TRIALS
from cimrobust.certificate.schema_files import schema_file
from cimrobust.certify import per_sample
from cimrobust.cli.main import run
from cimrobust.device.digest import profile_digest
from cimrobust.device.load_profile import profile_of
from cimrobust.montecarlo.trial_table import TrialTable, from_parquet, to_parquet
from cimrobust.review.device_check import DEVICES
from tests.forgery.conftest import Case, Forged, Forgery
from tests.forgery.test_forged_certificates import tame_witness

DEVIATIONS, MODEL = "witness/deviations.safetensors", "witness/worst_case.onnx"
_OTHER_CPU = "Another processor"


def _same_length(rows: list[Any], text: str) -> list[Any]:
    return [text] * len(rows)


def older_tool(forged: Forged) -> None:
    """Sentences of another version are not compared: so let another version have written them."""
    values = forged.plain
    values["tool"]["version"] = "0.1.0"
    values["not_covered"] = _same_length(values["not_covered"], "Nothing: all effects are covered.")
    forged.write(values)


def _pruned(value: Any, schema: dict[str, Any], root: dict[str, Any]) -> Any:
    """Return a value without the fields that a schema does not have."""
    if "$ref" in schema:
        return _pruned(value, root["$defs"][schema["$ref"].rsplit("/", 1)[-1]], root)
    for choice in schema.get("anyOf", []):
        if (choice.get("type") == "null") is (value is None):
            return _pruned(value, choice, root)
    if isinstance(value, dict) and "properties" in schema:
        return {
            key: _pruned(part, schema["properties"][key], root)
            for key, part in value.items()
            if key in schema["properties"]
        }
    if isinstance(value, list) and isinstance(schema.get("items"), dict):
        return [_pruned(part, schema["items"], root) for part in value]
    return value


def _older(forged: Forged, *, pruned: bool) -> dict[str, Any]:
    """Make a certificate look as if an earlier version had made it, which wrote no manifest."""
    values = forged.plain
    if pruned:
        published = json.loads(schema_file("certificate", "1.5").read_text())
        values = _pruned(values, published, published)
        values["tool"]["version"] = "0.2.0"
    values["schema_version"] = "1.5"
    (forged.folder / MANIFEST).unlink()
    return values


def _as_older(forged: Forged, values: dict[str, Any]) -> None:
    (forged.folder / CERTIFICATE).write_text(json.dumps(values, indent=2))


def older_schema_with_a_better_verdict(forged: Forged) -> None:
    values = _older(forged, pruned=True)
    values["verdict"].update(word="PASS_STATISTICAL", sentence="Every requirement is met.")
    for row in values["verdict"]["requirements"]:
        row["status"] = "met"
    _as_older(forged, values)


def older_schema_without_requirements(forged: Forged) -> None:
    values = _older(forged, pruned=True)
    values["verdict"].update(
        word="PASS_STATISTICAL", sentence="Every requirement is met.", requirements=[]
    )
    _as_older(forged, values)


def older_schema_with_fields_of_today(forged: Forged) -> None:
    _as_older(forged, _older(forged, pruned=False))


def older_schema_with_a_link(forged: Forged) -> None:
    _as_older(forged, _older(forged, pruned=True))
    _link(forged.folder / DEVICES)


def no_machine(forged: Forged) -> None:
    values = forged.plain
    values.update(machine=None, machine_reason="files of version 1.4 do not state it")
    forged.write(values)


def _link(path: Path) -> None:
    """Put a link where a file was."""
    outside = path.parent.parent.parent / path.name
    path.rename(outside)
    path.symlink_to(outside)


def linked_witness(forged: Forged) -> None:
    _link(forged.folder / DEVICES)
    write_manifest(forged.folder)


def linked_folder(forged: Forged) -> None:
    _link(forged.folder / "witness")
    write_manifest(forged.folder)


def transferred_from_nowhere(forged: Forged) -> None:
    """A run with the witness of another network cannot be made again without it."""
    values = forged.plain
    next(row for row in values["settings"] if row["key"] == "transfer")["value"] = "before"
    forged.write(values)


def other_direction(forged: Forged) -> None:
    """Errors are better the lower they are, and are no shares."""
    values = forged.plain
    values["metric"].update(higher_is_better=False, unit="target unit")
    table = from_parquet(forged.folder / TRIALS)
    to_parquet(TrialTable(**{**vars(table), "higher_is_better": False}), forged.folder / TRIALS)
    forged.write(values, judged=False)


def unit_of_the_target(forged: Forged) -> None:
    values = forged.plain
    values["metric"]["unit"] = "target unit"
    values["worst_found"]["members"][0]["score"] = 0.99
    forged.write(values)


def layer_left_out(forged: Forged) -> None:
    """A layer that no list names is checked by nobody: its weights may be anything."""
    values = forged.plain
    left = values["mapping"]["layers"].pop(1)
    values["mapping"]["total_devices"] -= left["devices"]
    values["mapping"]["total_tiles"] -= left["tiles"]
    values["model"]["mapped_weights"] -= int(np.prod(left["shape"]))
    for path in (forged.folder / "witness").glob("*.safetensors"):
        kept = {
            key: array
            for key, array in load_file(path).items()
            if not key.startswith(f"{left['initializer']}.")
        }
        save_file(kept, path)
    values["diagnostics"]["safety_class"] = None
    values["diagnostics"]["safety_class_reason"] = "no class was named (--safety-class)"
    forged.write(values)


def fewer_samples(forged: Forged) -> None:
    values = forged.plain
    values["data"]["used"] -= 20
    forged.write(values)


def fewer_samples_by_a_setting(forged: Forged) -> None:
    values = forged.plain
    values["data"]["used"] -= 20
    next(row for row in values["settings"] if row["key"] == "limit").update(
        value=values["data"]["used"], is_default=False
    )
    forged.write(values)


def its_own_labels(forged: Forged) -> None:
    """By its own decisions a network is always right."""
    values = forged.plain
    values["data"]["label_source"] = "self"
    forged.write(values)


def weaker_policy(forged: Forged) -> None:
    """A policy that the network meets, with every number that follows from it."""
    values = forged.plain
    values["policy"]["require"] = {"clean_accuracy": 0.5, "kpp": {"k": 5, "accuracy": 0.5}}
    policy, table = Policy.model_validate(values["policy"]), from_parquet(forged.folder / TRIALS)
    values["monte_carlo"] = monte_carlo(
        table, policy, num_inputs=values["data"]["used"]
    ).model_dump()
    forged.write(values)


def device_outside_its_interval(forged: Forged) -> None:
    """One device further out, and its neighbour as much further in: they still fold to the stored
    weight.
    """
    values = forged.plain
    tensors = load_file(forged.folder / DEVICES)
    name = next(key for key in tensors if key.endswith(".device_deviation"))
    moved = np.array(tensors[name])
    moved[1] += 1.0
    moved[0] -= 4.0
    tensors[name] = moved
    save_file(tensors, forged.folder / DEVICES)
    forged.write(values)


def trials_that_could_stop(forged: Forged) -> None:
    """Metadata of the table say that the run could stop early."""
    table = from_parquet(forged.folder / TRIALS)
    to_parquet(TrialTable(**{**vars(table), "max_trials": 1000}), forged.folder / TRIALS)
    forged.write(forged.plain)


def trials_of_another_metric(forged: Forged) -> None:
    read = pq.read_table(forged.folder / TRIALS)
    renamed = read.rename_columns([name.replace("accuracy", "rmse") for name in read.column_names])
    metadata = {**(read.schema.metadata or {}), b"metric": b"rmse", b"higher_is_better": b"false"}
    pq.write_table(renamed.replace_schema_metadata(metadata), forged.folder / TRIALS)
    forged.write(forged.plain, judged=False)


def untried_samples(forged: Forged) -> None:
    """What a bound failed at looks better as what nobody tried."""
    table = per_sample.from_parquet(forged.folder / CERTIFIED)
    tried = np.array(table.certified)
    per_sample.to_parquet(
        per_sample.PerSample(table.certified, tried, table.largest), forged.folder / CERTIFIED
    )
    forged.write(forged.plain)


def _narrowed(forged: Forged, *, with_devices: bool) -> None:
    """A box of a tenth of the tolerance that the profile still states, and a chip in it."""
    values, folder = forged.plain, forged.folder
    tensors, model = load_file(folder / DEVIATIONS), onnx.load(folder / MODEL)
    devices = load_file(folder / DEVICES)
    for layer in values["mapping"]["layers"]:
        name = layer["initializer"]
        for part in ("lo", "hi", "deviation"):
            tensors[f"{name}.{part}"] = tensors[f"{name}.{part}"] * np.float32(0.125)
        for part in ("device_lo", "device_hi", "device_deviation"):
            devices[f"{name}.{part}"] = devices[f"{name}.{part}"] * np.float32(0.125)
        stored = next(one for one in model.graph.initializer if one.name == name)
        weights = tensors[f"{name}.nominal"] + tensors[f"{name}.deviation"]
        stored.CopyFrom(numpy_helper.from_array(weights, name))
        layer["box_radius"] /= 8
    save_file(tensors, folder / DEVIATIONS)
    save_file(devices, folder / DEVICES)
    onnx.save(model, folder / MODEL)
    if not with_devices:
        (folder / DEVICES).unlink()
        del values["worst_found"]["witness"][DEVICES]
    for path in (folder / "witness").glob("safety*"):
        path.unlink()
    values["diagnostics"]["safety_class"] = None
    values["diagnostics"]["safety_class_reason"] = "no class was named (--safety-class)"
    next(row for row in values["settings"] if row["key"] == "safety-class").update(
        value=None, is_default=True
    )
    forged.write(values)


def narrow_box(forged: Forged) -> None:
    _narrowed(forged, with_devices=True)


def narrow_box_without_devices(forged: Forged) -> None:
    """Witnesses of large networks do not list their devices."""
    _narrowed(forged, with_devices=False)


def layer_left_out_by_a_rule_for_nothing(forged: Forged) -> None:
    """Rules that fit no layer of the witness's file leave open which layers are stored."""
    values = forged.plain
    values["device"]["profile"]["layer"] = [{"match": "elsewhere", "digital": True}]
    _as_profile(values)
    forged.write(values)
    layer_left_out(forged)


def _as_profile(values: dict[str, Any]) -> None:
    """State the digest of the profile that is stated."""
    profile = profile_of(values["device"]["profile"], shown="certificate.json")
    values["device"]["profile_sha256"] = profile_digest(profile)


def layers_with_a_larger_tolerance(forged: Forged) -> None:
    """Layers are said to deviate more than the profile lets them, as a policy asks."""
    values = forged.plain
    values["device"]["largest_tolerance_fraction"] = 0.2
    for layer in values["mapping"]["layers"]:
        layer["tolerance_fraction"] = 0.2
    forged.write(values)


def larger_tolerance_in_sentences(forged: Forged) -> None:
    values = forged.plain
    values["device"]["largest_tolerance_fraction"] = 0.2
    forged.write(values)


def more_confidence(forged: Forged) -> None:
    values = forged.plain
    values["evaluation_set"]["confidence"] = 0.999
    forged.write(values)


def seed_of_nothing(forged: Forged) -> None:
    values = forged.plain
    values["seeds"]["run"] += 1
    forged.write(values)


def another_class_fails(forged: Forged) -> None:
    """The class that matters looks better by what another one loses."""
    values = forged.plain
    values["clean"]["per_class"][0]["worst"] += 1
    values["clean"]["per_class"][1]["worst"] -= 1
    forged.write(values)


#: What is refuted, and whether a gate that runs no network stops it.
EVASIONS: dict[str, tuple[Forgery, set[str], bool]] = {
    "older_tool": (older_tool, {"tool"}, True),
    "older_schema_with_a_better_verdict": (older_schema_with_a_better_verdict, {"verdict"}, True),
    "older_schema_without_requirements": (older_schema_without_requirements, {"verdict"}, True),
    "older_schema_with_fields_of_today": (older_schema_with_fields_of_today, {"schema"}, True),
    "older_schema_with_a_link": (older_schema_with_a_link, {"manifest"}, True),
    "no_machine": (no_machine, {"machine"}, True),
    "linked_witness": (linked_witness, {"manifest"}, True),
    "linked_folder": (linked_folder, {"manifest"}, True),
    "transferred_from_nowhere": (transferred_from_nowhere, {"settings"}, True),
    "other_direction": (other_direction, {"metric"}, True),
    "unit_of_the_target": (unit_of_the_target, {"metric"}, True),
    "layer_left_out": (layer_left_out, {"witness_in_box"}, True),
    "fewer_samples": (fewer_samples, {"settings"}, True),
    "fewer_samples_by_a_setting": (fewer_samples_by_a_setting, {"evaluation_set"}, True),
    "its_own_labels": (its_own_labels, {"data_reading"}, True),
    "weaker_policy": (weaker_policy, {"policy_file"}, False),
    "device_outside_its_interval": (device_outside_its_interval, {"witness_devices"}, True),
    "trials_that_could_stop": (trials_that_could_stop, {"stopping"}, True),
    "trials_of_another_metric": (trials_of_another_metric, {"trials"}, True),
    "narrow_box": (narrow_box, {"witness_in_box"}, True),
    "narrow_box_without_devices": (narrow_box_without_devices, {"witness_in_box"}, True),
    "layer_left_out_by_a_rule_for_nothing": (
        layer_left_out_by_a_rule_for_nothing,
        {"witness_in_box"},
        True,
    ),
    "layers_with_a_larger_tolerance": (layers_with_a_larger_tolerance, {"device_numbers"}, True),
    "larger_tolerance_in_sentences": (larger_tolerance_in_sentences, {"device_numbers"}, True),
    "more_confidence": (more_confidence, {"evaluation_set"}, True),
    "another_class_fails": (another_class_fails, {"worst_found_numbers"}, True),
    "seed_of_nothing": (seed_of_nothing, {"settings"}, True),
    "untried_samples": (untried_samples, {"certified_again"}, False),
}


@pytest.mark.parametrize("name", EVASIONS)
def test_replay_refutes_what_would_keep_it_from_looking(
    case: Case, forged: Forged, name: str
) -> None:
    forge, expected, is_stopped = EVASIONS[name]
    forge(forged)
    assert expected <= case.refuted(forged.folder, expected, "--redraw", "2")
    assert case.is_stopped(forged.folder) is is_stopped


def test_the_gate_judges_by_its_own_policy(case: Case, forged: Forged) -> None:
    weaker_policy(forged)
    assert forged.plain["verdict"]["word"] == "PASS_STATISTICAL"
    assert cimrobust.gate(forged.folder, policy=case.policy).exit_code == 1


def test_sentences_of_a_later_version_are_pointed_at_and_not_believed(
    case: Case, forged: Forged
) -> None:
    values = forged.plain
    values["tool"]["version"] = "9.0.0"
    values["not_covered"] = _same_length(values["not_covered"], "Nothing: all effects are covered.")
    forged.write(values, judged=False)
    checks = {check.id: check for check in case.replay(forged.folder, redraw=0)}
    assert [checks[name].held for name in ("tool", "derived not_covered")] == [None, None]
    assert "read them" in checks["derived not_covered"].detail


@pytest.mark.usefixtures("one_rerun")
def test_another_machine_makes_no_tame_witness_true(case: Case, forged: Forged) -> None:
    tame_witness(forged)
    values = forged.plain
    values["machine"]["processor"] = _OTHER_CPU
    forged.write(values)
    checks = {check.id: check for check in case.replay(forged.folder, redraw=0, rerun=True)}
    assert checks["machine"].held is None
    assert checks["rerun worst_found"].held is False
    assert checks["rerun diagnostics"].held is not False


def test_a_transferred_witness_that_is_not_at_hand_is_searched_for(
    case: Case, forged: Forged
) -> None:
    tame_witness(forged)
    values = forged.plain
    transferred_from_nowhere(forged)
    values = forged.plain
    values["worst_found"]["members"].append(
        {**values["worst_found"]["members"][0], "name": "transferred_witness"}
    )
    forged.write(values)
    checks = {check.id: check for check in case.replay(forged.folder, redraw=0, rerun=True)}
    assert checks["settings"].held is True
    assert (checks["rerun"].held, checks["second_search"].held) == (None, False)
    assert "--transfer" in checks["rerun"].detail


def _huge() -> Iterator[tuple[str, Any]]:
    yield "certified.largest_tolerance.steps_per_octave", 2**62
    yield "certified.curve.0.score", 1e308
    yield "mapping.layers.0.shape.0", 2**62
    yield "mapping.layers.0.box_radius", 1e308
    yield "mapping.layers.0.rule", 2**62
    yield "monte_carlo.trials", 2**62
    yield "monte_carlo.kpp.0.needed_trials", 2**62
    yield "clean.samples", 0
    yield "data.used", 2**62
    yield "device.profile.device.bits", 2**62
    yield "evaluation_set.decisions", 2**62
    yield "worst_found.score", -1e308


@pytest.mark.parametrize(("place", "value"), list(_huge()))
def test_numbers_beyond_reason_are_refuted_and_break_nothing(
    case: Case, forged: Forged, place: str, value: Any
) -> None:
    values = forged.plain
    *steps, last = [int(step) if step.isdecimal() else step for step in place.split(".")]
    holder: Any = values
    for step in steps:
        holder = holder[step]
    holder[last] = value
    (forged.folder / CERTIFICATE).write_text(json.dumps(values))
    write_manifest(forged.folder)
    assert run(["replay", str(forged.folder)]) == 6
    assert run(["gate", str(forged.folder), "--policy", str(case.policy)]) == 6


@pytest.mark.parametrize("text", ["NaN", "Infinity", "1e999", "-0.0e999"])
def test_what_is_no_number_is_refused(case: Case, forged: Forged, text: str) -> None:
    path = forged.folder / CERTIFICATE
    values = forged.plain
    values["worst_found"]["score"] = 0.123456789
    path.write_text(json.dumps(values).replace("0.123456789", text))
    refused = {
        run(["replay", str(forged.folder)]),
        run(["gate", str(forged.folder), "--policy", str(case.policy)]),
    }
    assert refused <= {5, 6}
