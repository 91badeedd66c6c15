"""Folders that runs keep their files in."""

from __future__ import annotations

import pytest

import cimrobust
from cimrobust.errors import UsageError
from cimrobust.pipeline.arguments import make_folder, resume_folder


def test_progress_is_kept_only_by_a_run_that_goes_on(tmp_path):
    kept = resume_folder(tmp_path / "out", ".resume", resume=False) / "trials"
    kept.write_text("half")
    assert resume_folder(tmp_path / "out", ".resume", resume=True) == kept.parent
    assert kept.exists()
    resume_folder(tmp_path / "out", ".resume", resume=False)
    assert not kept.exists()


@pytest.mark.parametrize("share", [0.0, -0.1, 1.5])
def test_a_share_of_devices_is_a_fraction_from_python_too(share):
    with pytest.raises(
        UsageError, match=rf"protected devices must be above 0 and at most 1, got {share}"
    ):
        cimrobust.suggest("m.onnx", data="d.npz", policy="p.toml", most_share=share)


@pytest.mark.parametrize(
    "make", [make_folder, lambda out: resume_folder(out, ".resume", resume=False)]
)
def test_a_file_in_the_way_is_named(tmp_path, make):
    (tmp_path / "out").write_text("")
    with pytest.raises(
        UsageError, match=r"output folder must be writable, got File exists \(.*out, --out\)"
    ):
        make(tmp_path / "out")
