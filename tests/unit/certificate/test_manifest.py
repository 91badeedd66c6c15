"""The manifest names every file of a folder, and everything that was done to the folder afterwards."""  # noqa: E501

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from cimrobust.certificate import manifest as module
from cimrobust.certificate.manifest import (
    MANIFEST,
    manifest_problems,
    read_manifest,
    remove_seal,
    update_manifests,
    write_manifest,
)
from cimrobust.errors import InputRefusedError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "out"
    (made / "witness").mkdir(parents=True)
    (made / "certificate.json").write_text("{}\n")
    (made / "certificate.html").write_text("<p>")
    (made / "witness" / "chip.onnx").write_bytes(b"\x08\x01")
    write_manifest(made)
    return made


def kinds(folder: Path) -> dict[str, str]:
    return {problem.path: problem.kind for problem in manifest_problems(folder)}


def listed(folder: Path, *entries: dict[str, object]) -> None:
    (folder / MANIFEST).write_text(json.dumps({"schema_version": "1.0", "files": list(entries)}))


def entry(path: str) -> dict[str, object]:
    return {"path": path, "bytes": 2, "sha256": "0" * 64}


def test_every_file_is_listed_once_and_in_order(folder):
    assert [file.path for file in read_manifest(folder).files] == [
        "certificate.html",
        "certificate.json",
        "witness/chip.onnx",
    ]
    assert manifest_problems(folder) == []


def test_the_same_folder_gives_the_same_bytes(folder):
    before = (folder / MANIFEST).read_bytes()
    write_manifest(folder)
    assert (folder / MANIFEST).read_bytes() == before


def test_what_was_done_to_the_folder_is_named(folder):
    (folder / "certificate.json").write_text("{  }")
    (folder / "certificate.html").write_text("<b>")
    (folder / "witness" / "chip.onnx").unlink()
    (folder / "note.txt").write_text("")
    assert kinds(folder) == {
        "certificate.html": "changed",
        "certificate.json": "changed",
        "note.txt": "extra",
        "witness/chip.onnx": "missing",
    }
    assert "bytes, got" in str(manifest_problems(folder)[1])


def test_signatures_are_not_listed(folder):
    (folder / "attestation.dsse.json").write_text("{}")
    (folder / "witness" / "test-result.dsse.json").write_text("{}")
    assert manifest_problems(folder) == []


def test_links_are_refused_whatever_they_lead_to(folder, tmp_path):
    chip = folder / "witness" / "chip.onnx"
    chip.replace(tmp_path / "chip.onnx")
    chip.symlink_to(tmp_path / "chip.onnx")
    (folder / "more").symlink_to(tmp_path)
    (folder / "attestation.dsse.json").symlink_to(tmp_path / "chip.onnx")
    assert kinds(folder) == {
        "attestation.dsse.json": "unsafe",
        "more": "unsafe",
        "witness/chip.onnx": "unsafe",
    }


def test_a_manifest_that_is_a_link_is_refused(folder, tmp_path):
    (folder / MANIFEST).replace(tmp_path / MANIFEST)
    (folder / MANIFEST).symlink_to(tmp_path / MANIFEST)
    assert kinds(folder) == {MANIFEST: "unsafe"}


@pytest.mark.parametrize(
    "path", ["../x", "/etc/passwd", "a/../../x", "./x", "a//b", "", ".", "a/..", "x\0y"]
)
def test_listed_paths_stay_in_the_folder(folder, path):
    listed(folder, entry(path))
    assert kinds(folder)[path] == "unsafe"


def test_a_file_is_listed_once(folder):
    files = json.loads((folder / MANIFEST).read_text())["files"]
    listed(folder, *files, files[0])
    assert kinds(folder) == {"certificate.html": "unsafe"}


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "JSON"),
        (b'{"schema_version": "1.0", "files": [', "JSON"),
        (
            b'{"schema_version": "1.0", "files": [{"path": "x", "bytes": 1, "sha256": "short"}]}',
            "sha256",
        ),
        (b'{"schema_version": "7.0", "files": []}', "later one"),
        (b" " * (17 * 2**20), "at most"),
    ],
)
def test_manifests_that_are_none(folder, content, text):
    (folder / MANIFEST).write_bytes(content)
    with pytest.raises(InputRefusedError, match=text):
        manifest_problems(folder)


def test_a_folder_without_a_manifest(folder):
    remove_seal(folder)
    with pytest.raises(InputRefusedError, match=r"manifest must be .* into a folder of their own"):
        manifest_problems(folder)


def test_special_files_are_never_waited_for(folder):
    os.mkfifo(folder / "pipe")
    write_manifest(folder)
    assert kinds(folder) == {"pipe": "unsafe"}


@pytest.mark.parametrize("name", [b"\xff", b"a\xffb"])
def test_names_that_are_no_text_are_left_out(folder, name):
    Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_text("")
    write_manifest(folder)
    assert list(kinds(folder).values()) == ["unsafe"]
    assert str(manifest_problems(folder)[0]).isprintable()


def test_a_folder_of_other_things_gets_no_manifest(folder, monkeypatch):
    monkeypatch.setattr(module, "_MAX_FILES", 2)
    write_manifest(folder)
    assert not (folder / MANIFEST).exists()


def test_a_file_that_is_made_again_is_stated_again_in_both_folders(folder):
    write_manifest(folder.parent)
    (folder / "certificate.html").write_text("<h1>")
    update_manifests(folder, "certificate.html")
    assert manifest_problems(folder) == []
    assert manifest_problems(folder.parent) == []


def test_a_file_that_is_made_again_heals_no_other(folder):
    (folder / "certificate.json").write_text("{ }")
    (folder / "certificate.html").write_text("<h1>")
    update_manifests(folder, "certificate.html")
    assert kinds(folder) == {"certificate.json": "changed"}


def test_without_a_manifest_none_is_made(folder):
    (folder / MANIFEST).unlink()
    update_manifests(folder, "certificate.html")
    assert not (folder / MANIFEST).exists()
