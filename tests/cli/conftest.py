"""One certificate of the digits sample that the tests of this folder share."""

from __future__ import annotations

from pathlib import Path

import pytest

from cimrobust.cli.main import run


@pytest.fixture(scope="session")
def certified(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a quick certificate with 300 trials."""
    out = tmp_path_factory.mktemp("certified") / "out"
    code = run(
        [
            "analyze",
            str(samples / "digits_cnn.onnx"),
            "--data",
            str(samples / "digits_cnn.toml"),
            "--effort",
            "quick",
            "--out",
            str(out),
        ]
    )
    assert code == 0
    return out
