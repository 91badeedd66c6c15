"""Modules that wait until a name of theirs is asked for."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from cimrobust.cli import deferred_modules
from cimrobust.cli.deferred_modules import RARELY_USED, deferred


@pytest.fixture
def counted(tmp_path, monkeypatch):
    """Return a module's name and what it counts its loading in."""
    (tmp_path / "counted_module.py").write_text("import sys\nsys.loaded += 1\nANSWER = 42\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "loaded", 0, raising=False)
    yield "counted_module"
    sys.modules.pop("counted_module", None)


def test_a_listed_module_is_loaded_by_its_first_use(counted, monkeypatch):
    monkeypatch.setattr(deferred_modules, "RARELY_USED", {counted})
    with deferred():
        module = importlib.import_module(counted)
    assert sys.loaded == 0
    assert module.ANSWER == 42
    assert sys.loaded == 1
    assert importlib.import_module(counted) is module
    assert sys.loaded == 1


def test_any_other_module_is_loaded_at_once(counted):
    with deferred():
        importlib.import_module(counted)
    assert sys.loaded == 1


def test_nothing_waits_after_the_block(counted, monkeypatch):
    monkeypatch.setattr(deferred_modules, "RARELY_USED", {counted})
    before = list(sys.meta_path)
    with deferred():
        pass
    assert sys.meta_path == before
    importlib.import_module(counted)
    assert sys.loaded == 1


def test_a_missing_module_is_missing_at_once(monkeypatch):
    monkeypatch.setattr(deferred_modules, "RARELY_USED", {"no_such_module"})
    with deferred(), pytest.raises(ModuleNotFoundError, match="no_such_module"):
        importlib.import_module("no_such_module")


@pytest.mark.parametrize("name", sorted(RARELY_USED))
def test_every_listed_module_works_when_it_is_used(name):
    """What SciPy, ONNX and pyarrow left waiting is the module itself."""
    code = (
        "import importlib, sys; from cimrobust.cli.deferred_modules import deferred\n"
        "with deferred():\n"
        "    import numpy, onnx, pyarrow, scipy.special\n"
        f"    module = importlib.import_module({name!r})\n"
        "public = [one for one in dir(module) if not one.startswith('__')]\n"
        "assert public and all(hasattr(module, one) for one in public)\n"
        f"assert sys.modules[{name!r}] is module and module.__name__ == {name!r}\n"
        "assert abs(scipy.special.betainc(2, 3, 0.5) - 11 / 16) < 1e-15\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
