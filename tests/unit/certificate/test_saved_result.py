"""Files of a result are copied whole, and never over or into what is there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from cimrobust.certificate.saved_result import SavedResult
from cimrobust.errors import UsageError


@dataclass(frozen=True)
class Result(SavedResult):
    directory: Path
    word: str


@pytest.fixture
def result(tmp_path: Path) -> Result:
    (tmp_path / "out" / "deep").mkdir(parents=True)
    (tmp_path / "out" / "deep" / "file").write_text("text")
    return Result(tmp_path / "out", "passed")


def test_all_files_are_copied_and_the_result_is_of_the_copy(result: Result, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "new" / "folder", str(tmp_path / "empty")):
        saved = result.save(folder)
        assert saved == Result(Path(folder), "passed")
        assert (saved.directory / "deep" / "file").read_text() == "text"
    assert result.directory == tmp_path / "out"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "new", "out"]


def test_nothing_is_written_over(result: Result, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    for taken in ("file", "out"):
        with pytest.raises(UsageError, match="folder must be missing or empty"):
            result.save(tmp_path / taken)
    assert (tmp_path / "file").read_text() == "kept"


def test_a_copy_cannot_lie_in_what_is_copied(result: Result) -> None:
    with pytest.raises(UsageError, match="folder must lie outside of the result's own"):
        result.save(result.directory / "deep" / "copy")
    assert not (result.directory / "deep" / "copy").exists()


def test_a_folder_is_a_path(result: Result) -> None:
    with pytest.raises(UsageError, match="folder must be a path, got int"):
        result.save(3)  # type: ignore[arg-type]
