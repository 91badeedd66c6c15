"""Settings files that the docs show whole are accepted."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from cimrobust.certificate.policy import Policy
from cimrobust.cluster.job_queue import JobQueue
from cimrobust.data.description import Description
from cimrobust.device.load_profile import profile_of
from cimrobust.settings_file import check_settings

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "docs" / "tutorial.md",
    *sorted((ROOT / "docs" / "how-to").glob("*.md")),
]
_BLOCK = re.compile(r"^```toml\n(.*?)^```", re.MULTILINE | re.DOTALL)
SHOWN = [
    (page.name, text) for page in PAGES for text in _BLOCK.findall(page.read_text(encoding="utf-8"))
]
WHOLE = [
    (name, text)
    for name, text in SHOWN
    if re.search(r"^schema = 1|^\[require\]", text, re.MULTILINE)
]


@pytest.mark.parametrize(
    ("page", "text"), WHOLE, ids=[f"{name}-{number}" for number, (name, _) in enumerate(WHOLE)]
)
def test_settings_are_accepted(page, text):
    tables = tomllib.loads(text)
    if "require" in tables:
        check_settings(tables, Policy, where=page, what="policy")
    elif "device" in tables:
        profile_of(tables, shown=page)
    elif "system" in tables:
        check_settings(tables, JobQueue, where=page, what="job queue")
    else:
        check_settings(tables, Description, where=page, what="data description")


def test_settings_are_found():
    assert len(WHOLE) >= 5
