"""One certificate and one browser for all tests of pages."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from cimrobust.cli.main import run

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


def _analyzed(samples: Path, out: Path, *options: str) -> Path:
    model, data = str(samples / "digits_cnn.onnx"), str(samples / "digits_cnn.toml")
    policy = str(samples / "policies" / "strict.toml")
    assert (
        run(
            [
                "analyze",
                model,
                "--data",
                data,
                "--effort",
                "quick",
                "--policy",
                policy,
                "--out",
                str(out),
                *options,
            ]
        )
        == 0
    )
    return out


@pytest.fixture(scope="session")
def report(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The certificate of a short run."""
    return _analyzed(samples, tmp_path_factory.mktemp("browser"), "--trials", "30")


@pytest.fixture(scope="session")
def whole_report(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate with everything in it that a run can find."""
    return _analyzed(
        samples,
        tmp_path_factory.mktemp("whole"),
        "--trials",
        "300",
        "--diagnostics",
        "all",
        "--safety-class",
        "3",
    )


@pytest.fixture(scope="session")
def browser():
    """A browser without a screen."""
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield started
        started.close()
