"""Folders of results: which they are, what their manifest says, and their command."""

from __future__ import annotations

from pathlib import Path

import pytest

from cimrobust.certificate.manifest import MANIFEST, write_manifest
from cimrobust.certificate.result_names import CERTIFICATE, REPORT, RETRAINING, SWEEP
from cimrobust.errors import InputRefusedError, UsageError
from cimrobust.review.folder_check import folder_check
from cimrobust.review.named_arguments import named_arguments
from cimrobust.review.result_files import require_certificate, results_in


def test_results_are_found_by_their_names(tmp_path: Path) -> None:
    assert results_in(tmp_path) == []
    for name in (RETRAINING, CERTIFICATE, "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / SWEEP).mkdir()
    assert results_in(tmp_path) == [CERTIFICATE, RETRAINING]


@pytest.mark.parametrize("names", [(), (CERTIFICATE,), (CERTIFICATE, RETRAINING)])
def test_a_folder_that_may_hold_a_certificate_is_taken(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    for name in names:
        (tmp_path / name).touch()
    require_certificate(tmp_path)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (RETRAINING, r"got that of a re-training \(.*, retrain.json\); .*/after holds the certif"),
        (SWEEP, r"got that of a sweep \(.*, sweep.json\); a sweep has no verdict, so certify"),
    ],
)
def test_the_folder_of_another_result_is_refused_with_what_to_do(
    tmp_path: Path, name: str, said: str
) -> None:
    (tmp_path / name).touch()
    with pytest.raises(UsageError, match=f"compare must have the folder of a certificate, {said}"):
        require_certificate(tmp_path, what="compare")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in (CERTIFICATE, REPORT):
        (tmp_path / name).write_text("{}")
    write_manifest(tmp_path)
    return tmp_path


def test_a_whole_folder_holds(folder: Path) -> None:
    check = folder_check(folder, [CERTIFICATE], may_lack=False)
    assert (check.held, check.detail) == (
        True,
        f"every file has the digest that {MANIFEST} states",
    )


def test_a_file_that_somebody_added_refutes_nothing(folder: Path) -> None:
    (folder / "notes.txt").write_text("mine")
    assert folder_check(folder, [CERTIFICATE], may_lack=False).held


def test_a_file_that_was_changed_or_taken_away_is_named(folder: Path) -> None:
    (folder / REPORT).write_text("[]")
    assert REPORT in folder_check(folder, [], may_lack=False).detail
    (folder / REPORT).unlink()
    check = folder_check(folder, [], may_lack=True)
    assert (check.held, REPORT in check.detail) == (False, True)


def test_files_that_must_be_listed_are_named_three_at_most(folder: Path) -> None:
    check = folder_check(folder, ["d", "c", "b", "a", CERTIFICATE], may_lack=False)
    assert check.held is False
    assert check.detail == "a is not listed; b is not listed; c is not listed"


@pytest.mark.parametrize(("may_lack", "held"), [(True, None), (False, False)])
def test_only_earlier_versions_may_lack_a_manifest(
    folder: Path, may_lack: bool, held: bool | None
) -> None:
    (folder / MANIFEST).unlink()
    check = folder_check(folder, [], may_lack=may_lack)
    assert check.held is held
    assert check.detail.startswith(f"there is no {MANIFEST}")
    (folder / "link").symlink_to("/etc/passwd")
    check = folder_check(folder, [], may_lack=may_lack)
    assert (check.held, check.detail) == (False, "no plain files below the folder: link")


def test_the_options_of_a_command_have_values() -> None:
    command = "cimrobust analyze 'a model.onnx' --data d.toml --seed 3 --out out"
    assert named_arguments(command) == {"--data": "d.toml", "--seed": "3", "--out": "out"}


def test_what_is_no_command_line_is_refused() -> None:
    with pytest.raises(InputRefusedError, match="reproduction command must be a command line, got"):
        named_arguments("cimrobust 'analyze")
