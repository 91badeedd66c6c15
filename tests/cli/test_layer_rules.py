"""Layers that stay digital and layers with devices of their own, in every command."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from cimrobust.cli.main import run
from cimrobust.onnx_io.load_network import load_network

_RULES = """
schema = 1
name = "mixed"
[device]
tolerance = 0.1
sigma = 0.05
[[layer]]
position = [-1, -1]
weight = { bits = 6, mapping = "differential" }
device = { bits = 3, tolerance = 0.02 }
tile.rows = 16
"""


def _names(samples: Path) -> list[str]:
    return [
        name
        for name, values in load_network(samples / "breast_cancer_mlp.onnx").initializers.items()
        if values.ndim == 2
    ]


def _arguments(samples: Path, command: str, *more: str, data: bool = True) -> list[str]:
    description = ["--data", str(samples / "breast_cancer_mlp.toml")] if data else []
    return [command, str(samples / "breast_cancer_mlp.onnx"), *description, *more]


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("profile") / "mixed.toml"
    path.write_text(_RULES)
    return str(path)


@pytest.fixture(scope="module")
def mixed(samples: Path, profile: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a quick certificate of the network with one digital layer and one with devices of
    its own.
    """
    out = tmp_path_factory.mktemp("mixed") / "out"
    more = (
        "--device",
        profile,
        "--digital",
        _names(samples)[0],
        "--effort",
        "quick",
        "--trials",
        "30",
        "--limit",
        "60",
        "--workers",
        "1",
        "--out",
        str(out),
    )
    assert run(_arguments(samples, "analyze", *more)) == 0
    return out


def test_the_certificate_says_who_decided_for_every_layer(samples: Path, mixed: Path) -> None:
    made = json.loads((mixed / "certificate.json").read_text())
    names = _names(samples)
    stored = {row["initializer"]: row for row in made["mapping"]["layers"]}
    assert list(stored) == names[1:]
    assert stored[names[-1]]["decided_by"] == "rule 1 (position [-1, -1])"
    assert (
        stored[names[-1]]["device_bits"],
        stored[names[-1]]["weight_bits"],
        stored[names[-1]]["tile_rows"],
    ) == (3, 6, 16)
    assert stored[names[-1]]["tolerance_fraction"] == 0.02
    assert [row["reason"] for row in made["mapping"]["unmapped"]][
        -1
    ] == f"digital by rule 2 (match '{names[0]}', --digital): weight '{names[0]}'"
    assert made["device"]["largest_tolerance_fraction"] == (0.1 if len(names) > 2 else 0.02)
    assert f"--digital {names[0]}" in made["reproduce"]["command"]
    assert f"digital=['{names[0]}']" in made["reproduce"]["python"]
    assert any(f"of {names[-1]} ends within 2 %" in row["text"] for row in made["assumptions"]) == (
        len(names) > 2
    )
    assert "rule 1 (position" in (mixed / "certificate.html").read_text()


def test_nothing_of_a_digital_layer_is_in_the_witness(samples: Path, mixed: Path) -> None:
    names = _names(samples)
    deviations = load_file(mixed / "witness" / "deviations.safetensors")
    assert not any(key.startswith(f"{names[0]}.") for key in deviations)
    stored, file = (
        load_network(path).initializers[names[0]]
        for path in (mixed / "witness" / "worst_case.onnx", samples / "breast_cancer_mlp.onnx")
    )
    np.testing.assert_array_equal(stored, file)


