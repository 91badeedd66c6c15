"""The notebook in samples/: its cells run from first to last, and end as its text says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

SAMPLES = Path(__file__).parents[2] / "samples"


def test_every_cell_runs_and_the_hardened_network_is_better(tmp_path, monkeypatch):
    pytest.importorskip("onnxscript")
    notebook = json.loads((SAMPLES / "torch_to_certificate.ipynb").read_text())
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert len(notebook["cells"]) <= 12
    assert not any(cell.get("outputs") for cell in notebook["cells"])
    for name in ("digits_train.npz", "digits_test.npz"):
        shutil.copy(SAMPLES / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for cell in cells:
        exec(compile(cell, "cell", "exec"), names)  # our own notebook
    certificate, after, outcome = names["certificate"], names["after"], names["outcome"]
    assert "<table>" in certificate._repr_html_()
    assert after.worst_found.score > certificate.worst_found.score
    assert outcome.exit_code in (0, 1, 3)
    assert (tmp_path / "hardened/after/certificate.html").is_file()
