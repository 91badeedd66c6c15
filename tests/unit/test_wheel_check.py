"""Wheels are whole, and what builds them names files that exist."""

from __future__ import annotations

import importlib.util
import tomllib
import zipfile
from pathlib import Path
from types import ModuleType

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / ".ci" / "check_wheel.py"
WHOLE = (
    "cimrobust/__init__.py",
    "cimrobust/report/templates/page.html",
    "cimrobust/_samples/net.onnx",
    "cimrobust/_native.cpython-312.so",
)


@pytest.fixture(scope="module")
def check_wheel() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_wheel", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def repository(folder: Path) -> Path:
    for name in (
        "cimrobust/__init__.py",
        "cimrobust/report/templates/page.html",
        "samples/net.onnx",
    ):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    (folder / "cimrobust" / "_native.cpython-311.so").write_text("built in place: not shipped")
    return folder


def wheel_of(folder: Path, *names: str) -> Path:
    path = folder / "some.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, "")
    return path


def test_a_whole_wheel_lacks_nothing(check_wheel: ModuleType, tmp_path: Path) -> None:
    assert check_wheel.missing_files(wheel_of(tmp_path, *WHOLE), repository(tmp_path)) == []


@pytest.mark.parametrize("left_out", range(1, 4))
def test_a_wheel_without_a_template_sample_or_kernel_is_named(
    check_wheel: ModuleType, tmp_path: Path, left_out: int
) -> None:
    wheel = wheel_of(tmp_path, *(name for name in WHOLE if name != WHOLE[left_out]))
    (lacking,) = check_wheel.missing_files(wheel, repository(tmp_path))
    assert lacking.split(".")[0] == WHOLE[left_out].split(".")[0]


def test_the_configuration_of_wheels_runs_the_check() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["cibuildwheel"]
    script = settings["test-command"].split()[1].replace("{project}", str(ROOT))
    assert Path(script) == SCRIPT
    assert SCRIPT.is_file()


def test_the_workflow_builds_on_all_systems_and_calls_targets_that_exist() -> None:
    jobs = YAML(typ="safe", pure=True).load(ROOT / ".github/workflows/wheels.yml")["jobs"]
    runners = jobs["wheels"]["strategy"]["matrix"]["runner"]
    assert [name.split("-")[0] for name in runners] == ["ubuntu", "ubuntu", "macos"]
    called = [step.get("run", "") for step in jobs["sdist"]["steps"]]
    assert "make wheel-check" in called
    assert "\nwheel-check:" in (ROOT / "Makefile").read_text()


def test_the_kernel_is_not_built_for_the_processor_at_hand() -> None:
    assert "native" not in [
        word.rpartition("=")[2].strip('");')
        for word in (ROOT / "native" / "CMakeLists.txt").read_text().split()
        if "-march" in word or "-mtune" in word or "-mcpu" in word
    ]
