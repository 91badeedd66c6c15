"""A place for a summary that cannot be written to is refused before the work."""

from __future__ import annotations

from pathlib import Path

import pytest

from cimrobust.errors import UsageError
from cimrobust.pipeline.summaries import Summaries


def test_files_that_can_be_written_and_none_are_accepted(tmp_path: Path) -> None:
    (tmp_path / "there.md").write_text("old")
    Summaries().check()
    for own in (tmp_path / "there.md", str(tmp_path / "new.md"), tmp_path / "deep" / "new.md"):
        Summaries(own).check()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["there.md"]


def test_folders_and_what_lies_below_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for own in (tmp_path, tmp_path / "file" / "summary.md"):
        with pytest.raises(UsageError, match="summary must be a file that can be written"):
            Summaries(own).check()
