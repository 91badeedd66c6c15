"""Results without a folder of the user's."""

from __future__ import annotations

import gc
import tempfile

import numpy as np
import pytest

import cimrobust
from cimrobust.errors import UsageError


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """Return the folder that private ones are made in."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def certified(samples, **more):
    return cimrobust.analyze(
        samples / "breast_cancer_mlp.onnx",
        data=samples / "breast_cancer_mlp.toml",
        effort="quick",
        trials=2,
        limit=4,
        **more,
    )


def test_files_live_as_long_as_the_result(samples, temporary):
    certificate = certified(samples)
    assert certificate.html.is_file()
    assert temporary in certificate.directory.parents
    assert cimrobust.gate(certificate, policy={"require": {"clean_accuracy": 0.1}}).exit_code == 3
    del certificate
    gc.collect()
    assert list(temporary.glob("cimrobust-result-*")) == []


def test_what_is_saved_stays_and_is_that_of_a_run_with_a_folder(samples, temporary, tmp_path):
    private = certified(samples)
    saved = private.save(tmp_path / "deep" / "saved")
    placed = certified(samples, out=tmp_path / "placed")
    assert saved.directory == tmp_path / "deep" / "saved"
    del private
    gc.collect()
    assert saved.witness.read_bytes() == placed.witness.read_bytes()
    assert cimrobust.Certificate.read(saved.directory).data == saved.data
    with pytest.raises(UsageError, match="must be missing or empty"):
        placed.save(saved.directory)


def test_a_failure_leaves_nothing(samples, temporary):
    with pytest.raises(UsageError):
        cimrobust.analyze(
            samples / "breast_cancer_mlp.onnx", data=(np.zeros((2, 3)), np.zeros(2)), trials=0
        )
    assert list(temporary.glob("cimrobust-result-*")) == []
