"""The table in the docs."""

from __future__ import annotations

from pathlib import Path

from cimrobust.onnx_io.lowering.listing import markdown_table
from cimrobust.onnx_io.lowering.lowering_registry import ENTRIES

DOCS = Path(__file__).resolve().parents[4] / "docs" / "reference" / "operators.md"


def test_the_docs_hold_the_table() -> None:
    # Made by: python -m cimrobust.onnx_io.lowering.listing
    assert DOCS.read_text().partition("<!-- operators -->\n")[2] == markdown_table()


def test_every_lowering_says_what_it_becomes() -> None:
    assert not [name for name, entry in ENTRIES.items() if not entry.becomes]
