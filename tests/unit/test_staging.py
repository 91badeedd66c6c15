"""Folders in which files are made before they get their final names."""

from __future__ import annotations

import fcntl
import os
import tempfile
import time

import pytest

from cimrobust.files import folder_of_call, staging_folder, write_whole


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


def made_before(path):
    """Let a file or folder be two minutes old."""
    os.utime(path, (time.time() - 120,) * 2)


def test_what_a_killed_writer_left_of_a_file_is_removed(tmp_path):
    for name in (".a[1].json.abc.part", ".a[1].json.def.part", ".b.json.abc.part"):
        (tmp_path / name).write_text("{")
        made_before(tmp_path / name)
    (tmp_path / ".a[1].json.new.part").write_text("{")
    with (tmp_path / ".a[1].json.def.part").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        write_whole(tmp_path / "a[1].json", b"{}")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".a[1].json.def.part", ".a[1].json.new.part", ".b.json.abc.part", "a[1].json",
    ]  # fmt: skip


def test_networks_that_killed_processes_left_are_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with folder_of_call() as living:
        made_before(living)
        left, new = (tmp_path / f"cimrobust-in-memory-{name}" for name in ("left", "new"))
        for folder in (left, new):
            folder.mkdir()
            (folder / "model.onnx.data").write_bytes(b"1")
        made_before(left)
        with folder_of_call():
            assert [living.is_dir(), left.is_dir(), new.is_dir()] == [True, False, True]
    assert not living.exists()
