"""The most probable failing chip through the command line: certificate, report and replay."""

from __future__ import annotations

import hashlib
import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import cimrobust
from cimrobust.cli.main import run


def certificate_of(folder):
    return json.loads((folder / "certificate.json").read_text())


def analyze_arguments(samples, out, *more):
    return [
        "analyze",
        str(samples / "breast_cancer_mlp.onnx"),
        "--data",
        str(samples / "breast_cancer_mlp.toml"),
        "--effort",
        "quick",
        "--out",
        str(out),
        *more,
    ]


@pytest.fixture(scope="module")
def with_chip(samples, tmp_path_factory):
    out = tmp_path_factory.mktemp("rare") / "out"
    assert (
        run(
            analyze_arguments(
                samples,
                out,
                "--trials",
                "20",
                "--limit",
                "100",
                "--rare-below",
                "0.975",
                "--rare-budget",
                "250",
            )
        )
        == 0
    )
    return out


def test_the_most_probable_failing_chip_is_in_the_certificate(with_chip):
    rare = certificate_of(with_chip)["monte_carlo"]["rare"]
    chip, first = rare["most_probable"], rare["first_order"]
    assert chip["score"] == chip["file_score"] < 0.975
    assert chip["reliability_index"] == first["reliability_index"] < 0.2 * chip["drawn_norm"]
    assert sum(row["share"] for row in chip["layers"]) == pytest.approx(1.0)
    assert {row["name"] for row in chip["starts"]} >= {"no deviation", "worst chip found"}
    assert max(
        row["agreement"] for row in chip["starts"] if row["agreement"] is not None
    ) == pytest.approx(1.0, abs=1e-3)
    # Splitting had next to no budget: it cannot confirm.
    assert (rare["reached"], first["ratio"], first["agrees"]) == (False, None, None)
    assert "did not reach" in first["comparison"]
    page = (with_chip / "certificate.html").read_text()
    assert "Most probable failing chip" in page
    assert chip["stored"]["sha256"] in page


def test_replay_derives_the_most_probable_failing_chip_again(with_chip, samples, capsys):
    arguments = [
        "replay",
        str(with_chip),
        "--model",
        str(samples / "breast_cancer_mlp.onnx"),
        "--data",
        str(samples / "breast_cancer_mlp.toml"),
        "--json",
    ]
    assert run(arguments) == 0
    held = {check["id"]: check["held"] for check in json.loads(capsys.readouterr().out)}
    names = (
        "hash of witness/most_probable.safetensors",
        "most_probable_norm",
        "most_probable_weights",
        "most_probable_score",
    )
    assert [held[name] for name in names] == [True] * 4


@pytest.mark.parametrize(
    ("tampering", "broken"),
    [
        ("norm", "most_probable_norm"),
        ("latents", "most_probable_weights"),
        ("deviation", "most_probable_score"),
    ],
)
def test_replay_catches_a_forged_most_probable_chip(
    with_chip, samples, tmp_path, capsys, tampering, broken
):
    """A file that was changed with its digest: the claims about it still have to be true."""
    out = tmp_path / "out"
    shutil.copytree(with_chip, out)
    text, path = certificate_of(out), out / "witness" / "most_probable.safetensors"
    chip = text["monte_carlo"]["rare"]["most_probable"]
    tensors = dict(load_file(path))
    if tampering == "norm":
        chip["reliability_index"] *= 1.01
    for name, array in list(tensors.items()):
        if name.endswith(f".{tampering}"):
            tensors[name] = (
                np.ascontiguousarray(array[::-1])
                if tampering == "latents"
                else np.zeros_like(array)
            )
    save_file(tensors, path)
    chip["stored"]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (out / "certificate.json").write_text(json.dumps(text))
    arguments = [
        "replay",
        str(out),
        "--model",
        str(samples / "breast_cancer_mlp.onnx"),
        "--data",
        str(samples / "breast_cancer_mlp.toml"),
        "--json",
    ]
    assert run(arguments) == 6
    held = {check["id"]: check["held"] for check in json.loads(capsys.readouterr().out)}
    assert held[broken] is False
    assert held["hash of witness/most_probable.safetensors"] is True


def test_the_most_probable_failing_chip_can_be_left_out_and_stored(samples, tmp_path, capsys):
    command = [
        "rare",
        str(samples / "breast_cancer_mlp.onnx"),
        "--data",
        str(samples / "breast_cancer_mlp.toml"),
        "--limit",
        "100",
        "--particles",
        "10",
    ]
    command += [
        "--below",
        "0.975",
        "--budget",
        "60",
        "--repeats",
        "1",
        "--effort",
        "quick",
        "--json",
    ]
    settings = {
        "limit": 100,
        "particles": 10,
        "below": 0.975,
        "budget": 60,
        "repeats": 1,
        "skip_most_probable": True,
    }
    without = cimrobust.rare(
        samples / "breast_cancer_mlp.onnx", data=samples / "breast_cancer_mlp.toml", **settings
    )
    assert without["most_probable"] is None
    assert "--skip-most-probable" in without["most_probable_reason"]
    assert run([*command, "--chip", str(tmp_path / "chip.safetensors")]) == 0
    chip = json.loads(capsys.readouterr().out)["most_probable"]
    assert chip["stored"] == {
        "file": "chip.safetensors",
        "sha256": hashlib.sha256((tmp_path / "chip.safetensors").read_bytes()).hexdigest(),
    }
    assert (
        run([*command, "--skip-most-probable", "--chip", str(tmp_path / "chip.safetensors")]) == 2
    )


def test_a_certified_bound_says_that_no_chip_fails(samples, tmp_path):
    out = tmp_path / "out"
    assert (
        run(
            analyze_arguments(
                samples,
                out,
                "--trials",
                "5",
                "--limit",
                "60",
                "--rare-below",
                "0.7",
                "--rare-budget",
                "250",
            )
        )
        == 0
    )
    rare = certificate_of(out)["monte_carlo"]["rare"]
    assert rare["most_probable"] is None
    assert rare["first_order_reason"] == rare["most_probable_reason"]
    assert (
        "no chip fails: every chip within the tolerance is certified"
        in rare["most_probable_reason"]
    )
    assert not (out / "witness" / "most_probable.safetensors").exists()
