"""Every result file that was ever released is read, rendered and judged by the current version."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import jsonschema
import numpy as np
import pytest

import cimrobust
from cimrobust.certificate.models import CertificateModel
from cimrobust.certificate.models.result_file import ResultFile
from cimrobust.certificate.models.retrained import Retraining
from cimrobust.certificate.models.swept import SweepModel
from cimrobust.certificate.policy import Policy
from cimrobust.certificate.published_schemas import FORMATS
from cimrobust.certificate.read_record import read_result
from cimrobust.certificate.schema_files import schema_file, schema_versions
from cimrobust.certificate.verdict import judge
from cimrobust.errors import InputRefusedError, UsageError
from cimrobust.montecarlo.trial_table import TrialTable
from cimrobust.report.render import render, render_retraining
from cimrobust.report.sweep_page import render_sweep

GOLDEN = sorted((Path(__file__).parents[2] / "golden" / "results").glob("*.json"))
RENDER = {CertificateModel: render, SweepModel: render_sweep, Retraining: render_retraining}


def kind_of(path: Path) -> type[ResultFile]:
    return FORMATS[path.stem.split("-")[0]]


def names(paths: list[Path]) -> list[str]:
    return [path.stem for path in paths]


def test_there_is_a_file_of_every_published_version_but_the_newest():
    """Of the formats of files; what commands print is read by nobody here."""
    published = {
        f"{name}-{version}"
        for name, versions in schema_versions().items()
        for version in versions
        if name in FORMATS
    }
    newest = {f"{name}-{kind.VERSION}" for name, kind in FORMATS.items()}
    assert set(names(GOLDEN)) == published - newest


@pytest.mark.parametrize("path", GOLDEN, ids=names(GOLDEN))
def test_files_follow_the_schema_of_their_version(path):
    name, version = path.stem.split("-")
    plain = json.loads(path.read_text())
    assert plain["schema_version"] == version
    jsonschema.validate(plain, json.loads(schema_file(name, version).read_text()))


@pytest.mark.parametrize("path", GOLDEN, ids=names(GOLDEN))
def test_nothing_that_a_file_states_is_lost_and_its_page_is_made(path):
    kind, plain = kind_of(path), json.loads(path.read_text())
    record = read_result(path, kind, hint="look")
    assert record.stated_version == ".".join(path.stem.split("-")[1].split(".")[:2])
    assert lost(plain, record.model_dump()) <= {
        ".schema_version",
        ".monte_carlo.two_source",
        ".monte_carlo.two_source_reason",
    }
    assert RENDER[kind](record).startswith("<!doctype html>")
    jsonschema.validate(record.model_dump(), kind.published_schema())


def lost(before, after, place: str = "") -> set[str]:
    """Return the places of values that differ or are gone."""
    if isinstance(before, dict) and isinstance(after, dict):
        return {
            found
            for key, value in before.items()
            for found in (
                lost(value, after[key], f"{place}.{key}") if key in after else {f"{place}.{key}"}
            )
        }
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        return {
            found
            for old, new in zip(before, after, strict=True)
            for found in lost(old, new, f"{place}[]")
        }
    return set() if before == after else {place}


CERTIFICATES = [path for path in GOLDEN if kind_of(path) is CertificateModel]


@pytest.mark.parametrize("path", CERTIFICATES, ids=names(CERTIFICATES))
def test_older_certificates_get_their_own_verdict_again(path):
    record = read_result(path, CertificateModel, hint="look")
    policy = Policy.model_validate(record.policy)
    drawn = record.monte_carlo
    values = np.repeat([drawn.min, drawn.max], [1, drawn.trials - 1])
    table = TrialTable(
        np.arange(drawn.trials), values, None, drawn.samples, drawn.seed, record.metric.name, True
    )
    clean = [row.status for row in record.verdict.requirements if row.id == "clean_accuracy"]
    again = [
        row.status
        for row in judge(record, policy, table).requirements
        if row.id == "clean_accuracy"
    ]
    assert again == clean


@pytest.mark.parametrize("path", CERTIFICATES, ids=names(CERTIFICATES))
def test_older_certificates_are_replayed_and_their_page_is_not_called_forged(path, tmp_path):
    shutil.copy(path, tmp_path / "certificate.json")
    (tmp_path / "certificate.html").write_text("a page of then")
    found = {check.id: check for check in cimrobust.replay(tmp_path)}
    assert found["schema"].held is True
    assert found["report"].held is None
    assert found["evaluation_set"].held is True


def test_files_of_later_versions_are_refused_with_what_to_do(tmp_path):
    plain = json.loads(CERTIFICATES[-1].read_text()) | {"schema_version": "1.99"}
    (tmp_path / "c.json").write_text(json.dumps(plain))
    with pytest.raises(
        InputRefusedError,
        match=r"must be of schema version 1\.0 to 1\.6, got 1\.99 .*; use the version",
    ):
        read_result(tmp_path / "c.json", CertificateModel, hint="look")


def test_a_file_of_today_may_not_lack_what_older_ones_may(tmp_path):
    record = read_result(CERTIFICATES[-1], CertificateModel, hint="look")
    plain = record.model_dump()
    del plain["evaluation_set"]
    (tmp_path / "c.json").write_text(json.dumps(plain))
    with pytest.raises(
        InputRefusedError, match=r"must follow schema version 1\.6, got .*at \$\.evaluation_set"
    ):
        read_result(tmp_path / "c.json", CertificateModel, hint="look")


def test_an_unknown_version_of_a_schema_names_those_there_are():
    with pytest.raises(UsageError, match=r"must be one of 1\.0\.0, .*1\.6, got '1\.7'"):
        schema_file("certificate", "1.7")
