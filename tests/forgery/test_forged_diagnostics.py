"""Forgeries of what explains a certificate: curves, classes, inputs and devices that look better
than the scores beside them allow.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import cimrobust
from cimrobust.certificate.certificate_files import read_certificate
from cimrobust.certificate.result_names import CERTIFIED
from cimrobust.review.evidence_problems import examine
from tests.forgery.conftest import POLICY, Forged

_Values = dict[str, Any]


@pytest.fixture(scope="module")
def genuine(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A genuine certificate with every diagnostic."""
    folder = tmp_path_factory.mktemp("explained")
    policy = folder / "policy.toml"
    policy.write_text(POLICY)
    cimrobust.analyze(
        samples / "breast_cancer_mlp.onnx",
        data=samples / "breast_cancer_mlp.toml",
        out=folder / "out",
        tolerance=0.12,
        effort="quick",
        trials=20,
        policy=policy,
        diagnostics="all",
        workers=1,
    )
    return folder / "out"


@pytest.fixture
def forged(genuine: Path, tmp_path: Path) -> Forged:
    """A copy that may be forged."""
    shutil.copytree(genuine, tmp_path / "forged")
    return Forged(tmp_path / "forged")


def _at(place: str, change: Callable[[Any], Any]) -> Callable[[_Values], None]:
    """Return what changes the value at one place."""

    def forge(values: _Values) -> None:
        *steps, last = [int(step) if step.isdecimal() else step for step in place.split(".")]
        holder: Any = values
        for step in steps:
            holder = holder[step]
        holder[last] = change(holder[last])

    return forge


def _to(place: str, value: Any) -> Callable[[_Values], None]:
    return _at(place, lambda _: value)


def _better(block: _Values, samples: int) -> None:
    """Let a score of one more decision than there were correct."""
    block["correct"] = min(block["correct"] + 1, samples)
    block["score"] = block["correct"] / samples


def wider_unrefuted(values: _Values) -> None:
    """No chip is said to miss the requirement up to the widest tolerance tried."""
    curve, samples = values["diagnostics"]["tolerance_curve"], values["clean"]["samples"]
    for point in (*curve["points"], *curve["tried"]):
        point.update(correct=samples, score=1.0)
    curve.update(unrefuted=curve["points"][-1]["tolerance"], refuted=None, tried=[])


def edge_moved(values: _Values) -> None:
    """The largest tolerance without the points that would show it."""
    curve = values["diagnostics"]["tolerance_curve"]
    curve["unrefuted"] = curve["refuted"] * 0.99


def milder_requirement(values: _Values) -> None:
    curve = values["diagnostics"]["tolerance_curve"]
    curve.update(required=curve["points"][-1]["score"], refuted=None, tried=[])
    curve["unrefuted"] = curve["points"][-1]["tolerance"]


def worse_than_the_worst(values: _Values) -> None:
    """A layer alone is said to do more than the worst chip of all."""
    row = values["diagnostics"]["layers"]["rows"][0]
    row["alone"].update(correct=1, score=1 / values["clean"]["samples"])


def class_recalled(values: _Values) -> None:
    row = values["diagnostics"]["classes"]["rows"][-1]
    row.update(correct=row["samples"], recall=1.0)


def property_of_the_samples(values: _Values) -> None:
    values["diagnostics"]["transfer"].update(
        property_of="samples",
        statement=(
            "Property of the samples: others suffer at most 20 % of the damage, both ways; the"
            " worst chip was fitted to the samples."
        ),
    )


def held_out_well(values: _Values) -> None:
    """Held-out samples suffer nothing; their interval stays."""
    row = values["diagnostics"]["transfer"]["directions"][0]
    row.update(held_out=row["held_out_clean"], share=0.0)


def breaks_later(values: _Values) -> None:
    """Every input is said to break at twice the tolerance that it breaks at."""
    for row in values["diagnostics"]["fragile_inputs"]["rows"]:
        row["breaks_at"] *= 2
        row["certified_to"] = row["breaks_at"]


def stuck_devices_do_nothing(values: _Values) -> None:
    curve = values["diagnostics"]["stuck_devices"]["curves"][1]
    for point in curve["points"]:
        point.update(score=1.0, correct=values["clean"]["samples"], file_score=1.0)


def cheaper_verification(values: _Values) -> None:
    """A tenth of the writes, with what follows from them."""
    made = values["diagnostics"]["write_verify"]
    made["writes_verified"] = 1 + (made["writes_verified"] - 1) / 10
    for row in made["rows"]:
        row["extra_writes"] /= 10
        row["regained_per_write"] *= 10


