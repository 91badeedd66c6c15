"""Places that cannot be written to, and what an installation lacks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cimrobust import shipped_samples
from cimrobust.certificate import suggested_record
from cimrobust.device.layer_rules import LayerRule
from cimrobust.device.load_profile import load_profile
from cimrobust.errors import CimrobustError, SelfCheckError, UsageError
from cimrobust.onnx_io import sandbox
from cimrobust.pipeline import rare_chips
from cimrobust.pipeline.sharding import draw_shard
from cimrobust.pytest_plugin import assert_meets


def test_samples_that_are_not_installed_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipped_samples, "__file__", str(tmp_path / "cimrobust" / "here.py"))
    with pytest.raises(
        UsageError, match="samples must be installed with the package, got none beside cimrobust"
    ):
        shipped_samples.sample_folder()


def test_a_process_that_does_not_start_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "_CODE", "raise SystemExit(3)")
    with pytest.raises(
        CimrobustError, match="the process that checks models must start, got none from"
    ):
        sandbox._Worker()


def test_a_chip_that_cannot_be_stored_names_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(rare_chips, "write_chip", full)
    with pytest.raises(UsageError, match="file for the chip must be writable, got No space left"):
        rare_chips._store(tmp_path / "chip", SimpleNamespace(chip=1))  # type: ignore[arg-type]


def test_a_profile_that_reads_differently_is_an_internal_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = load_profile("rram-write-verify-3pct")
    other = replace(profile, rules=(LayerRule(match="w", digital=True),))
    monkeypatch.setattr(suggested_record, "_protected", lambda _evidence, _best: profile)
    monkeypatch.setattr(suggested_record, "profile_of", lambda _tables, shown: other)
    evidence: Any = SimpleNamespace(best=SimpleNamespace())
    with pytest.raises(SelfCheckError, match="profile must be read as it was written, got other"):
        suggested_record.write_profile(evidence, tmp_path / "p.toml")
    assert not list(tmp_path.iterdir())


def test_a_shard_draws_its_trials_itself(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a shard draws its trials itself, got a folder of others"):
        draw_shard("m.onnx", data="d.npz", out=tmp_path, shard="1/2", shards=str(tmp_path))


@pytest.mark.parametrize("given", [{}, {"policy": "p.toml", "require": {"clean_accuracy": 0.9}}])
def test_a_certificate_is_held_against_one_policy(given: dict[str, Any]) -> None:
    with pytest.raises(
        TypeError, match=r"a certificate must be held against one of policy=FILE and require="
    ):
        assert_meets(SimpleNamespace(), **given)  # type: ignore[arg-type]
