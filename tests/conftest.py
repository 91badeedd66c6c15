"""Fixtures that all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

#: Packages whose arrays have shapes in their annotations.
SHAPED = (
    *("certify", "data", "device", "engine", "mapping", "montecarlo", "onnx_io"),
    *("reliability", "search", "training", "twin", "twin_trials"),
)

if os.environ.get("CIMROBUST_CHECK_SHAPES") == "1":
    # Before anything of cimrobust is imported: the hook compiles the checks into its modules.
    import sys

    import jaxtyping

    from tests import shape_checker

    shaped = [f"cimrobust.{name}" for name in SHAPED]
    jaxtyping.install_import_hook(shaped, f"{shape_checker.__name__}.check")
    sys.meta_path.insert(0, shape_checker.TypesToo(shaped))

# Tests read what commands say; how far these are has tests of its own.
os.environ["CIMROBUST_PROGRESS"] = "none"

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


@pytest.fixture(scope="session")
def small_certificate(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a certificate of few samples and chips, for tests that only read one."""
    import cimrobust  # noqa: PLC0415 (after the hook above)

    out = tmp_path_factory.mktemp("small") / "out"
    name = samples / "breast_cancer_mlp"
    cimrobust.analyze(
        name.with_suffix(".onnx"),
        data=name.with_suffix(".toml"),
        out=out,
        effort="quick",
        trials=20,
        limit=20,
        workers=1,
    )
    return out
