"""Fixtures that all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def zoo() -> Path:
    """Folder of real models; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("CIMROBUST_ZOO", ROOT.parent / "shared" / "zoo"))
    if not (folder / "manifest.json").is_file():
        pytest.skip(f"no model zoo at {folder}")
    return folder


@pytest.fixture(scope="session")
def samples() -> Path:
    """Folder of the shipped samples."""
    return ROOT / "samples"