def better_ranking(values: _Values) -> None:
    made = values["diagnostics"]["write_verify"]
    made["best"] = next(row["ranking"] for row in made["rows"] if row["ranking"] != made["best"])


def nearer_than_it_is(values: _Values) -> None:
    """An improbable chip is said to be a likely one, or the other way round, in every number."""
    likelihood = values["worst_found"]["likelihood"]
    likelihood["distance"] *= 2
    likelihood["log10_probability"] *= 4


def free_diagnostic(values: _Values) -> None:
    del values["diagnostics"]["costs"][0]


#: What the gate refutes, by the name of the check.
FORGERIES: dict[str, tuple[Callable[[_Values], None], str]] = {
    "wider_unrefuted": (wider_unrefuted, "diagnosed_numbers"),
    "edge_moved": (edge_moved, "diagnosed_numbers"),
    "milder_requirement": (milder_requirement, "diagnosed_numbers"),
    "worse_than_the_worst": (worse_than_the_worst, "diagnosed_numbers"),
    "class_recalled": (class_recalled, "diagnosed_numbers"),
    "property_of_the_samples": (property_of_the_samples, "diagnosed_numbers"),
    "held_out_well": (held_out_well, "diagnosed_numbers"),
    "breaks_later": (breaks_later, "diagnosed_numbers"),
    "stuck_devices_do_nothing": (stuck_devices_do_nothing, "diagnosed_numbers"),
    "cheaper_verification": (cheaper_verification, "diagnosed_numbers"),
    "better_ranking": (better_ranking, "diagnosed_numbers"),
    "free_diagnostic": (free_diagnostic, "diagnosed_numbers"),
    "fewer_flipped": (_to("worst_found.flipped.count", 1), "diagnosed_numbers"),
    "flipped_into_its_label": (
        _to("worst_found.flipped.rows.0.becomes", 1),
        "diagnosed_numbers",
    ),
    "fewer_broken": (_to("diagnostics.fragile_inputs.broken", 1), "diagnosed_numbers"),
    "more_right": (
        _at("diagnostics.fragile_inputs.right", lambda count: count + 1),
        "diagnosed_numbers",
    ),
    "layer_left_out": (
        _at("diagnostics.layers.rows", lambda rows: rows[:-1]),
        "diagnosed_numbers",
    ),
    "class_left_out": (
        _at("diagnostics.classes.rows", lambda rows: rows[:-1]),
        "diagnosed_numbers",
    ),
    "certified_curve_tolerance": (
        _at("diagnostics.tolerance_curve.certified_samples", lambda one: one + 10),
        "diagnosed_numbers",
    ),
    "fewer_devices_verified": (
        _at("diagnostics.write_verify.rows.0.devices", lambda one: one // 2),
        "diagnosed_numbers",
    ),
    "regained_more": (
        _at("diagnostics.write_verify.rows.0.regained", lambda one: one + 0.01),
        "diagnosed_numbers",
    ),
    "nearer_than_it_is": (nearer_than_it_is, "worst_distance"),
}


def _problems(folder: Path) -> set[str]:
    return {
        problem.id for problem in examine(folder, read_certificate(folder), None, None).problems
    }


def test_the_genuine_certificate_has_no_problem(genuine: Path) -> None:
    assert _problems(genuine) == set()


@pytest.mark.parametrize("name", FORGERIES)
def test_a_gate_refutes(forged: Forged, name: str) -> None:
    forge, expected = FORGERIES[name]
    values = forged.plain
    forge(values)
    forged.write(values, rendered=False)
    assert expected in _problems(forged.folder)


def test_a_proof_against_a_chip_that_is_shown_is_refuted(forged: Forged) -> None:
    """A sample that the worst chip breaks is called certified, in the place of another."""
    path, table = forged.folder / CERTIFIED, pq.read_table(forged.folder / CERTIFIED)
    certified = table.column("certified").to_pylist()
    shown = forged.plain["worst_found"]["flipped"]["rows"][0]["sample"]
    other = certified.index(True)
    certified[shown], certified[other] = True, False
    place = table.column_names.index("certified")
    pq.write_table(table.set_column(place, "certified", pa.array(certified)), path)
    forged.write(forged.plain, rendered=False)
    assert _problems(forged.folder) == {"certified_against_chips"}
