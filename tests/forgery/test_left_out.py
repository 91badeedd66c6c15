"""Forgeries of what other checks count by: counts, reasons, scales, efforts and sentences that are
left out or relabelled, so that nothing would look at a better number.
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
from cimrobust.certificate.certificate_files import read_certificate
from cimrobust.certificate.manifest import write_manifest
from cimrobust.certificate.models import CertificateModel
from cimrobust.certificate.result_names import CERTIFICATE, CERTIFIED
from cimrobust.cli.main import run
from cimrobust.device.digest import profile_digest
from cimrobust.device.load_profile import profile_of
from cimrobust.review.device_check import DEVICES
from cimrobust.review.evidence_problems import examine
from tests.forgery.conftest import Case, Forged, Forgery

_ABSENT = "not asked for"


def _set(place: str, value: Any) -> Forgery:
    """Return the forgery of one field, with all that follows from it."""

    def forge(forged: Forged) -> None:
        values = forged.plain
        *steps, last = [int(step) if step.isdecimal() else step for step in place.split(".")]
        holder: Any = values
        for step in steps:
            holder = holder[step]
        holder[last] = value
        forged.write(values)

    return forge


def proof_without_a_count(forged: Forged) -> None:
    """Without a count nobody looks at the certified samples: any score is proven."""
    values = forged.plain
    found = values["worst_found"]["score"]
    values["certified"].update(
        score=found, correct=None, largest_tolerance=None, largest_tolerance_reason=_ABSENT
    )
    rows = values["evaluation_set"]["intervals"]
    values["evaluation_set"]["intervals"] = [row for row in rows if row["name"] != "certified"]
    values["checks"] = [row for row in values["checks"] if row["id"] != "certified_unbroken"]
    (forged.folder / CERTIFIED).unlink()
    forged.write(values)


def quantised_score_without_a_count(forged: Forged) -> None:
    """The clean requirement is judged by it."""
    values = forged.plain
    values["clean"].update(quantised_score=1.0, quantised_correct=None)
    rows = values["evaluation_set"]["intervals"]
    values["evaluation_set"]["intervals"] = [row for row in rows if row["name"] != "quantised"]
    forged.write(values)


def another_effort(forged: Forged) -> None:
    """The label that a policy asks for, wherever it stands."""
    values = forged.plain
    values["worst_found"]["effort"] = "thorough"
    values["diagnostics"]["safety_class"]["effort"] = "thorough"
    next(row for row in values["settings"] if row["key"] == "effort")["value"] = "thorough"
    for text in ("command", "python"):
        values["reproduce"][text] = values["reproduce"][text].replace("quick", "thorough")
    forged.write(values)


def box_narrowed_with_its_scale(forged: Forged) -> None:
    """A smaller scale of the least coded group lets the whole box be as narrow as that."""
    folder, values = forged.folder / "witness", forged.plain
    path = folder / "deviations.safetensors"
    tensors = load_file(path)
    (forged.folder / DEVICES).unlink()
    del values["worst_found"]["witness"][DEVICES]
    for layer in values["mapping"]["layers"]:
        layer["scale_min"] = layer["scale_max"] / 4
        for part in ("lo", "hi"):
            tensors[f"{layer['initializer']}.{part}"] /= np.float32(4)
        layer["box_radius"] /= 4
        layer["levels_given"] = True
    for layer in values["mapping"]["layers"]:
        name = layer["initializer"]
        lo, hi = tensors[f"{name}.lo"], tensors[f"{name}.hi"]
        tensors[f"{name}.deviation"] = np.clip(tensors[f"{name}.deviation"], lo, hi)
    save_file(tensors, path)
    forged.write(values)


def no_class_table(forged: Forged) -> None:
    values = forged.plain
    values["clean"].update(per_class=None, per_class_reason=_ABSENT)
    forged.write(values)


def confusion_of_fewer_classes(forged: Forged) -> None:
    values = forged.plain
    values["worst_found"]["confusion"] = [row[:-1] for row in values["worst_found"]["confusion"]]
    forged.write(values)


def other_arrays(forged: Forged) -> None:
    values = forged.plain
    values["mapping"]["layers"][0]["rows"] += 1
    forged.write(values)


def intervals_left_out(forged: Forged) -> None:
    values = forged.plain
    rows = values["evaluation_set"]["intervals"]
    values["evaluation_set"]["intervals"] = [row for row in rows if row["name"] != "worst_found"]
    forged.write(values)


def setting_given_twice(forged: Forged) -> None:
    values = forged.plain
    limit = next(row for row in values["settings"] if row["key"] == "limit")
    values["settings"].append(dict(limit))
    forged.write(values)


def other_command(forged: Forged) -> None:
    values = forged.plain
    values["reproduce"]["command"] += " --passes 3341"
    forged.write(values)


def snippet_of_somebody(forged: Forged) -> None:
    """A reviewer runs it."""
    values = forged.plain
    values["reproduce"]["witness_check"] = "import os\nos.system('true')\n"
    forged.write(values)


def failed_self_check(forged: Forged) -> None:
    values = forged.plain
    values["checks"][0]["held"] = False
    forged.write(values)


def self_check_left_out(forged: Forged) -> None:
    values = forged.plain
    del values["checks"][1]
    forged.write(values)


def limit_left_out(forged: Forged) -> None:
    values = forged.plain
    del values["not_covered"][0]
    forged.write(values)


def assumption_in_other_words(forged: Forged) -> None:
    values = forged.plain
    values["assumptions"][0]["text"] = "Devices are ideal."
    forged.write(values)


def members_left_out(forged: Forged) -> None:
    values = forged.plain
    values["worst_found"]["not_run"] = []
    forged.write(values)


def curve_that_rises(forged: Forged) -> None:
    values = forged.plain
    values["worst_found"]["effort_curve"]["points"].reverse()
    forged.write(values)


def search_that_only_found_better(forged: Forged) -> None:
    """The chip without deviation is known from the start: no worst chip is better than it."""
    values = forged.plain
    worst, samples = values["worst_found"], values["clean"]["samples"]
    correct = samples
    assert correct - values["clean"]["quantised_correct"] > max(2, 0.02 * samples)
    worst.update(score=correct / samples, correct=correct)
    worst["replay"].update(score=correct / samples, correct=correct)
    worst["replay"]["engine_score"] = correct / samples
    for member in worst["members"]:
        member.update(score=correct / samples, correct=correct)
    forged.write(values, judged=False, rendered=False)


def better_drawn_chip(forged: Forged) -> None:
    """The worst chip drawn is known from the start too; its score is that of the trials."""
    values = forged.plain
    samples = values["clean"]["samples"]
    drawn = next(
        row for row in values["worst_found"]["members"] if row["name"] == "worst_drawn_chip"
    )
    drawn["correct"] -= 3 + samples // 50
    drawn["score"] = drawn["correct"] / samples
    forged.write(values)


def likelier_than_it_is(forged: Forged) -> None:
    values = forged.plain
    values["worst_found"]["likelihood"]["log10_probability"] *= 2
    forged.write(values)


def recall_without_its_count(forged: Forged) -> None:
    values = forged.plain
    values["diagnostics"]["safety_class"]["recall"] = 1.0
    forged.write(values)


def another_safety_class(forged: Forged) -> None:
    values = forged.plain
    values["diagnostics"]["safety_class"]["label"] = 0
    forged.write(values)


def other_devices_under_the_shipped_name(forged: Forged) -> None:
    """The profile that the command names is another one."""
    values = forged.plain
    values["device"]["profile"]["source"] = "measured on our devices by FabX"
    profile = profile_of(values["device"]["profile"], shown="forged")
    values["device"]["profile_sha256"] = profile_digest(profile)
    values["assumptions"] = [
        json.loads(json.dumps(row).replace("Yan 2022, arXiv 2207.07626", profile.source))
        for row in values["assumptions"]
    ]
    forged.write(values)


#: What the gate refutes, by the name of the check.
LEFT_OUT: dict[str, tuple[Forgery, str]] = {
    "proof_without_a_count": (proof_without_a_count, "decision_counts"),
    "quantised_score_without_a_count": (quantised_score_without_a_count, "decision_counts"),
    "member_without_a_count": (_set("worst_found.members.0.correct", None), "decision_counts"),
    "another_effort": (another_effort, "search_numbers"),
    "box_narrowed_with_its_scale": (box_narrowed_with_its_scale, "witness_in_box"),
    "smaller_scale": (_set("mapping.layers.0.scale_min", 1e-6), "witness_in_box"),
    "other_arrays": (other_arrays, "witness_in_box"),
    "no_class_table": (no_class_table, "decision_counts"),
    "confusion_of_fewer_classes": (confusion_of_fewer_classes, "decision_counts"),
    "part_without_a_reason": (_set("worst_found.flipped", None), "reasons"),
    "part_and_a_reason": (_set("converters_reason", ""), "reasons"),
    "intervals_left_out": (intervals_left_out, "evaluation_set"),
    "fewer_decisions_of_a_sample": (
        _set("evaluation_set.most_decisions", None),
        "evaluation_set",
    ),
    "setting_given_twice": (setting_given_twice, "settings"),
    "trials_of_a_setting": (_set("settings.1.value", 10_000), "settings"),
    "other_command": (other_command, "settings"),
    "snippet_of_somebody": (snippet_of_somebody, "settings"),
    "seeds_left_out": (_set("seeds", {}), "settings"),
    "failed_self_check": (failed_self_check, "self_checks"),
    "self_check_left_out": (self_check_left_out, "self_checks"),
    "limit_left_out": (limit_left_out, "scope"),
    "assumption_in_other_words": (assumption_in_other_words, "scope"),
    "members_left_out": (members_left_out, "search_numbers"),
    "search_that_only_found_better": (search_that_only_found_better, "search_numbers"),
    "better_drawn_chip": (better_drawn_chip, "search_numbers"),
    "unknown_member": (_set("worst_found.member", "exhaustive_proof"), "search_numbers"),
    "score_of_the_engine": (_set("worst_found.replay.engine_score", 1.0), "search_numbers"),
    "curve_that_rises": (curve_that_rises, "search_numbers"),
    "likelier_than_it_is": (likelier_than_it_is, "search_numbers"),
    "recall_without_its_count": (recall_without_its_count, "explained_numbers"),
    "another_safety_class": (another_safety_class, "explained_numbers"),
    "effect_of_another_score": (_set("diagnostics.effects.0.mean", 1.0), "explained_numbers"),
    "no_digest_of_the_network": (_set("model.files", []), "item"),
    "digest_that_is_none": (_set("policy_sha256", "as agreed"), "item"),
    "reading_that_is_none": (_set("data.decision.read", "certified"), "item"),
    "devices_outside_not_told": (_set("device.devices_outside", None), "device_numbers"),
    "other_output": (_set("data.decision.output", "another"), "metric_numbers"),
    "larger_share_mapped": (_set("model.mapped_fraction", 1.0), "mapping_numbers"),
    "other_metric_in_words": (_set("metric.description", "proven share"), "metric"),
    "other_devices_under_the_shipped_name": (
        other_devices_under_the_shipped_name,
        "device_profile",
    ),
    "version_beside_todays": (
        _set("tool.version", f"{cimrobust.__version__} (audited)"),
        "tool",
    ),
}


def _problems(folder: Path) -> set[str]:
    return {
        problem.id for problem in examine(folder, read_certificate(folder), None, None).problems
    }


def test_the_genuine_certificate_has_no_problem(case: Case) -> None:
    assert _problems(case.folder) == set()


@pytest.mark.parametrize("name", LEFT_OUT)
def test_a_gate_refutes(forged: Forged, name: str) -> None:
    forge, expected = LEFT_OUT[name]
    forge(forged)
    assert expected in _problems(forged.folder)


def test_a_witness_with_another_bias_is_refuted_beside_the_network(
    case: Case, forged: Forged
) -> None:
    """No device stores biases, so the box says nothing about them."""
    path = forged.folder / "witness" / "worst_case.onnx"
    model = onnx.load(path)
    stored = {layer["initializer"] for layer in forged.plain["mapping"]["layers"]}
    bias = next(one for one in model.graph.initializer if one.name not in stored)
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + 1, bias.name))
    onnx.save(model, path)
    forged.write(forged.plain)
    certificate = read_certificate(forged.folder)
    found = examine(forged.folder, certificate, case.model, None).problems
    assert [problem.id for problem in found] == ["witness_rest"]
    assert bias.name in found[0].detail


def _not_checked(folder: Path, case: Case, **given: Any) -> set[str]:
    found = cimrobust.gate(folder, policy=case.policy, **given)
    assert all(claim.detail for claim in found.not_checked)
    return {claim.id for claim in found.not_checked}


def test_a_gate_names_what_it_believes(case: Case) -> None:
    always = {
        "machine",
        "drawn_chips",
        "scores",
        "certified",
        "explained",
        "reasons",
        "page",
        "maker",
    }
    assert _not_checked(case.folder, case) == always | {"model_hash", "data_hash"}
    assert _not_checked(case.folder, case, model=case.model, data=case.data) == always


@pytest.mark.parametrize("version", ["0.3.0", "99.0.0"])
def test_what_another_version_is_not_held_to_is_named(
    case: Case, forged: Forged, version: str
) -> None:
    """To state another version keeps sentences from being compared: the gate says so."""
    values = forged.plain
    values["tool"]["version"] = version
    values["assumptions"][0]["text"] = "Devices are ideal."
    forged.write(values)
    named = _not_checked(forged.folder, case)
    assert {"scope", "verdict", "other_version"} <= named
    assert ("tool" in named) is (version == "99.0.0")


_VERSION = CertificateModel.VERSION


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (_VERSION.replace(".", ".0"), "schema_version must be like"),
        (f"{_VERSION}.0", f"certificate must state version '{_VERSION}' so, got"),
        (
            _VERSION.translate({ord(digit): chr(0x660 + int(digit)) for digit in "0123456789"}),
            "schema_version must be like",
        ),
    ],
)
def test_a_version_is_stated_in_one_way(
    case: Case, forged: Forged, text: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    values = forged.plain
    values["schema_version"] = text
    (forged.folder / CERTIFICATE).write_text(json.dumps(values))
    write_manifest(forged.folder)
    assert run(["gate", str(forged.folder), "--policy", str(case.policy)]) == 5
    assert says in " ".join(capsys.readouterr().err.split())
