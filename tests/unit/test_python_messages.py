"""Messages about what Python users give to public functions: models, arrays and dictionaries."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import cimrobust
from cimrobust.errors import UsageError
from tests.in_memory import DEVICE, MODEL, QUICK, X, Y


@pytest.fixture(autouse=True)
def nothing_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield
    assert not list(tmp_path.glob("cimrobust-in-memory-*"))


def test_profile_as_tables() -> None:
    device = {"schema": 1, "name": "mine", "device": {"tolerance": 0.02, "sigma": 0.01}}
    inspection = cimrobust.inspect_model(MODEL, device=device)
    assert inspection.placement.profile.name == "mine"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"model": 5}, "model must be a file or a model in memory, got int"),
        ({"data": X}, "data must be a file or data in memory, got ndarray"),
        ({"data": (X, Y[1:])}, "arrays must have as many samples as labels"),
        ({"data": (X[:, :1], Y)}, r"data-in-memory\.npz"),
        ({"policy": {"require": {"clean": 0.9}}}, r"\(policy-in-memory.toml\)"),
        ({"device": 3}, "device profile must be a file or its tables, got int"),
        ({"out": 3}, "out must be a path, got int"),
        ({"model": None}, "model must be a file or a model in memory, got NoneType"),
        ({"run": 5}, "run must be a Run, got int"),
        ({"tolerance": "a"}, "tolerance must be a number, got 'a'"),
        ({"digital": [5]}, r"digital must be a sequence of texts, got \[5\]"),
        ({"diagnostics": ["layers"]}, r"diagnostics must be a text, got \['layers'\]"),
        ({"rare_below": "a"}, "rare-below must be a number, got 'a'"),
        ({"stop_early": "yes"}, "stop-early must be True or False, got 'yes'"),
    ],
)
def test_messages(given: dict[str, Any], message: str, tmp_path: Path) -> None:
    arguments = {"model": MODEL, "data": (X, Y), "out": tmp_path / "out", **QUICK, **given}
    with pytest.raises(UsageError, match=message):
        cimrobust.analyze(**arguments)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cimrobust.gate(None, policy={}), "directory must be a folder or a result"),  # type: ignore[arg-type]
        (lambda: cimrobust.compare([1], "b"), "a must be a folder or a result"),  # type: ignore[arg-type]
        (lambda: cimrobust.replay(3), "directory must be a folder or a result"),  # type: ignore[arg-type]
        (lambda: cimrobust.Certificate.read(5), "directory must be a folder, got int"),  # type: ignore[arg-type]
        (
            lambda: cimrobust.sweep(MODEL, data=(X, Y), out="out", tolerances=0.03),  # type: ignore[arg-type]
            "tolerances must be a sequence of numbers, got 0.03",
        ),
        (
            lambda: cimrobust.inspect_model(MODEL, device=DEVICE, tolerance="x"),  # type: ignore[arg-type]
            r"tolerance must be in \[0, 1\], got x",
        ),
    ],
)
def test_messages_of_other_functions(call: Callable[[], object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        call()
