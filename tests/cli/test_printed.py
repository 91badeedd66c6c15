"""Every command prints JSON that follows a published schema."""

from __future__ import annotations

import hashlib
import json
import shutil
import tomllib
from pathlib import Path
from typing import Any

import click
import jsonschema
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cimrobust.certificate.certificate_files import read_certificate
from cimrobust.certificate.models.chips import RareEvent
from cimrobust.certificate.models.printed_certificates import RareOutput
from cimrobust.certificate.models.retrained import Retraining
from cimrobust.certificate.published_schemas import FORMATS, OUTPUTS, described_schema
from cimrobust.cli.main import COMMANDS, group, run
from cimrobust.cli.retrain_command import _summary
from cimrobust.cli.schema_command import FILES, PRINTED
from tests.cli.printed import check_printed
from tests.unit.report.retraining_example import description

#: `schema` prints nothing but JSON.
WITHOUT = {"completion", "schema"}


def printed(name: str, capsys: Any, *arguments: str, code: int = 0) -> Any:
    capsys.readouterr()
    assert run([*arguments, "--json"]) == code
    return check_printed(name, capsys.readouterr().out)


@pytest.fixture(scope="module")
def made(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("printed")
    for name in ("breast_cancer_mlp.onnx", "breast_cancer_mlp.toml", "breast_cancer_test.npz"):
        shutil.copy(samples / name, folder)
    data = folder / "breast_cancer_mlp.toml"
    lines = data.read_text().splitlines(keepends=True)
    data.write_text("".join(line for line in lines if not line.startswith("train_file")))
    return folder


def given(made: Path) -> list[str]:
    return [str(made / "breast_cancer_mlp.onnx"), "--data", str(made / "breast_cancer_mlp.toml")]


def leaves(command: click.Command, name: str) -> list[tuple[str, click.Command]]:
    if not isinstance(command, click.Group):
        return [(name, command)]
    context = click.Context(command)
    parts = [(part, command.get_command(context, part)) for part in command.list_commands(context)]
    return [leaf for part, found in parts if found for leaf in leaves(found, f"{name} {part}")]


def test_every_command_has_the_option() -> None:
    context = click.Context(group)
    missing = {
        name
        for top in COMMANDS
        for name, leaf in leaves(group.get_command(context, top), top)
        if not any("--json" in option.opts for option in leaf.params)
    }
    assert missing == WITHOUT


def test_schemas_that_can_be_printed_are_those_that_are_published() -> None:
    assert set(FILES) == set(FORMATS)
    assert set(PRINTED) == set(OUTPUTS)


@pytest.mark.parametrize("name", PRINTED)
def test_a_schema_is_printed_and_describes_every_property(name: str, capsys: Any) -> None:
    assert run(["schema", name]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert schema == described_schema(OUTPUTS[name]), (
        "write it again: python -m cimrobust.certificate.published_schemas"
    )
    jsonschema.Draft202012Validator.check_schema(schema)
    for part in (schema, *schema.get("$defs", {}).values()):
        assert part["description"]
        assert all(len(field["description"]) > 5 for field in part.get("properties", {}).values())


def test_init_inspect_and_rewrite(made: Path, tmp_path: Path, capsys: Any, monkeypatch) -> None:
    monkeypatch.chdir(made)
    model, data = "breast_cancer_mlp.onnx", "breast_cancer_test.npz"
    found = printed("init-output", capsys, "init", model, data, "--out", "-")
    assert found["file"] is None
    assert tomllib.loads(found["text"])["file"] == data
    again = printed("init-output", capsys, "init", model, data, "--out", "written.toml")
    assert (made / "written.toml").read_text() == again["text"] == found["text"]
    found = printed("inspect-output", capsys, "inspect", model)
    assert "data" not in found
    found = printed("inspect-output", capsys, "inspect", *given(made))
    assert found["data"]["samples"]["used"] == 190
    out = tmp_path / "crossbars.onnx"
    found = printed("rewrite-output", capsys, "rewrite", model, "--out", str(out))
    assert found["sha256"] == hashlib.sha256(out.read_bytes()).hexdigest()


def test_devices(tmp_path: Path, capsys: Any) -> None:
    found = printed("devices-list-output", capsys, "devices", "list")
    assert len(found) > 10
    shown = printed("devices-show-output", capsys, "devices", "show", "isaac-like-8bit")
    assert shown in found
    levels = printed(
        "devices-levels-output", capsys, "devices", "show", "pcm-joshi-2020", "--levels"
    )
    assert [row["level"] for row in levels] == list(range(len(levels)))
    checked = printed("devices-check-output", capsys, "devices", "check", "isaac-like-8bit")
    assert checked["weight_bits"] == shown["weight"]["bits"]
    rows = [f"{target},{target + step / 10}" for target in (1, 17, 33) for step in range(-9, 10)]
    (tmp_path / "m.csv").write_text("target,measured\n" + "\n".join(rows * 3) + "\n")
    fit = ["devices", "fit", str(tmp_path / "m.csv"), "-o", str(tmp_path / "p.toml")]
    assert printed("devices-fit-output", capsys, *fit)["devices"] == len(rows) * 3


def test_what_is_done_with_certificates(made: Path, tmp_path: Path, capsys: Any) -> None:
    out, policy, key = tmp_path / "out", tmp_path / "policy.toml", tmp_path / "key.pem"
    policy.write_text("[require]\nkpp = { k = 20, accuracy = 0.5 }\n")
    fast = ["--effort", "quick", "--trials", "20", "--limit", "20", "--workers", "1"]
    analyze = ["analyze", *given(made), "--out", str(out), *fast, "--safety-class", "1"]
    assert printed("analyze-output", capsys, *analyze)["kpp"]
    digest = hashlib.sha256((out / "certificate.json").read_bytes()).hexdigest()
    gate = ["gate", str(out), "--policy", str(policy)]
    gated = printed("gate-output", capsys, *gate)
    assert gated["certificate_sha256"] == digest
    manifest = (out / "manifest.json").read_bytes()
    assert gated["manifest_sha256"] == hashlib.sha256(manifest).hexdigest()
    assert all(claim["detail"] for claim in printed("replay-output", capsys, "replay", str(out)))
    bom = printed("bom-output", capsys, "bom", str(out), "--out", str(tmp_path / "bom.json"))
    assert bom["sha256"] == hashlib.sha256((tmp_path / "bom.json").read_bytes()).hexdigest()
    report = printed("report-output", capsys, "report", str(out))
    assert report["result_sha256"] == digest
    write_key(key)
    signed = printed("sign-output", capsys, "sign", str(out), "--key", str(key))
    assert all(Path(name).exists() for name in signed["files"])
    public = ["verify-signature", str(out), "--key", f"{key}.pub"]
    assert printed("verify-signature-output", capsys, *public)["attestation"]["word"]
    (out / "witness" / "worst_case.onnx").unlink()
    assert printed("gate-refused-output", capsys, *gate, code=6)["problems"]
    assert read_certificate(out).verdict.word == signed["word"]


def write_key(path: Path) -> None:
    private = Ed25519PrivateKey.generate()
    path.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    Path(f"{path}.pub").write_bytes(
        private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )


def test_rare_prints_what_a_certificate_holds() -> None:
    assert set(RareOutput.model_fields) == set(RareEvent.model_fields)


@pytest.mark.parametrize("changes", [{}, {"control": None, "control_outcome": None}])
def test_retrain_prints_the_scores_of_its_networks(changes: dict[str, Any]) -> None:
    record = Retraining.model_validate(description(**changes))
    found = check_printed("retrain-output", json.dumps(_summary(record, Path("out"))))
    assert found["after"]["worst_found"] == record.after.worst_found
