"""What a result file says of itself: a format, a tool that wrote it, and a metric that there is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cimrobust import __version__
from cimrobust.certificate.models import CertificateModel
from cimrobust.certificate.read_record import read_result
from cimrobust.review.record_checks import record_checks, release_of
from cimrobust.review.replay_check import ReplayCheck
from tests.unit.review.test_consistency import CERTIFICATE, plain

GOLDEN = Path(__file__).parents[2] / "golden" / "results"


def checks_of(path: Path, record: CertificateModel) -> dict[str, ReplayCheck]:
    return {check.id: check for check in record_checks(path, record)}


def of_today(block: str, **changes: Any) -> ReplayCheck:
    values = plain()
    values[block] |= changes
    return checks_of(CERTIFICATE, CertificateModel.model_validate(values))[block]


def older(format_of: str, **tool: str) -> ReplayCheck:
    """Return the check of the tool of an older file, where it names another one."""
    path = GOLDEN / f"certificate-{format_of}.json"
    record = read_result(path, CertificateModel, hint="look")
    named = record.model_copy(update={"tool": record.tool.model_copy(update=tool)})
    return checks_of(path, named)["tool"]


def test_a_file_of_today_holds() -> None:
    checks = checks_of(CERTIFICATE, CertificateModel.model_validate(plain()))
    assert {name: check.held for name, check in checks.items()} == dict.fromkeys(
        ("schema", "tool", "reasons", "metric"), True
    )
    assert checks["metric"].detail == "accuracy, higher is better, unit fraction"


@pytest.mark.parametrize(
    "changes",
    [
        {"higher_is_better": False},
        {"unit": "target unit"},
        {"name": "rmse"},
        {"name": "precision"},
        {"description": "how good it is"},
    ],
)
def test_a_metric_is_one_that_there_is(changes: dict[str, Any]) -> None:
    assert of_today("metric", **changes).held is False


@pytest.mark.parametrize("text", ["0.10", "1", "01.2.3", "0.10.0+mine", "0.10.0 ", "v0.1.0", ""])
def test_what_is_no_version_of_the_tool_wrote_nothing(text: str) -> None:
    assert release_of(text) is None
    check = of_today("tool", version=text)
    assert check.held is False
    assert "no tool that writes such files" in check.detail


def test_versions_that_lead_to_a_release_are_that_release() -> None:
    assert release_of("1.2.3") == release_of("1.2.3rc1") == release_of("1.2.3.dev4") == (1, 2, 3)


def test_no_other_tool_writes_such_files() -> None:
    assert "no tool that writes such files" in of_today("tool", name="other").detail


def test_a_version_from_before_the_format_never_wrote_it() -> None:
    for version in ("0.1.0", "0.2.9"):
        check = of_today("tool", version=version)
        assert check.held is False
        assert "never wrote this version of the format" in check.detail
    assert of_today("tool", version="0.3.0").held


def test_what_a_later_version_wrote_is_not_judged() -> None:
    check = of_today("tool", version="999.0.0")
    assert check.held is None
    assert f"made by a later version than this one, {__version__}" in check.detail


@pytest.mark.parametrize(
    ("format_of", "version", "held"),
    [
        ("1.5", "0.2.0", True),
        ("1.5", "0.2.7", True),
        ("1.5", "0.1.0", False),
        ("1.5", "0.3.0", False),
        ("1.5", "999.0.0", False),
        ("1.4.0", "0.1.9", True),
        ("1.4.0", "0.2.0", False),
        ("1.4.0", "0.3.0", False),
        ("1.0.0", "0.1.0", True),
    ],
)
def test_an_older_format_was_written_by_the_versions_of_its_time(
    format_of: str, version: str, held: bool
) -> None:
    assert older(format_of, version=version).held is held


def test_an_older_file_has_exactly_what_files_of_its_version_had(tmp_path: Path) -> None:
    path = GOLDEN / "certificate-1.5.json"
    record = read_result(path, CertificateModel, hint="look")
    assert checks_of(path, record)["schema"].held
    values = json.loads(path.read_text())
    del values["monte_carlo"]["histogram"]
    forged = tmp_path / "certificate.json"
    forged.write_text(json.dumps(values))
    check = checks_of(forged, record)["schema"]
    assert check.held is False
    assert "files of schema 1.5 never looked so: 'histogram' is a required" in check.detail
