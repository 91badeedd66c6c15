"""Attacks on what a gate rests on and what it writes: trials and effects of different runs, names
that command a reader, files that take the place of others while they are read.
"""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import cimrobust
from cimrobust.certificate.certificate_files import read_certificate
from cimrobust.certificate.manifest import write_manifest
from cimrobust.certificate.result_names import CERTIFICATE, TRIALS
from cimrobust.cli.main import run
from cimrobust.errors import InputRefusedError
from cimrobust.montecarlo.trial_table import TrialTable, from_parquet, to_parquet
from cimrobust.review import gating
from cimrobust.review.evidence_problems import examine
from tests.forgery.conftest import Case, Forged, Forgery
from tests.forgery.test_forged_certificates import _drawn

# Ends a tag, a line and a field of colours, and hides what stands behind it.
HOSTILE = "x</script>\x1b[31m\x00\nholds         verdict\n::error::\u202e"


def _refuted(folder: Path) -> set[str]:
    found = examine(folder, read_certificate(folder), None, None).problems
    return {problem.id for problem in found}


def _with_trials(forged: Forged, correct: int) -> dict[str, Any]:
    """Let every trial score the same, and the search have begun with the worst of them."""
    values, table = forged.plain, from_parquet(forged.folder / TRIALS)
    count = np.full(table.num_trials, correct)
    better = TrialTable(**{**vars(table), "value": count / table.num_samples, "count": count})
    to_parquet(better, forged.folder / TRIALS)
    _drawn(values, better)
    drawn = next(
        row for row in values["worst_found"]["members"] if row["name"] == "worst_drawn_chip"
    )
    drawn.update(score=correct / table.num_samples, correct=correct)
    return values


def trials_and_what_the_search_knew_of_them(forged: Forged) -> None:
    """Invented trials, with all that follows from them, the member of the search too."""
    table = from_parquet(forged.folder / TRIALS)
    assert table.count is not None
    forged.write(_with_trials(forged, int(table.count.max()) + 1))


def effects_of_no_chips(forged: Forged) -> None:
    """Where nothing was drawn there is nothing to compare."""
    values = forged.plain
    row = values["diagnostics"]["effects"][-1]
    row.update(chips=0, low=row["mean"], high=row["mean"])
    forged.write(values)


def effects_under_another_name(forged: Forged) -> None:
    values = forged.plain
    values["diagnostics"]["effects"][-1]["effect"] = "drift"
    forged.write(values)


def effects_with_a_better_mean(forged: Forged) -> None:
    values = forged.plain
    row = values["diagnostics"]["effects"][-1]
    better = row["mean"] + 0.01
    row.update(change=row["change"] + 0.01, mean=better, high=max(better, row["high"]))
    forged.write(values)


@pytest.mark.parametrize(
    "forge",
    [
        trials_and_what_the_search_knew_of_them,
        effects_of_no_chips,
        effects_under_another_name,
        effects_with_a_better_mean,
    ],
)
def test_trials_and_effects_are_of_one_run(forged: Forged, forge: Forgery) -> None:
    forge(forged)
    assert _refuted(forged.folder) == {"drawn_effects"}


def test_scores_of_a_device_are_not_compared_and_named(case: Case, forged: Forged) -> None:
    """To say that a device scored the trials keeps them from being compared: the gate says so."""
    values = forged.plain
    values["settings"].append({"key": "trials-on", "value": "device", "is_default": False})
    (forged.folder / CERTIFICATE).write_text(json.dumps(values))
    found = examine(forged.folder, read_certificate(forged.folder), None, None)
    assert "drawn_effects" in {claim.id for claim in found.unchecked}


def _claims(folder: Path, case: Case, **given: Any) -> dict[str, str]:
    found = cimrobust.gate(folder, policy=case.policy, **given).not_checked
    return {claim.id: claim.detail for claim in found}


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("drawn_chips", "invented, or taken from a run of another seed"),
        ("explained", "may be of a run of another seed"),
        ("reasons", "is taken as stated"),
        ("page", "may show other numbers"),
        ("maker", "only a signature says who made it"),
    ],
)
def test_what_only_a_replay_refutes_is_named_plainly(case: Case, name: str, says: str) -> None:
    assert says in _claims(case.folder, case)[name]


