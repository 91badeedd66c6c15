"""`cimrobust doctor`: what is installed, and what is wrong with it."""

from __future__ import annotations

import json
from importlib import metadata

import pytest

from cimrobust import __version__
from cimrobust.cli.main import run
from cimrobust.engine import installation


def test_versions_and_extras_are_listed(capsys):
    assert run(["doctor"]) == 0
    shown = capsys.readouterr().out
    assert metadata.version("torch") in shown
    assert "bills of materials" in shown


def test_json_holds_the_same(capsys):
    assert run(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["version"] == __version__
    assert {"numpy", "onnx", "torch"} <= {library["name"] for library in found["libraries"]}
    assert {extra["name"] for extra in found["extras"]} == set(installation.EXTRAS)
    assert found["problems"] == []


def test_a_missing_library_is_a_problem(monkeypatch, capsys):
    monkeypatch.setattr(installation.metadata, "requires", lambda name: ["no-such-library>=3"])
    assert run(["doctor"]) == 2
    assert "no-such-library must be >=3, got none; pip install" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("required", "is_accepted"), [("numpy>=0.1", True), ("numpy<0.1", False), ("numpy", True)]
)
def test_versions_are_held_against_what_is_required(required, is_accepted):
    assert installation._library(required).is_accepted is is_accepted


def test_extras_are_those_that_the_package_declares():
    declared = metadata.metadata("cimrobust").get_all("Provides-Extra")
    assert sorted(declared or []) == sorted(installation.EXTRAS)