def test_replay_derives_the_devices_of_every_layer_from_its_rule(
    samples: Path, mixed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = [
        "--model",
        str(samples / "breast_cancer_mlp.onnx"),
        "--data",
        str(samples / "breast_cancer_mlp.toml"),
    ]
    assert run(["replay", str(mixed), *data]) == 0
    assert "layers decided" in capsys.readouterr().out
    forged = tmp_path / "forged"
    shutil.copytree(mixed, forged)
    certificate = json.loads((forged / "certificate.json").read_text())
    certificate["mapping"]["layers"][-1]["rule"] = None
    (forged / "certificate.json").write_text(json.dumps(certificate))
    assert run(["replay", str(forged), *data]) != 0
    said = capsys.readouterr().out
    assert [
        line.split()[0]
        for line in said.splitlines()
        if "witness_devices" in line or line.split()[1] == "layers"
    ] == [
        "REFUTED",
        "REFUTED",
    ]


def test_a_layer_of_devices_without_write_verify_holds_in_a_replay(
    samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profile, out = tmp_path / "mixed.toml", tmp_path / "out"
    profile.write_text(
        _RULES.replace("tolerance = 0.02", 'distribution = "gaussian", sigma = 0.01')
    )
    quick = [
        "--effort",
        "quick",
        "--passes",
        "10",
        "--trials",
        "5",
        "--limit",
        "20",
        "--skip",
        "certify",
        "--workers",
        "1",
    ]
    command = _arguments(samples, "analyze", "--device", str(profile), "--out", str(out), *quick)
    assert run(command) == 0
    assert json.loads((out / "certificate.json").read_text())["device"]["excluded_probability"] > 0
    capsys.readouterr()
    assert run(["replay", str(out)]) == 0
    assert "REFUTED" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "command", ["inspect", "analyze", "sweep", "rare", "verify", "retrain", "rewrite", "suggest"]
)
def test_a_typo_is_wrong_usage_in_every_command(
    samples: Path, tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text("[require]\nworst_found_accuracy = 0.5\n")
    more = {
        "inspect": [],
        "rewrite": ["--out", str(tmp_path / "out.onnx")],
        "analyze": ["--out", str(tmp_path / "out")],
        "sweep": ["--out", str(tmp_path / "out"), "--tolerances", "0.01"],
        "rare": ["--below", "0.5"],
        "verify": ["--out", str(tmp_path / "list.parquet")],
        "retrain": ["--out", str(tmp_path / "out")],
        "suggest": ["--policy", str(policy)],
    }[command]
    code = run(
        _arguments(
            samples,
            command,
            "--digital",
            "no such layer",
            *more,
            data=command not in ("inspect", "rewrite"),
        )
    )
    assert code == 2
    assert (
        "every rule for layers must fit at least one, got rule 1 (match 'no such layer',"
        " --digital), nearest" in capsys.readouterr().err
    )
    assert not (tmp_path / "out.onnx").exists()
    assert not (tmp_path / "out" / "certificate.json").exists()


def test_inspection_shows_who_decided(
    samples: Path, profile: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(_arguments(samples, "inspect", "--device", profile, "--json", data=False)) == 0
    layers = json.loads(capsys.readouterr().out)["layers"]
    assert [layer["decided_by"] for layer in layers] == ["profile"] * (len(layers) - 1) + [
        "rule 1 (position [-1, -1])"
    ]


def test_profiles_with_rules_are_checked_and_shown(
    profile: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["devices", "check", profile]) == 0
    assert (
        "rule 1 (position [-1, -1]): 6-bit weights (differential, scale per tensor) in 3-bit"
        " devices within 2 %, tiles of 16 x 128" in capsys.readouterr().out
    )
    assert run(["devices", "show", profile]) == 0
    assert json.loads(capsys.readouterr().out)["layer"][0]["device"]["tolerance"] == 0.02


def test_a_sweep_says_what_becomes_of_layers_with_a_tolerance_of_their_own(
    samples: Path, profile: str, tmp_path: Path
) -> None:
    name = _names(samples)[0]
    more = (
        "--device",
        profile,
        "--digital",
        name,
        "--tolerances",
        "0.05,0.1",
        "--trials",
        "10",
        "--limit",
        "40",
        "--workers",
        "1",
        "--out",
        str(tmp_path / "out"),
    )
    assert run(_arguments(samples, "sweep", *more)) == 0
    said = " ".join(json.loads((tmp_path / "out" / "sweep.json").read_text())["not_covered"])
    assert f"{_names(samples)[-1]} have a tolerance of their own and keep its ratio to it" in said
    assert "exact at every tolerance" in said


def test_a_digital_layer_is_no_crossbar_node(
    samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, names = tmp_path / "out.onnx", _names(samples)
    assert (
        run(
            _arguments(
                samples, "rewrite", "--digital", names[0], "--out", str(out), "--json", data=False
            )
        )
        == 0
    )
    made = json.loads(capsys.readouterr().out)
    assert sum(made["crossbar_nodes"].values()) == len(names) - 1
    np.testing.assert_array_equal(
        load_network(out).initializers[names[0]],
        load_network(samples / "breast_cancer_mlp.onnx").initializers[names[0]],
    )


def test_training_leaves_digital_layers_as_they_are_and_sees_the_devices_of_the_others(
    samples: Path, profile: str, tmp_path: Path
) -> None:
    out, names = tmp_path / "out", _names(samples)
    more = (
        "--device",
        profile,
        "--digital",
        names[0],
        "--method",
        "noise",
        "--epochs",
        "1",
        "--no-control",
        "--no-equivalent",
        "--diagnostics",
        "none",
    )
    rest = (
        "--effort",
        "quick",
        "--trials",
        "10",
        "--limit",
        "40",
        "--workers",
        "1",
        "--out",
        str(out),
    )
    assert run(_arguments(samples, "retrain", *more, *rest)) == 0
    before, after = (
        load_network(path).initializers
        for path in (samples / "breast_cancer_mlp.onnx", out / "model.onnx")
    )
    np.testing.assert_array_equal(before[names[0]], after[names[0]])
    assert (before[names[-1]] != after[names[-1]]).any()
    rows = json.loads((out / "after" / "certificate.json").read_text())["mapping"]["layers"]
    assert rows[-1]["decided_by"] == "rule 1 (position [-1, -1])"


def test_verification_and_rare_events_know_the_devices_of_every_layer(
    samples: Path, profile: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ("--device", profile, "--limit", "40", "--workers", "1", "--json")
    assert (
        run(
            _arguments(
                samples, "verify", *more, "--shares", "0.2", "--out", str(tmp_path / "list.parquet")
            )
        )
        == 0
    )
    verified = json.loads(capsys.readouterr().out)
    assert verified["writes_per_device"]["verified"] > verified["writes_per_device"]["without"]
    assert (
        run(
            _arguments(
                samples,
                "rare",
                *more,
                "--below",
                "0.2",
                "--budget",
                "200",
                "--particles",
                "20",
                "--skip-most-probable",
            )
        )
        == 0
    )