def test_a_tensor_under_another_name_is_named(case: Case, forged: Forged) -> None:
    """What network and witness call otherwise is not compared: the gate says so."""
    path = forged.folder / "witness/worst_case.onnx"
    model = onnx.load(path)
    stored = {row["initializer"] for row in forged.plain["mapping"]["layers"]}
    bias = next(one for one in model.graph.initializer if one.name not in stored)
    for node in model.graph.node:
        node.input[:] = ["other" if name == bias.name else name for name in node.input]
    bias.name = "other"
    onnx.save(model, path)
    forged.write(forged.plain)
    said = _claims(forged.folder, case, model=case.model)["witness_rest"]
    assert "other" in said


def test_reasons_are_named_by_their_places(case: Case) -> None:
    assert "diagnostics.classes" in _claims(case.folder, case)["reasons"]


def test_what_is_believed_of_a_baseline_is_named(case: Case) -> None:
    claims = _claims(case.folder, case, baseline=case.folder, no_worse_than=0.01)
    assert "drawn_chips" in claims["baseline"]
    assert "model_hash" in claims["baseline"]


def _named_hostile(forged: Forged) -> None:
    values = forged.plain
    values["model"]["name"] += HOSTILE
    values["model"]["files"][0]["name"] += HOSTILE
    values["data"]["files"] = {name + HOSTILE: one for name, one in values["data"]["files"].items()}
    (forged.folder / CERTIFICATE).write_text(json.dumps(values))
    write_manifest(forged.folder)


def test_reports_of_hostile_names_can_be_read(case: Case, forged: Forged, tmp_path: Path) -> None:
    _named_hostile(forged)
    junit, sarif = tmp_path / "junit.xml", tmp_path / "gate.sarif"
    options = ["--policy", str(case.policy), "--junit", str(junit), "--sarif", str(sarif)]
    assert run(["gate", str(forged.folder), *options]) == 6
    assert len(ElementTree.fromstring(junit.read_text())) == 1
    assert json.loads(sarif.read_text())["runs"]


def test_reports_hold_no_characters_that_command_a_reader(
    case: Case, forged: Forged, tmp_path: Path
) -> None:
    _named_hostile(forged)
    junit = tmp_path / "junit.xml"
    run(["gate", str(forged.folder), "--policy", str(case.policy), "--junit", str(junit)])
    assert not {"\x1b", "\x00", "\u202e"} & set(junit.read_text())


def test_no_name_writes_a_line_of_a_replay(
    forged: Forged, capsys: pytest.CaptureFixture[str]
) -> None:
    values = forged.plain
    values["tool"]["version"] += HOSTILE
    values["machine"]["processor"] += HOSTILE
    (forged.folder / CERTIFICATE).write_text(json.dumps(values))
    run(["replay", str(forged.folder)])
    said = capsys.readouterr().out
    assert not [line for line in said.splitlines() if line.startswith("::error")]
    assert not {"\x1b", "\x00", "\u202e"} & set(said)


def test_half_a_character_is_refused(
    case: Case, forged: Forged, capsys: pytest.CaptureFixture[str]
) -> None:
    values = forged.plain
    values["model"]["operators"]["\ud800"] = 1
    (forged.folder / CERTIFICATE).write_text(json.dumps(values))
    assert run(["gate", str(forged.folder), "--policy", str(case.policy)]) == 5
    assert "is half a character" in capsys.readouterr().err


def test_texts_in_a_table_of_trials_are_not_unpacked(tmp_path: Path, forged: Forged) -> None:
    """A long text in each of many rows takes a few bytes in the file and any number in memory."""
    read = pq.read_table(forged.folder / TRIALS)
    texts = pa.array(["x" * 2**20] * read.num_rows)
    pq.write_table(read.append_column("note", texts), tmp_path / TRIALS)
    assert from_parquet(tmp_path / TRIALS).num_trials == read.num_rows


def test_a_table_that_does_not_fit_is_refused(
    forged: Forged, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cimrobust.parquet_file.available_memory", lambda: 1000)
    with pytest.raises(InputRefusedError, match="trial table must fit into memory, got"):
        from_parquet(forged.folder / TRIALS)


def test_the_trials_that_were_checked_are_judged(
    case: Case, forged: Forged, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever swaps the table after its check changes nothing."""
    genuine = cimrobust.gate(case.folder, policy=case.policy)
    real = gating.examine

    def swapped(folder: Path, *arguments: Any, **more: Any) -> Any:
        found = real(folder, *arguments, **more)
        table = from_parquet(folder / TRIALS)
        ones = np.ones_like(table.value)
        to_parquet(TrialTable(**{**vars(table), "value": ones}), folder / TRIALS)
        return found

    monkeypatch.setattr(gating, "examine", swapped)
    assert cimrobust.gate(forged.folder, policy=case.policy).verdict == genuine.verdict
