"""`--open`: the page in a browser, and without one."""

from __future__ import annotations

import shutil
import webbrowser

import pytest

from cimrobust.cli.main import run


@pytest.fixture
def opened(monkeypatch):
    """Return the addresses that a browser was asked to show."""
    addresses: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda address: addresses.append(address) or True)
    return addresses


def test_analyze_shows_its_certificate(samples, tmp_path, opened):
    line = ["analyze", str(samples / "breast_cancer_mlp.onnx"), "--data"]
    line += [str(samples / "breast_cancer_mlp.toml"), "--effort", "quick", "--trials", "2"]
    assert run([*line, "--limit", "4", "--out", str(tmp_path / "out"), "--open"]) == 0
    assert opened == [(tmp_path / "out/certificate.html").as_uri()]


def test_report_shows_its_page_and_says_where_there_is_no_browser(
    certified, tmp_path, opened, monkeypatch, capsys
):
    folder = tmp_path / "out"
    shutil.copytree(certified, folder)
    assert run(["report", str(folder), "--open"]) == 0
    assert opened == [(folder / "certificate.html").as_uri()]
    monkeypatch.setattr(webbrowser, "open", lambda address: False)
    assert run(["report", str(folder), "--open"]) == 0
    assert f"open {opened[0]} in one" in capsys.readouterr().err


def test_nothing_is_shown_after_a_failure(tmp_path, opened):
    line = ["analyze", str(tmp_path / "none.onnx"), "--data", "d", "--out", str(tmp_path / "out")]
    assert run([*line, "--open"]) != 0
    assert opened == []
