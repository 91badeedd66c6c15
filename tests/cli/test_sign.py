"""Signed certificates: what verifies, what libraries of others say of it, and forgeries of every
kind.
"""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from google.protobuf import json_format
from in_toto_attestation.predicates.test_result.v0.test_result_pb2 import (
    TestResult as ResultMessage,
)
from in_toto_attestation.v1.statement import Statement
from in_toto_attestation.v1.statement_pb2 import Statement as StatementMessage
from securesystemslib.dsse import Envelope
from securesystemslib.signer import CryptoSigner, SSlibKey

import cimrobust
from cimrobust.certificate.manifest import write_manifest
from cimrobust.certificate.schema_files import schema_file
from cimrobust.certificate.signing import bundles
from cimrobust.cli.main import run
from cimrobust.errors import EvidenceRefutedError
from cimrobust.review import signing
from tests.forgery.test_evasions import _pruned

ENVELOPES = ("attestation.dsse.json", "test-result.dsse.json")


class Signer:
    """A key pair in files, as a user has it."""

    def __init__(self, folder: Path, made: CryptoSigner) -> None:
        self.signer = made
        folder.mkdir()
        self.private, self.public = folder / "key.pem", folder / "key.pub.pem"
        self.private.write_bytes(made.private_bytes)
        key: Any = made.public_key
        self.public.write_text(
            key.keyval["public"] if "BEGIN" in key.keyval["public"] else _pem(made)
        )

    @property
    def key(self) -> SSlibKey:
        return self.signer.public_key


def _pem(made: CryptoSigner) -> str:
    public: Any = made._private_key.public_key()
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


@pytest.fixture(scope="module")
def signer(tmp_path_factory) -> Signer:
    return Signer(tmp_path_factory.mktemp("keys") / "signer", CryptoSigner.generate_ed25519())


@pytest.fixture(scope="module")
def original(certified: Path, signer: Signer, tmp_path_factory) -> Path:
    """A signed folder, to be copied only."""
    folder = tmp_path_factory.mktemp("signed") / "out"
    shutil.copytree(certified, folder)
    assert run(["sign", str(folder), "--key", str(signer.private)]) == 0
    return folder


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "out"))


def verify(folder: Path, signer: Signer, *more: str) -> int:
    return run(["verify-signature", str(folder), "--key", str(signer.public), *more])


def statement(folder: Path, name: str = ENVELOPES[0]) -> dict[str, Any]:
    return json.loads(base64.b64decode(json.loads((folder / name).read_text())["payload"]))


def sign_as_is(
    folder: Path, signer: Signer, change: Callable[[dict[str, Any]], None], name: str = ENVELOPES[0]
) -> None:
    """Sign a changed statement with the right key, as a careless signer could with another tool."""
    plain = statement(folder, name)
    change(plain)
    envelope = Envelope(json.dumps(plain).encode(), "application/vnd.in-toto+json", {})
    envelope.sign(signer.signer)
    (folder / name).write_text(json.dumps(envelope.to_dict()))


def edit(folder: Path, change: Callable[[dict[str, Any]], None], name: str = ENVELOPES[0]) -> None:
    """Change an envelope."""
    plain = json.loads((folder / name).read_text())
    change(plain)
    (folder / name).write_text(json.dumps(plain))


def test_a_signed_folder_verifies(folder, signer, samples, capsys):
    assert verify(folder, signer, "--model", str(samples / "digits_cnn.onnx")) == 0
    said = capsys.readouterr().out
    assert "signed by" in said
    assert "(as signed)" in said
    assert "does not say that they are true" in said


