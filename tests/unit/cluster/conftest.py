"""Tasks that workers in other processes can import."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest

# Its classes must have a name that other processes can import.
TASKS = '''
import os
import signal
from dataclasses import dataclass

from cimrobust.errors import UsageError


@dataclass(frozen=True)
class Nothing:
    def open(self):
        return "a subject"


@dataclass(frozen=True)
class Squares:
    """The first process that is given the 7 dies; the second one makes its square."""

    died: str

    def on(self, subject):
        assert subject == "a subject"

        def square(number):
            if number == 7 and not os.path.exists(self.died):
                open(self.died, "w").close()
                os.kill(os.getpid(), signal.SIGKILL)
            return number**2

        return square


@dataclass(frozen=True)
class Fails:
    error: str

    def on(self, subject):
        def fail(number):
            if number < 3:
                return number
            if self.error == "dies":
                os.kill(os.getpid(), signal.SIGKILL)
            raise UsageError("item must be small") if self.error == "usage" else KeyError("x")

        return fail
'''


@pytest.fixture
def tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Module of tasks that every process finds."""
    (tmp_path / "cluster_test_tasks.py").write_text(TASKS)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    importlib.invalidate_caches()
    monkeypatch.delitem(__import__("sys").modules, "cluster_test_tasks", raising=False)
    return importlib.import_module("cluster_test_tasks")
