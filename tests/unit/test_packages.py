"""Every package says what enters, what leaves, and which file to read first."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import cimrobust

PACKAGES = sorted(path.parent for path in Path(cimrobust.__file__).parent.glob("*/__init__.py"))


@pytest.mark.parametrize("folder", PACKAGES, ids=lambda folder: folder.name)
def test_package_says_what_it_is_for(folder):
    text = (folder / "__init__.py").read_text()
    assert "Enters: " in text
    assert "Leaves: " in text
    first = re.search(r"Read first: `(.+)`\.", text)
    assert first is not None
    assert (folder / first[1]).is_file()
