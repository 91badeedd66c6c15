"""Certificates of an interrupted re-training: taken over where they are finished and whole."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from cimrobust.certificate.manifest import write_manifest
from cimrobust.finished_parts import FinishedParts
from cimrobust.pipeline import kept_retraining
from cimrobust.pipeline.kept_retraining import kept_certificate


@pytest.fixture
def finished(tmp_path, monkeypatch):
    """A folder with a finished certificate, its store, and how often it was made."""
    folder, made = tmp_path / "before", []
    (tmp_path / "parts").mkdir()

    def make():
        made.append(1)
        folder.mkdir(exist_ok=True)
        (folder / "certificate.json").write_text("the certificate")
        write_manifest(folder)
        return SimpleNamespace(record="the certificate")

    def read(directory):
        return (directory / "certificate.json").read_text()

    monkeypatch.setattr(kept_retraining, "read_certificate", read)
    parts = FinishedParts(tmp_path / "parts", "a")
    assert kept_certificate(parts, folder, make) == "the certificate"
    return folder, parts, make, made


def test_a_finished_certificate_is_not_made_again(finished):
    folder, parts, make, made = finished
    assert kept_certificate(parts, folder, make) == "the certificate"
    assert len(made) == 1


def test_a_certificate_that_was_changed_is_made_again(finished):
    folder, parts, make, made = finished
    (folder / "certificate.json").write_text("another one")
    assert kept_certificate(parts, folder, make) == "the certificate"
    assert len(made) == 2
    assert "files of the certificate were changed" in parts.notes[0]


def test_a_certificate_of_another_run_is_made_again(finished):
    folder, _, make, made = finished
    other = FinishedParts(folder.parent / "parts", "b")
    kept_certificate(other, folder, make)
    assert len(made) == 2
