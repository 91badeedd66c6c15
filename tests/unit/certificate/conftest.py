"""Small genuine certificates, whole folders, that the tests of this folder share and forge copies
of.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import cimrobust

SAMPLES = Path(__file__).parents[3] / "samples"
MODEL, DATA = SAMPLES / "breast_cancer_mlp.onnx", SAMPLES / "breast_cancer_mlp.toml"


@pytest.fixture(scope="session")
def failing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a certificate whose worst chip is bad: a tolerance of 20 %."""
    out = tmp_path_factory.mktemp("failing") / "out"
    cimrobust.analyze(
        MODEL,
        data=DATA,
        out=out,
        tolerance=0.2,
        limit=60,
        trials=60,
        effort="quick",
        workers=1,
        issued="2026-11-01",
    )
    return out


@pytest.fixture(scope="session")
def flattering(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a certificate that shows little: 20 samples at a tolerance of 0.01 %."""
    out = tmp_path_factory.mktemp("flattering") / "out"
    cimrobust.analyze(
        MODEL, data=DATA, out=out, tolerance=0.0001, limit=20, trials=300, effort="quick", workers=1
    )
    return out
