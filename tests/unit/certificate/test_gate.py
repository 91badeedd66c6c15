"""The gate believes nothing: what its files contradict, what is missing and what is of another
network never passes.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

import cimrobust
from cimrobust.certificate.blocks.drawn_chips import monte_carlo
from cimrobust.certificate.blocks.samples_block import interval_of
from cimrobust.certificate.certificate_files import canonical_json, read_certificate
from cimrobust.certificate.manifest import write_manifest
from cimrobust.certificate.policy import Policy
from cimrobust.certificate.schema_files import schema_file
from cimrobust.certificate.verdict import judge
from cimrobust.cli.main import run
from cimrobust.errors import EvidenceRefutedError, UsageError
from cimrobust.montecarlo.trial_table import from_parquet, to_parquet
from tests.unit.certificate.conftest import DATA, MODEL, SAMPLES

Forge = Callable[[Path, dict[str, Any]], None]
LAX = "[require]\nclean_accuracy = 0.5\n"


def write(folder: Path, text: str) -> Path:
    path = folder / "policy.toml"
    path.write_text(text)
    return path


def forged(genuine: Path, folder: Path, forge: Forge) -> Path:
    out = folder / "forged"
    shutil.copytree(genuine, out)
    path = out / "certificate.json"
    plain = json.loads(path.read_text())
    forge(out, plain)
    path.write_text(json.dumps(plain))
    if (out / "manifest.json").exists():  # a forger states the new digests too
        write_manifest(out)
    return out


def problems(directory: Path, folder: Path, policy: str = LAX, **more: Any) -> set[str]:
    with pytest.raises(EvidenceRefutedError) as caught:
        cimrobust.gate(directory, policy=write(folder, policy), **more)
    assert caught.value.exit_code == 6
    return {problem.id for problem in caught.value.problems}


def better_score(out: Path, plain: dict[str, Any]) -> None:
    plain["worst_found"]["score"] = 0.95


def no_witness(out: Path, plain: dict[str, Any]) -> None:
    better_score(out, plain)
    shutil.rmtree(out / "witness")


def better_score_and_what_follows(out: Path, plain: dict[str, Any]) -> None:
    worst = plain["worst_found"]
    worst.update(score=57 / 60, correct=57, effort="thorough")
    rows = plain["evaluation_set"]["intervals"]
    again = interval_of("worst_found", 57 / 60, num_decisions=60, num_inputs=60).model_dump()
    plain["evaluation_set"]["intervals"] = [
        again if row["name"] == "worst_found" else row for row in rows
    ]


def better_trials(out: Path, plain: dict[str, Any]) -> None:
    plain["monte_carlo"].update(mean=0.99, min=0.98)


def better_table(out: Path, plain: dict[str, Any]) -> None:
    table = from_parquet(out / "trials.parquet")
    table.value[:] = 1.0
    to_parquet(table, out / "trials.parquet")


def proof(out: Path, plain: dict[str, Any]) -> None:
    plain["certified"].update(score=0.9)


def proof_above_the_worst_chip(out: Path, plain: dict[str, Any]) -> None:
    plain["certified"].update(score=54 / 60, correct=54)


def smaller_tolerance(out: Path, plain: dict[str, Any]) -> None:
    plain["device"]["tolerance_fraction"] = 0.01


def other_profile_digest(out: Path, plain: dict[str, Any]) -> None:
    plain["device"]["profile_sha256"] = "0" * 64


def other_spread(out: Path, plain: dict[str, Any]) -> None:
    plain["monte_carlo"]["std"] = 0.0


def green_word(out: Path, plain: dict[str, Any]) -> None:
    plain["verdict"] = {"word": "PASS_CERTIFIED", "sentence": "All is well.", "requirements": []}


def other_effort(out: Path, plain: dict[str, Any]) -> None:
    plain["worst_found"]["effort"] = "thorough"
    plain["verdict"]["sentence"] += " With effort thorough."


FORGERIES: dict[str, tuple[Forge, str]] = {
    "f1: score of the worst chip": (better_score, "worst_found_numbers"),
    "f1c: and all that names it": (better_score_and_what_follows, "worst_found_numbers"),
    "f3: numbers about drawn chips": (better_trials, "trials"),
    "f3: their table": (better_table, "trials"),
    "f5: a proof": (proof, "evaluation_set"),
    "f5: a proof that a chip breaks": (proof_above_the_worst_chip, "order"),
    "f8: no witness": (no_witness, "missing"),
    "f9: tolerance in the header": (smaller_tolerance, "device_numbers"),
    "f10: spread of the drawn chips": (other_spread, "trials"),
    "f11: effort named in the verdict": (other_effort, "verdict"),
    "digest of the profile": (other_profile_digest, "device_numbers"),
    "verdict": (green_word, "verdict"),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_forgeries_are_refused(name, failing, tmp_path):
    forge, noticed = FORGERIES[name]
    assert noticed in problems(forged(failing, tmp_path, forge), tmp_path)


def test_a_genuine_certificate_is_judged(failing, tmp_path):
    result = cimrobust.gate(failing, policy=write(tmp_path, LAX), model=MODEL, data=DATA)
    assert (result.word, result.exit_code) == ("INCONCLUSIVE", 3)
    assert result.policy.name == "policy.toml"
    assert len(result.to_dict()["policy_sha256"]) == 64


@pytest.mark.parametrize(
    "name",
    [
        "trials.parquet",
        "witness/worst_case.onnx",
        "witness/deviations.safetensors",
        "witness/devices.safetensors",
    ],
)
def test_missing_files_are_named(name, failing, tmp_path):
    out = forged(failing, tmp_path, lambda out, plain: (out / name).unlink())
    with pytest.raises(EvidenceRefutedError, match=rf"missing: file {name} is missing"):
        cimrobust.gate(out, policy=write(tmp_path, LAX))


def test_a_certificate_that_names_no_witness_is_refused(failing, tmp_path):
    def unnamed(out: Path, plain: dict[str, Any]) -> None:
        plain["worst_found"]["witness"] = {}

    assert "witness" in problems(forged(failing, tmp_path, unnamed), tmp_path)


def test_certificates_of_another_network_or_other_data_are_refused(failing, tmp_path):
    # f6: without --model an old certificate of another network would pass.
    assert problems(failing, tmp_path, model=SAMPLES / "digits_cnn.onnx") == {"model_hash"}
    with np.load(SAMPLES / "breast_cancer_test.npz") as arrays:
        np.savez(tmp_path / "other.npz", **{key: array[::-1] for key, array in arrays.items()})
    text = DATA.read_text().replace("breast_cancer_test.npz", "other.npz")
    (tmp_path / "other.toml").write_text(text)
    assert problems(failing, tmp_path, data=tmp_path / "other.toml") == {"data_hash"}


def test_a_description_of_another_network_is_refused(failing, tmp_path):
    def smaller(out: Path, plain: dict[str, Any]) -> None:
        plain["model"]["parameters"] += 1

    assert "model_numbers" in problems(forged(failing, tmp_path, smaller), tmp_path, model=MODEL)


def test_a_model_that_cannot_be_read_is_wrong_usage_not_refuted_evidence(failing, tmp_path):
    with pytest.raises(UsageError):
        cimrobust.gate(failing, policy=write(tmp_path, LAX), model=tmp_path / "no.onnx")


def test_refuted_evidence_is_exit_code_6_with_every_problem_in_json_and_junit(
    failing, tmp_path, capsys
):
    out, junit = forged(failing, tmp_path, no_witness), tmp_path / "gate.xml"
    policy = write(tmp_path, LAX)
    assert run(["gate", str(out), "--policy", str(policy), "--json", "--junit", str(junit)]) == 6
    said = capsys.readouterr()
    printed = json.loads(said.out)
    assert (printed["exit_code"], printed["word"]) == (6, "EVIDENCE_REFUTED")
    assert {"missing", "worst_found_numbers"} <= {problem["id"] for problem in printed["problems"]}
    assert "file witness/worst_case.onnx is missing" in said.err
    cases = ElementTree.parse(junit).getroot().findall(".//testcase")
    assert all(case.find("error") is not None for case in cases)
    assert {"evidence: missing", "verdict"} <= {case.get("name") for case in cases}


CONDITIONS = """
[conditions]
device = "rram-write-verify-3pct"
least_tolerance = 0.03
least_samples = 100
[[require]]
id = "SR-1"
kpp = { k = 1, accuracy = 0.9 }
[[require]]
id = "SR-2"
certified_accuracy = 0.8
"""


def test_evidence_that_was_made_for_something_else_passes_nothing(flattering, tmp_path):
    # B1: 20 samples at 0.01 %, where everything is certified.
    without = CONDITIONS.split("[[require]]", 1)[1]
    assert (
        cimrobust.gate(flattering, policy=write(tmp_path, f"[[require]]{without}")).word
        == "PASS_CERTIFIED"
    )
    result = cimrobust.gate(flattering, policy=write(tmp_path, CONDITIONS))
    assert (result.word, result.exit_code) == ("INCONCLUSIVE", 3)
    status = {row.id: row.status for row in result.requirements}
    assert status == {
        "SR-1": "met",
        "SR-2": "met",
        "condition: device": "refuted",
        "condition: least_tolerance": "refuted",
        "condition: least_samples": "refuted",
    }
    assert "made for something else" in result.verdict.sentence


def test_conditions_that_do_not_hold_are_errors_in_junit_without_a_witness(flattering, tmp_path):
    junit = tmp_path / "gate.xml"
    cimrobust.gate(flattering, policy=write(tmp_path, CONDITIONS), junit=junit)
    case = next(
        case
        for case in ElementTree.parse(junit).getroot().iter("testcase")
        if case.get("name") == "condition: least_samples"
    )
    error = case.find("error")
    assert error is not None
    assert "20 samples" in error.get("message", "")
    assert "worst_case" not in error.get("message", "")


def test_few_samples_do_not_pass_beyond_themselves(flattering, tmp_path):
    rows = '[[require]]\nid = "SR-1"\nsamples = "beyond"\n'
    certified = cimrobust.gate(
        flattering, policy=write(tmp_path, f"{rows}certified_accuracy = 0.9")
    )
    assert certified.word == "INCONCLUSIVE"
    assert (
        cimrobust.gate(flattering, policy=write(tmp_path, f"{rows}certified_accuracy = 0.8")).word
        == "PASS_CERTIFIED"
    )
    drawn = cimrobust.gate(
        flattering, policy=write(tmp_path, f"{rows}kpp = {{ k = 5, accuracy = 0.9 }}")
    )
    assert drawn.word == "INCONCLUSIVE"
    assert "Beyond these samples its bound is 69.15 %" in drawn.requirements[0].sentence


def test_the_age_of_a_certificate_is_counted_to_the_day_that_is_given(
    failing, flattering, tmp_path
):
    policy = write(tmp_path, f"[conditions]\nnewest_days = 30\n{LAX}")
    row = {
        day: cimrobust.gate(failing, policy=policy, today=day).requirements[-1]
        for day in ("2026-12-01", "2026-12-02", "2026-10-31")
    }
    assert [found.status for found in row.values()] == ["met", "refuted", "refuted"]
    undated = cimrobust.gate(flattering, policy=policy, today="2026-11-01").requirements[-1]
    assert undated.status == "refuted"
    assert "--issued" in undated.sentence
    assert cimrobust.gate(failing, policy=policy).requirements[-1].id == "condition: newest_days"


def test_a_certificate_must_be_issued_after_the_day_that_is_asked(failing, tmp_path):
    policy = write(tmp_path, LAX)
    for day, status in (("2026-10-31", "met"), ("2026-11-01", "refuted")):
        assert (
            cimrobust.gate(failing, policy=policy, issued_after=day).requirements[-1].status
            == status
        )
    with pytest.raises(UsageError, match=r"day must be like 2026-11-29, got '1\.11\.2026'"):
        cimrobust.gate(failing, policy=policy, issued_after="1.11.2026")


def test_a_network_is_compared_with_the_one_in_use(failing, flattering, tmp_path):
    policy = write(tmp_path, LAX)
    same = cimrobust.gate(failing, policy=policy, baseline=failing, no_worse_than=0.01)
    assert {row.id: row.status for row in same.requirements}["no_worse_than_baseline"] == "met"
    other = cimrobust.gate(failing, policy=policy, baseline=flattering, no_worse_than=0.01)
    assert "other samples" in other.requirements[-1].sentence
    asked = write(tmp_path, '[[require]]\nid = "SR-9"\nno_worse_than_baseline = 0.01\n')
    assert cimrobust.gate(failing, policy=asked).requirements[0].status == "open"
    assert cimrobust.gate(failing, policy=asked, baseline=failing).requirements[0].status == "met"


def test_the_evidence_of_the_baseline_is_checked_too(failing, tmp_path):
    worse = forged(failing, tmp_path, lambda out, plain: plain["worst_found"].update(score=0.01))
    assert "baseline: worst_found_numbers" in problems(
        failing, tmp_path, baseline=worse, no_worse_than=0.01
    )


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"no_worse_than": 0.1}, "comparison needs a certificate to compare with, got none"),
        ({"baseline": "failing"}, "must be asked about"),
        ({"baseline": "failing", "no_worse_than": -0.1}, "at least 0"),
        ({"today": "today"}, "day must be like"),
    ],
)
def test_arguments_that_do_not_go_together_are_refused(more, message, failing, tmp_path):
    with pytest.raises(UsageError, match=message):
        cimrobust.gate(
            failing,
            policy=write(tmp_path, LAX),
            **{key: failing if value == "failing" else value for key, value in more.items()},
        )


def test_the_policy_of_a_run_is_in_its_certificate_and_its_command(tmp_path):
    policy = SAMPLES / "policies" / "tumours.toml"
    certificate = cimrobust.analyze(
        MODEL,
        data=DATA,
        out=tmp_path / "out",
        limit=20,
        trials=3,
        effort="quick",
        policy=policy,
        issued="2026-11-29",
    )
    assert "--policy tumours.toml" in certificate.record.reproduce.command
    assert "--issued 2026-11-29" in certificate.record.reproduce.command
    assert certificate.record.policy_file == "tumours.toml"
    assert certificate.record.item is not None
    assert certificate.record.item.hazards
    assert certificate.record.verdict == judge(
        certificate.record,
        Policy.model_validate(certificate.record.policy),
        from_parquet(tmp_path / "out" / "trials.parquet"),
    )
    assert (
        cimrobust.gate(tmp_path / "out", policy=policy, today="2026-11-30").word == "INCONCLUSIVE"
    )


def of_schema(value: Any, schema: dict[str, Any], definitions: dict[str, Any]) -> Any:
    """Return what a published schema has fields for."""
    if "$ref" in schema:
        schema = definitions[schema["$ref"].rsplit("/", 1)[1]]
    for choice in schema.get("anyOf", []):
        if value is not None and choice.get("type") != "null":
            return of_schema(value, choice, definitions)
    if isinstance(value, dict) and "properties" in schema:
        return {
            name: of_schema(part, schema["properties"][name], definitions)
            for name, part in value.items()
            if name in schema["properties"]
        }
    if isinstance(value, list) and isinstance(schema.get("items"), dict):
        return [of_schema(part, schema["items"], definitions) for part in value]
    return value


def test_older_certificates_are_gated_by_todays_rules_and_their_verdict_is_not_called_forged(
    failing, tmp_path
):
    def older(out: Path, plain: dict[str, Any]) -> None:
        published = json.loads(schema_file("certificate", "1.5").read_text())
        kept = of_schema(plain, published, published["$defs"])
        plain.clear()
        plain.update(kept)
        plain["schema_version"] = "1.5"
        plain["tool"]["version"] = "0.2.0"
        plain["verdict"]["sentence"] = "As version 0.2.0 said it."
        (out / "manifest.json").unlink()

    out = forged(failing, tmp_path, older)
    assert cimrobust.gate(out, policy=write(tmp_path, LAX)).word == "INCONCLUSIVE"
    found = next(check for check in cimrobust.replay(out) if check.id == "verdict")
    assert found.held is None
    assert "earlier version's rules" in found.detail


def test_what_the_gate_cannot_see_is_known(failing, tmp_path):
    """A table of trials that was invented together with all that follows from it: only `replay`
    with model and data can draw again.
    """

    def invented(out: Path, plain: dict[str, Any]) -> None:
        record, table = read_certificate(out), from_parquet(out / "trials.parquet")
        table.value[:], table.count[:] = 1.0, table.num_samples  # type: ignore[index]
        to_parquet(table, out / "trials.parquet")
        drawn = monte_carlo(table, None, num_inputs=60)
        rows = [
            interval_of("mean", 1.0, num_decisions=60, num_inputs=60) if row.name == "mean" else row
            for row in record.evaluation_set.intervals
        ]
        made = record.model_copy(
            update={
                "monte_carlo": drawn,
                "evaluation_set": record.evaluation_set.model_copy(update={"intervals": rows}),
            }
        )
        plain.clear()
        plain.update(json.loads(canonical_json(made)))
        # The search begins with the worst chip drawn: alone the table would be refuted.
        for member in plain["worst_found"]["members"]:
            if member["name"] == "worst_drawn_chip":
                member.update(score=1.0, correct=table.num_samples)
        # The row that has all effects scores the first chips of the table.
        *_, before, row = plain["diagnostics"]["effects"]
        row.update(mean=1.0, low=1.0, high=1.0, change=1.0 - before["mean"])

    found = cimrobust.gate(forged(failing, tmp_path, invented), policy=write(tmp_path, LAX))
    assert found.word == "INCONCLUSIVE"
    assert "drawn_chips" in {claim.id for claim in found.not_checked}
