"""The page beside a result file: exactly what the file renders to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from cimrobust.errors import InputRefusedError
from cimrobust.input_file import FileKind, printable, read_input
from cimrobust.review.record_checks import is_of_today
from cimrobust.review.replay_check import ReplayCheck

if TYPE_CHECKING:
    from cimrobust.certificate.models.item import Tool
    from cimrobust.certificate.models.result_file import ResultFile

_MAX_PAGE = 2**30


def page_check(path: Path, record: ResultFile, tool: Tool, made: Callable[[], str]) -> ReplayCheck:
    """Compare a page with what its result file renders to.

    One of another version was made by other code.

    Args:
        path: The page.
        record: The result.
        tool: What made it.
        made: Renders it.
    """
    if record.stated_version != record.VERSION:
        by = (
            f"the page was made by cimrobust {printable(tool.version)[:40]} of schema"
            f" {record.stated_version}"
        )
        return ReplayCheck(
            "report", None, f"{by}; `cimrobust report` makes it again in today's form"
        )
    content = read_input(path, FileKind("report", _MAX_PAGE, missing=InputRefusedError))
    is_same = content == made().encode()
    if not is_same and not is_of_today(record, tool):
        return ReplayCheck(
            "report",
            None,
            f"{path.name} is not what {record.NAME}.json renders to today; it was made by cimrobust"
            f" {printable(tool.version)[:40]}",
        )
    return ReplayCheck("report", is_same, f"{path.name} is what {record.NAME}.json renders to")