def test_json_says_what_was_verified(folder, signer, capsys):
    assert verify(folder, signer, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["attestation"] == statement(folder)["predicate"]
    assert found["files"] == list(ENVELOPES)


def test_python_signs_and_verifies(certified, signer, tmp_path):
    folder = Path(shutil.copytree(certified, tmp_path / "out"))
    signed = cimrobust.sign(folder, key=signer.private)
    assert signed.keyid == signer.key.keyid
    found = cimrobust.verify_signature(folder, identity=signer.public)
    assert found.attestation.word == signed.word == "INCONCLUSIVE"
    assert not found.model_compared


def test_signing_again_gives_the_same_statement(folder, signer):
    before = statement(folder)
    assert run(["sign", str(folder), "--key", str(signer.private)]) == 0
    assert statement(folder) == before


@pytest.mark.parametrize("name", ENVELOPES)
def test_the_library_verifies_the_envelope(folder, signer, name):
    envelope = Envelope.from_dict(json.loads((folder / name).read_text()))
    assert envelope.payload_type == "application/vnd.in-toto+json"
    assert set(envelope.verify([signer.key], 1)) == {signer.key.keyid}


@pytest.mark.parametrize("name", ENVELOPES)
def test_the_library_takes_the_statement(folder, name):
    message = json_format.ParseDict(statement(folder, name), StatementMessage())
    Statement.copy_from_pb(message).validate()


def test_the_predicates_follow_their_schemas(folder):
    published = json.loads(schema_file("attestation").read_text())
    jsonschema.Draft202012Validator(published).validate(statement(folder)["predicate"])
    stated = json_format.ParseDict(statement(folder, ENVELOPES[1])["predicate"], ResultMessage())
    assert stated.result == "WARNED", "there is no policy, so nothing was passed"
    assert {entry.name for entry in stated.configuration} == {
        "profile",
        "data/digits_cnn.toml",
        "data/digits_test.npz",
    }


def test_a_policy_of_the_signer_decides(certified, signer, samples, tmp_path, capsys):
    folder = Path(shutil.copytree(certified, tmp_path / "out"))
    assert (
        run(
            [
                "sign",
                str(folder),
                "--key",
                str(signer.private),
                "--policy",
                str(samples / "policies" / "strict.toml"),
            ]
        )
        == 0
    )
    assert "FAIL" in capsys.readouterr().out
    result = statement(folder, ENVELOPES[1])["predicate"]
    assert result["result"] == "FAILED"
    assert "worst_found_accuracy" in result["failedTests"]
    assert "clean_accuracy" in result["passedTests"]
    assert verify(folder, signer) == 0


def test_two_may_sign(folder, signer, tmp_path):
    other = Signer(tmp_path / "other", CryptoSigner.generate_ecdsa())
    assert run(["sign", str(folder), "--key", str(other.private)]) == 0
    assert verify(folder, signer) == 0
    assert verify(folder, other) == 0


def test_the_same_report_again_leaves_the_signature(folder, signer):
    assert run(["report", str(folder)]) == 0
    assert verify(folder, signer) == 0


def test_gate_asks_for_the_signature(folder, signer, samples, tmp_path, capsys):
    policy = ["--policy", str(samples / "policies" / "strict.toml")]
    assert run(["gate", str(folder), *policy, "--require-signature", str(signer.public)]) == 1
    other = Signer(tmp_path / "other", CryptoSigner.generate_ed25519())
    capsys.readouterr()
    assert run(["gate", str(folder), *policy, "--require-signature", str(other.public)]) == 6
    said = capsys.readouterr()
    assert said.out == ""
    assert "must have a valid signature by key" in said.err


def _swapping(monkeypatch: pytest.MonkeyPatch, swap: Callable[[Path], None]) -> None:
    """Let another folder take the place of the signed one once its signature was verified."""
    real = signing.require_signature

    def verified(folder: Path, identity: str | Path) -> signing.SignedFolder:
        found = real(folder, identity)
        swap(folder)
        return found

    monkeypatch.setattr(signing, "require_signature", verified)


def _with_another_verdict(folder: Path) -> None:
    text = (folder / "certificate.json").read_text()
    (folder / "certificate.json").write_text(text.replace('"INCONCLUSIVE"', '"PASS_CERTIFIED"'))


def test_a_certificate_swapped_after_its_signature_was_verified_is_not_judged(
    folder, signer, samples, monkeypatch
):
    _swapping(monkeypatch, _with_another_verdict)
    policy = samples / "policies" / "strict.toml"
    with pytest.raises(EvidenceRefutedError, match=r"certificate\.json is changed"):
        cimrobust.gate(folder, policy=policy, require_signature=signer.public)


def test_a_folder_swapped_with_its_manifest_after_its_signature_was_verified_is_not_judged(
    folder, signer, samples, monkeypatch
):
    def swap(folder: Path) -> None:
        _with_another_verdict(folder)
        write_manifest(folder)

    _swapping(monkeypatch, swap)
    policy = samples / "policies" / "strict.toml"
    with pytest.raises(EvidenceRefutedError, match="is no longer what was signed"):
        cimrobust.gate(folder, policy=policy, require_signature=signer.public)


def test_a_gate_that_asks_for_a_signature_names_no_maker_as_believed(folder, signer, samples):
    policy = samples / "policies" / "strict.toml"
    found = cimrobust.gate(folder, policy=policy, require_signature=signer.public)
    assert "maker" not in {claim.id for claim in found.not_checked}


def test_nobody_signs_another_page_under_an_older_version(certified, signer, tmp_path, capsys):
    """A page of an older version was not made again, so any page could be signed with it."""
    folder = Path(shutil.copytree(certified, tmp_path / "out"))
    published = json.loads(schema_file("certificate", "1.5").read_text())
    values = _pruned(json.loads((folder / "certificate.json").read_text()), published, published)
    values["tool"]["version"], values["schema_version"] = "0.2.0", "1.5"
    (folder / "certificate.json").write_text(json.dumps(values))
    (folder / "certificate.html").write_text("<h1>PASS</h1>")
    write_manifest(folder)
    assert run(["sign", str(folder), "--key", str(signer.private)]) == 6
    assert "is not what certificate.json renders to" in capsys.readouterr().err


# Forgeries. Each takes the folder, the signer and a place beside; each ends in 6 (evidence
# refuted), and 5 where the file is none at all.


def edited_certificate(folder: Path, signer: Signer, beside: Path) -> None:
    text = (folder / "certificate.json").read_text()
    (folder / "certificate.json").write_text(text.replace('"INCONCLUSIVE"', '"PASS_CERTIFIED"'))


def edited_certificate_and_manifest(folder: Path, signer: Signer, beside: Path) -> None:
    edited_certificate(folder, signer, beside)
    write_manifest(folder)


def edited_trials(folder: Path, signer: Signer | None, beside: Path) -> None:
    content = bytearray((folder / "trials.parquet").read_bytes())
    content[100] ^= 1
    (folder / "trials.parquet").write_bytes(content)


def edited_report(folder: Path, signer: Signer, beside: Path) -> None:
    (folder / "certificate.html").write_text("<h1>PASS</h1>")


def extra_file(folder: Path, signer: Signer, beside: Path) -> None:
    (folder / "waiver.txt").write_text("approved")


def missing_witness(folder: Path, signer: Signer, beside: Path) -> None:
    shutil.rmtree(folder / "witness")


def linked_file(folder: Path, signer: Signer, beside: Path) -> None:
    (folder / "trials.parquet").replace(beside / "trials.parquet")
    (folder / "trials.parquet").symlink_to(beside / "trials.parquet")


def removed_signature(folder: Path, signer: Signer, beside: Path) -> None:
    (folder / ENVELOPES[0]).unlink()


def removed_test_result(folder: Path, signer: Signer, beside: Path) -> None:
    (folder / ENVELOPES[1]).unlink()


def swapped_envelopes(folder: Path, signer: Signer, beside: Path) -> None:
    one, two = ((folder / name).read_bytes() for name in ENVELOPES)
    (folder / ENVELOPES[0]).write_bytes(two)
    (folder / ENVELOPES[1]).write_bytes(one)


def envelope_of_another_folder(folder: Path, signer: Signer, beside: Path) -> None:
    """Another certificate of the same signer: the same run a second later."""
    other = Path(shutil.copytree(folder, beside / "other"))
    certificate = json.loads((other / "certificate.json").read_text())
    certificate["timings"]["total_seconds"] += 1
    certificate["timings"]["stages"]["search"] += 1
    (other / "certificate.json").write_text(
        json.dumps(certificate, indent=2, ensure_ascii=False) + "\n"
    )
    assert run(["report", str(other)]) == 0
    write_manifest(other)
    assert run(["sign", str(other), "--key", str(signer.private)]) == 0
    for name in ENVELOPES:
        shutil.copy(other / name, folder / name)


def _subject(plain: dict[str, Any], name: str, digest: str) -> None:
    for subject in plain["subject"]:
        if subject["name"] == name:
            subject["digest"]["sha256"] = digest


def wrong_model_subject(folder: Path, signer: Signer, beside: Path) -> None:
    sign_as_is(folder, signer, lambda plain: _subject(plain, "digits_cnn.onnx", "22" * 32))


def missing_model_subject(folder: Path, signer: Signer, beside: Path) -> None:
    sign_as_is(folder, signer, lambda plain: plain["subject"].pop())


def subject_twice(folder: Path, signer: Signer, beside: Path) -> None:
    sign_as_is(folder, signer, lambda plain: plain["subject"].append(plain["subject"][0]))


def subject_without_sha256(folder: Path, signer: Signer, beside: Path) -> None:
    sign_as_is(
        folder,
        signer,
        lambda plain: plain["subject"].__setitem__(0, {"name": "x", "digest": {"md5": "0"}}),
    )


def another_verdict(folder: Path, signer: Signer, beside: Path) -> None:
    sign_as_is(folder, signer, lambda plain: plain["predicate"].update(word="PASS_CERTIFIED"))


def another_result(folder: Path, signer: Signer, beside: Path) -> None:
    sign_as_is(
        folder, signer, lambda plain: plain["predicate"].update(result="PASSED"), ENVELOPES[1]
    )


def another_predicate_type(folder: Path, signer: Signer, beside: Path) -> None:
    sign_as_is(
        folder, signer, lambda plain: plain.update(predicateType="https://example.org/other")
    )


def another_statement_type(folder: Path, signer: Signer, beside: Path) -> None:
    sign_as_is(
        folder, signer, lambda plain: plain.update(_type="https://in-toto.io/Statement/v0.1")
    )


def unknown_policy(folder: Path, signer: Signer, beside: Path) -> None:
    policy = {"sha256": "0" * 64, "content": {"require": {"everything": True}}}
    sign_as_is(folder, signer, lambda plain: plain["predicate"].update(policy=policy))


def payload_of_no_statement(folder: Path, signer: Signer, beside: Path) -> None:
    envelope = Envelope(b"[" * 100_000, "application/vnd.in-toto+json", {})
    envelope.sign(signer.signer)
    (folder / ENVELOPES[0]).write_text(json.dumps(envelope.to_dict()))


def another_payload_type(folder: Path, signer: Signer, beside: Path) -> None:
    edit(folder, lambda plain: plain.update(payloadType="text/plain"))


def another_payload_type_signed(folder: Path, signer: Signer, beside: Path) -> None:
    envelope = Envelope(json.dumps(statement(folder)).encode(), "text/plain", {})
    envelope.sign(signer.signer)
    (folder / ENVELOPES[0]).write_text(json.dumps(envelope.to_dict()))


def no_signatures(folder: Path, signer: Signer, beside: Path) -> None:
    edit(folder, lambda plain: plain.update(signatures=[]))


def signature_twice(folder: Path, signer: Signer, beside: Path) -> None:
    edit(folder, lambda plain: plain.update(signatures=plain["signatures"] * 2))


def signature_by_another_key(folder: Path, signer: Signer, beside: Path) -> None:
    other = Signer(beside / "other", CryptoSigner.generate_ed25519())
    for name in ENVELOPES:
        (folder / name).unlink()
    assert run(["sign", str(folder), "--key", str(other.private)]) == 0


def keyid_of_the_signer(folder: Path, signer: Signer, beside: Path) -> None:
    signature_by_another_key(folder, signer, beside)
    edit(folder, lambda plain: plain["signatures"][0].update(keyid=signer.key.keyid))


def signature_of_no_base64(folder: Path, signer: Signer, beside: Path) -> None:
    edit(folder, lambda plain: plain["signatures"][0].update(sig="%%%"))


def signatures_of_another_kind(folder: Path, signer: Signer, beside: Path) -> None:
    edit(folder, lambda plain: plain.update(signatures={"keyid": [1]}))


def truncated_envelope(folder: Path, signer: Signer, beside: Path) -> None:
    content = (folder / ENVELOPES[0]).read_bytes()
    (folder / ENVELOPES[0]).write_bytes(content[: len(content) // 2])


def huge_envelope(folder: Path, signer: Signer, beside: Path) -> None:
    with (folder / ENVELOPES[0]).open("ab") as stream:
        stream.truncate(2**33)


def empty_envelope(folder: Path, signer: Signer, beside: Path) -> None:
    (folder / ENVELOPES[0]).write_bytes(b"")


def manifest_that_leaves(folder: Path, signer: Signer, beside: Path) -> None:
    plain = json.loads((folder / "manifest.json").read_text())
    plain["files"].append({"path": "../x", "bytes": 1, "sha256": "0" * 64})
    (folder / "manifest.json").write_text(json.dumps(plain))


FORGERIES = [
    edited_certificate,
    edited_certificate_and_manifest,
    edited_trials,
    edited_report,
    extra_file,
    missing_witness,
    linked_file,
    removed_signature,
    removed_test_result,
    swapped_envelopes,
    envelope_of_another_folder,
    wrong_model_subject,
    missing_model_subject,
    subject_twice,
    subject_without_sha256,
    another_verdict,
    another_result,
    another_predicate_type,
    another_statement_type,
    unknown_policy,
    payload_of_no_statement,
    another_payload_type,
    another_payload_type_signed,
    no_signatures,
    signature_twice,
    signature_by_another_key,
    keyid_of_the_signer,
    signature_of_no_base64,
    signatures_of_another_kind,
    truncated_envelope,
    huge_envelope,
    empty_envelope,
    manifest_that_leaves,
]


@pytest.mark.parametrize("forge", FORGERIES, ids=lambda forge: forge.__name__)
def test_forgeries_are_refuted(forge, folder, signer, tmp_path, capsys):
    forge(folder, signer, tmp_path)
    capsys.readouterr()
    code = verify(folder, signer)
    said = capsys.readouterr()
    assert code == 6, said.err
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert "do not trust it" in said.err or "must have at most" in said.err


BEFORE = [
    edited_certificate,
    edited_certificate_and_manifest,
    edited_trials,
    edited_report,
    extra_file,
    missing_witness,
    linked_file,
    manifest_that_leaves,
]


@pytest.mark.parametrize("forge", BEFORE, ids=lambda forge: forge.__name__)
def test_nobody_signs_what_does_not_hold(forge, certified, signer, tmp_path, capsys):
    folder = Path(shutil.copytree(certified, tmp_path / "out"))
    forge(folder, signer, tmp_path)
    assert run(["sign", str(folder), "--key", str(signer.private)]) == 6
    assert "must" in capsys.readouterr().err
    assert not (folder / ENVELOPES[0]).exists()


def test_a_forged_folder_with_a_manifest_of_its_own_is_not_signed(
    certified, signer, tmp_path, capsys
):
    """Manifest and report are made again, so that only the verdict itself is wrong."""
    folder = Path(shutil.copytree(certified, tmp_path / "out"))
    edited_certificate(folder, signer, tmp_path)
    assert run(["report", str(folder)]) == 0
    write_manifest(folder)
    assert run(["sign", str(folder), "--key", str(signer.private)]) == 6
    assert (
        "certificate must hold before it is signed, got broken: verdict" in capsys.readouterr().err
    )


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"schema_version": "1.0"}', b"\xff"])
def test_a_manifest_that_is_none_is_refused(content, certified, signer, tmp_path, capsys):
    folder = Path(shutil.copytree(certified, tmp_path / "out"))
    (folder / "manifest.json").write_bytes(content)
    assert run(["sign", str(folder), "--key", str(signer.private)]) == 5
    assert "manifest must" in capsys.readouterr().err


def test_another_model_is_not_the_signed_one(folder, signer, samples, capsys):
    assert verify(folder, signer, "--model", str(samples / "breast_cancer_mlp.onnx")) == 6
    assert "model must be the one that was signed" in capsys.readouterr().err


def test_an_unsigned_folder_names_who_must_sign(certified, signer):
    with pytest.raises(
        EvidenceRefutedError,
        match=r"signature must be a readable file, .* it must be signed by the key of",
    ):
        cimrobust.verify_signature(certified, identity=signer.public)


@pytest.mark.parametrize(
    "more",
    [
        ["sign"],
        ["sign", "--key", "key.pem", "--sigstore"],
        ["verify-signature"],
        ["verify-signature", "--key", "a", "--identity", "b"],
    ],
)
def test_one_signer_is_named(more, certified, capsys):
    assert run([more[0], str(certified), *more[1:]]) == 2
    assert "give one of them" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["absent.pem", "none.pem"])
def test_keys_that_are_none(name, folder, tmp_path, capsys):
    (tmp_path / "none.pem").write_text(
        "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"
    )
    for command in ("sign", "verify-signature"):
        assert run([command, str(folder), "--key", str(tmp_path / name)]) == (
            2 if name == "absent.pem" else 5
        )
        assert "key must be" in capsys.readouterr().err


def test_sigstore_signs_the_same_statements(certified, tmp_path, monkeypatch, capsys):
    """The service is replaced by one that writes payloads as they are, because tests have no
    network.
    """
    folder = Path(shutil.copytree(certified, tmp_path / "out"))
    monkeypatch.setattr(
        bundles, "sign_bundles", lambda payloads: [payload.decode() for payload in payloads]
    )
    monkeypatch.setattr(bundles, "open_bundle", lambda content, identity, where: content)
    assert run(["sign", str(folder), "--sigstore"]) == 0
    assert (folder / "test-result.sigstore.json").exists()
    who = "ci@example.org@https://accounts.google.com"
    capsys.readouterr()
    assert run(["verify-signature", str(folder), "--identity", who]) == 0
    assert who in capsys.readouterr().out
    edited_trials(folder, signer=None, beside=tmp_path)
    assert run(["verify-signature", str(folder), "--identity", who]) == 6
