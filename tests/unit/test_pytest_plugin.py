"""The pytest plugin, in a pytest of its own."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

ROOT = Path(__file__).resolve().parents[2]
TESTS = """
import pytest
from cimrobust.pytest_plugin import assert_meets

marked = pytest.mark.cimrobust(
    model="net.onnx", data="net.toml", effort="quick", trials=20, limit=20, workers=1,
    require={"kpp": {"k": 20, "accuracy": 0.5}},
)

@marked
def test_passes(cimrobust_gate):
    assert cimrobust_gate().word == "PASS_STATISTICAL"

@marked
def test_same_certificate(cimrobust_certificate, cimrobust_certificates):
    assert list(cimrobust_certificates.made.values()) == [cimrobust_certificate]
    assert cimrobust_certificate.worst_found.score <= 1

@marked
def test_refuted(cimrobust_gate):
    cimrobust_gate(require={"worst_found_accuracy": 1.5})

@marked
def test_undecided(cimrobust_certificate):
    assert_meets(cimrobust_certificate, policy="open.toml")

def test_no_marker(cimrobust_certificate):
    raise NotImplementedError

@pytest.mark.cimrobust(model="missing.onnx", data="net.toml")
def test_no_model(cimrobust_gate):
    raise NotImplementedError
"""


def plugin_options() -> list[str]:
    """Return how to load the plugin where the installed package is older than its entry point."""
    installed = importlib.metadata.entry_points(group="pytest11", name="cimrobust")
    return [] if installed else ["-p", "cimrobust.pytest_plugin"]


def test_the_entry_point_is_the_plugin() -> None:
    stated = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    assert stated["pytest11"] == {"cimrobust": "cimrobust.pytest_plugin"}


def test_nothing_heavy_is_imported_before_a_test_asks_for_it() -> None:
    script = (
        "import sys, cimrobust.pytest_plugin\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'numpy', 'onnx', 'pydantic')))"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_certificates_in_tests(
    pytester: pytest.Pytester, samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)  # the tests inside have no workers
    described = (samples / "breast_cancer_mlp.toml").read_text()
    lines = [line for line in described.splitlines() if not line.startswith("train_file")]
    pytester.makefile(".toml", net="\n".join(lines), open="[require]\nclean_accuracy = 0.5\n")
    for name, source in {
        "net.onnx": "breast_cancer_mlp.onnx",
        "breast_cancer_test.npz": "breast_cancer_test.npz",
    }.items():
        (pytester.path / name).write_bytes((samples / source).read_bytes())
    pytester.makepyfile(TESTS)
    pytester.makeini("[pytest]\ncimrobust_dir = evidence\naddopts = --strict-markers")
    result = pytester.runpytest_subprocess(
        *plugin_options(), "-p", "no:cacheprovider", "--junitxml=j.xml"
    )
    result.assert_outcomes(passed=2, failed=2, errors=2)
    (folder,) = (pytester.path / "evidence").glob("net-????????????")
    assert folder.is_dir()
    made = json.loads((folder / "certificate.json").read_text())
    result.stdout.fnmatch_lines(
        [
            "*cimrobust: net.onnx is FAIL. Refuted: worst_found_accuracy.*",
            "*  refuted worst_found_accuracy: *",
            f"*  witness: {folder}/witness/worst_case.onnx",
            "*cimrobust: net.onnx is INCONCLUSIVE. *",
            "* cimrobust certificates *",
            f"{folder}: worst accuracy found {made['worst_found']['score']:.4f}",
        ]
    )
    shown = result.stdout.str()
    assert "must have the marker @pytest.mark.cimrobust(model=..., data=...)" in shown
    assert "no certificate: model must be a readable file" in shown
    assert "Traceback" not in shown
    assert "During handling" not in shown
    assert str(folder) in (pytester.path / "j.xml").read_text()


def test_workers_have_folders_of_their_own(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(cimrobust_certificates): print(cimrobust_certificates.folder)")
    environment = {**os.environ, "PYTEST_XDIST_WORKER": "gw1"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-s", *plugin_options(), "--cimrobust-dir=kept"],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
        cwd=pytester.path,
    )
    assert f"{pytester.path}/kept/gw1" in done.stdout
