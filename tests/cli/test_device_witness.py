"""`analyze` writes the devices of the witness, and `replay` checks them against the profile."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from cimrobust.cli.main import run
from cimrobust.files import sha256_of
from cimrobust.review.device_check import DEVICES


def test_the_certificate_lists_the_devices_and_their_check(certified):
    certificate = json.loads((certified / "certificate.json").read_text())
    devices = load_file(certified / DEVICES)
    assert certificate["worst_found"]["witness"][DEVICES] == sha256_of(certified / DEVICES)
    check = next(check for check in certificate["checks"] if check["id"] == "witness_devices")
    count = sum(layer["devices"] for layer in certificate["mapping"]["layers"])
    assert check["held"]
    assert check["detail"].startswith(f"{count} devices of ")
    assert (
        sum(array.size for key, array in devices.items() if key.endswith(".device_deviation"))
        == count
    )


def _tampered(certified: Path, out: Path, name: str, change) -> Path:
    """Copy a certificate, change one kind of tensor of its devices, and make its digest right
    again.
    """
    shutil.copytree(certified, out)
    tensors = load_file(out / DEVICES)
    key = next(key for key in tensors if key.endswith(name))
    tensors[key] = np.ascontiguousarray(change(tensors[key]))
    save_file(tensors, out / DEVICES)
    certificate = json.loads((out / "certificate.json").read_text())
    certificate["worst_found"]["witness"][DEVICES] = sha256_of(out / DEVICES)
    (out / "certificate.json").write_text(json.dumps(certificate))
    return out


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        (".device_deviation", lambda array: array * 2, "a device outside its interval"),
        (".device_deviation", lambda array: array / 2, "do not fold to the stored weights"),
        (".device_hi", lambda array: array * 2, "an interval wider than the profile's"),
        (".level", lambda array: array[:, ::-1], "do not fold to the stored weights"),
        (".level", lambda array: array + np.uint8(1), "a level outside 0 to 3"),
        (".scale", lambda array: array * 1.001, "do not fold to the stored weights"),
    ],
)
def test_replay_finds_devices_that_cannot_be(certified, tmp_path, capsys, name, change, said):
    out = _tampered(certified, tmp_path / "out", name, change)
    assert run(["replay", str(out), "--json"]) == 6
    check = next(
        check for check in json.loads(capsys.readouterr().out) if check["id"] == "witness_devices"
    )
    assert check["held"] is False
    assert said in check["detail"]


def test_replay_says_what_it_did_not_check(certified, tmp_path, capsys):
    out = tmp_path / "out"
    shutil.copytree(certified, out)
    certificate = json.loads((out / "certificate.json").read_text())
    del certificate["worst_found"]["witness"][DEVICES]
    (out / "certificate.json").write_text(json.dumps(certificate))
    run(["replay", str(out), "--json"])
    check = next(
        check for check in json.loads(capsys.readouterr().out) if check["id"] == "witness_devices"
    )
    assert check["held"] is None
    assert "earlier version" in check["detail"]


def test_reference_cells_of_offset_coding_are_no_contradiction(samples, tmp_path):
    model, data = (str(samples / f"breast_cancer_mlp.{end}") for end in ("onnx", "toml"))
    more = [
        "--device",
        "rram-offset-3pct",
        "--trials",
        "3",
        "--limit",
        "20",
        "--effort",
        "quick",
        "--out",
        str(tmp_path / "out"),
    ]
    assert run(["analyze", model, "--data", data, *more]) == 0
    layers = json.loads((tmp_path / "out" / "certificate.json").read_text())["mapping"]["layers"]
    assert any(
        row["devices"] > row["cells_per_weight"] * int(np.prod(row["shape"])) for row in layers
    )
    assert (
        run(["replay", str(tmp_path / "out"), "--model", model, "--data", data, "--redraw", "0"])
        == 0
    )
