"""Links and paths outside the pages lead somewhere; those inside are checked when the pages are
built (`make docs`).
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
#: The changelog is history: it names files as they were.
TEXTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "samples" / "README.md"]


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: page.parent.name + "-" + page.stem)
def test_links_lead_to_files(page):
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8"))
    assert [
        target for target in targets if "://" not in target and not (page.parent / target).exists()
    ] == []


def test_pages_named_in_the_code_are_there():
    named = {
        (str(path.relative_to(ROOT)), name)
        for folder in ("cimrobust", "native", "tests", "samples")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".hpp", ".cpp", ".toml", ".md", ".j2") and path != Path(__file__)
        for name in re.findall(r"\bdocs/[\w/-]+\.md\b", path.read_text(encoding="utf-8"))
    }
    assert len(named) > 5
    assert {
        (path, name)
        for path, name in named
        if not (ROOT / name).exists() and "tables.md" not in name
    } == set()


def test_readme_is_short():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 150
    assert max(map(len, lines)) <= 120
