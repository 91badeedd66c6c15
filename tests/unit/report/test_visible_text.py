"""Characters that nobody sees, or that turn what stands around them, are written out."""

from __future__ import annotations

import json

import pytest

from cimrobust.report.visible_text import visible

_UNSEEN = "\x00\x07\x1b\x7f\x9b\u061c\u200b\u200f\u2028\u202e\u2066\u2060\ufeff\ud800\U000e0041"


@pytest.mark.parametrize("char", list(_UNSEEN))
def test_what_is_not_seen_is_written_out(char: str) -> None:
    found = visible(f"<p>1{char}0</p>")
    assert found.isascii()
    assert json.loads(f'"{found}"') == f"<p>1{char}0</p>"


def test_other_text_is_left() -> None:
    text = "<p>\u05d0\u05d1 \u0645\u06cc\u200c\u0631\u0648\u062f"
    text += " \U0001f469\u200d\U0001f52c\t\n\r\n 3\u00a0%</p>"
    assert visible(text) == text
