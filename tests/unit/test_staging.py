"""Folders in which files are made before they get their final names."""

from __future__ import annotations

import pytest

from cimrobust.files import staging_folder, write_whole


def test_a_staging_folder_is_gone_afterwards(tmp_path):
    with staging_folder(tmp_path) as made:
        (made / "a").write_text("a")
    assert list(tmp_path.iterdir()) == []


def fail_in(out):
    with staging_folder(out) as made:
        (made / "a").write_text("a")
        raise ValueError("stop")


def test_a_failure_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match="stop"):
        fail_in(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_killed_runs_left_is_removed(tmp_path):
    (tmp_path / ".writing-old" / "witness").mkdir(parents=True)
    (tmp_path / ".certificate.json.abc.part").write_text("{")
    (tmp_path / "certificate.json").write_text("{}")
    with staging_folder(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["certificate.json"]


def test_a_run_that_still_writes_is_left_alone(tmp_path):
    with staging_folder(tmp_path) as first, staging_folder(tmp_path) as second:
        assert first.is_dir()
        assert second.is_dir()


def test_links_are_left_alone(tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    out = tmp_path / "out"
    out.mkdir()
    (out / ".writing-link").symlink_to(other)
    with staging_folder(out):
        pass
    assert other.is_dir()
    assert (out / ".writing-link").is_symlink()


def test_a_whole_file_leaves_no_part(tmp_path):
    write_whole(tmp_path / "a.json", b"{}")
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
